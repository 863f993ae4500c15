"""Prices that other engines publish, recomputed by an exact program, against ours.

Asserted are all cases that one deck file can say; oracles.py says how, test_cases_left_out counts the others by reason.
Balances play no part (what a call costs does not depend on who pays it from what), so CGRateS' balance
sequences and session limits, CDRTool's maximum session times and rate-o-mat's split calls are not here.
"""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from cdr.rating.book import NO_DECK, NO_RATE
from tests.unit.rating import oracles

CGRATES, RATEOMAT, FORMULAS = (oracles.load(f"{name}.json") for name in ("cgrates", "rateomat", "formulas"))
CASES: dict[str, list[tuple[dict[str, Any], oracles.Tariff | str | None]]] = {
    "cgrates": [(case, oracles.cgrates_tariff(CGRATES, case)) for case in CGRATES["cases"]],
    "rateomat": [(case, oracles.rateomat_tariff(RATEOMAT, case)) for case in RATEOMAT["cases"]],
    "cdrtool": [(case, oracles.cdrtool_tariff(case)) for case in FORMULAS["cdrtool"]],
    "siremis": [(case, oracles.siremis_tariff(case)) for case in FORMULAS["siremis"]],
    "astpp": [(case, oracles.astpp_tariff(case)) for case in FORMULAS["astpp"]],
}
UNRATED = {"-1": NO_DECK, "UNAUTHORIZED_DESTINATION": NO_RATE}


def sayable(peer: str) -> list[Any]:
    return [pytest.param(case, tariff, id=case["id"]) for case, tariff in CASES[peer] if not isinstance(tariff, str)]


@pytest.mark.parametrize(("case", "tariff"), sayable("cgrates"))
def test_cgrates(case, tariff):
    number, exact = case["destination"].lstrip("+"), case["exact_cost"]
    if exact in UNRATED:
        assert oracles.rate(tariff, number, int(case["usage"])).reason == UNRATED[exact]
    else:
        assert oracles.cost(tariff, number, int(case["usage"])) == Decimal(exact)


@pytest.mark.parametrize(("case", "tariff"), sayable("rateomat"))
def test_rateomat(case, tariff):
    assert oracles.cost(tariff, "4312345", case["duration_s"]) == Decimal(case["expected"]["real_cost_cents"])


@pytest.mark.parametrize(("case", "tariff"), sayable("cdrtool"))
def test_cdrtool(case, tariff):
    assert oracles.cost(tariff, "4312345", case["input"]["duration_s"]) == Decimal(case["expected_price"])


@pytest.mark.parametrize(("case", "tariff"), sayable("siremis"))
def test_siremis(case, tariff):
    assert oracles.cost(tariff, "4312345", case["duration_s"]) == case["expected_cost"]


@pytest.mark.parametrize(("case", "tariff"), sayable("astpp"))
def test_astpp(case, tariff):
    assert oracles.cost(tariff, "4312345", case["duration_s"]) == Decimal(case["expected_cost"])


def test_cases_left_out():
    asserted = {peer: len(sayable(peer)) for peer in CASES}
    assert asserted == {"cgrates": 41, "rateomat": 16, "cdrtool": 7, "siremis": 6, "astpp": 5}
    assert {peer: Counter(why for _, why in cases if isinstance(why, str)) for peer, cases in CASES.items()} == {
        "cgrates": {
            "not a telephone call": 6,
            "a time band ends during the call": 5,
            "a fallback plan": 3,
            "a later part of a call": 1,
        },
        "rateomat": {"extra second": 4, "negative rates": 2, "free seconds": 1, "its cost is not told": 1},
        "cdrtool": {"seconds that are not charged beyond a maximum": 1},
        "siremis": {},
        "astpp": {"free seconds that are taken off the duration": 2},
    }
