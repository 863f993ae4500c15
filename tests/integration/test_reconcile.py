"""`tollbook reconcile`: what two sources say of the same calls, compared on real databases."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from tests.support.lab import FAILED, PEER, T0, Lab, bye, invite
from tollbook import app

DAY = "2026-11-24"
SECOND = Source(id=0, name="proxy-2", dialects=("opensips",), rank=2)


class Both(Lab):
    """A lab with a second client, proxy-2."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database, folder)
        self._other = JournalWriter(database, "receiver", "other")
        self._other_source = register_source(database, SECOND)

    def close(self) -> None:
        super().close()
        self._other.close()

    def journal_other(self, *packets: bytes) -> None:
        """Append packets as proxy-2 sends them."""
        self._other.append([(T0 * 1_000_000, self._other_source, PEER, packet) for packet in packets])

    def reconciled(self, *words: str) -> dict[str, Any]:
        """Process, and return what the command says in JSON."""
        self.process()
        found: dict[str, Any] = json.loads(self.tollbook("reconcile", "--date", DAY, "--json", *words))
        return found


@pytest.fixture
def both(database: Database, tmp_path: Path) -> Iterator[Both]:
    made = Both(database, tmp_path)
    yield made
    made.close()


def test_sources_that_agree_differ_in_nothing(both: Both) -> None:
    packets = invite("c1", 0), bye("c1", 60), invite("c2", 5, status=FAILED, code=486, to_tag="z")
    both.journal(*packets)
    both.journal_other(*packets)
    found = both.reconciled()
    assert found["sources"] == [{"source": "proxy-1", "calls": 2}, {"source": "proxy-2", "calls": 2}]
    [pair] = found["pairs"]
    assert (pair["sources"], pair["both"]) == (["proxy-1", "proxy-2"], 2)
    assert pair["differing"] == {"count": {}, "calls": []}
    assert [pair["only"][name]["count"] for name in pair["sources"]] == [0, 0]


def test_calls_that_one_source_missed_are_named(both: Both) -> None:
    both.journal(invite("c1", 0), bye("c1", 60), invite("c2", 10), bye("c2", 20))
    both.journal_other(invite("c1", 0), bye("c1", 60), invite("c3", 30), bye("c3", 90))
    [pair] = both.reconciled()["pairs"]
    assert pair["both"] == 1
    only = {name: [call["call_id"] for call in pair["only"][name]["calls"]] for name in pair["sources"]}
    assert only == {"proxy-1": ["c2"], "proxy-2": ["c3"]}


def test_different_figures_are_told_with_both_values(both: Both) -> None:
    both.journal(
        invite("long", 0), bye("long", 60), invite("lost", 0), bye("lost", 30),
        invite("code", 0, status=FAILED, code=486), invite("party", 0), bye("party", 9),
        invite("answer", 0), bye("answer", 5),
    )  # fmt: skip
    both.journal_other(
        invite("long", 0), bye("long", 75), invite("lost", 0),
        invite("code", 0, status=FAILED, code=600), invite("party", 0, called="sip:+4930@lab.example"),
        bye("party", 10),
        invite("answer", 0, status=FAILED, code=480),
    )  # fmt: skip
    [pair] = both.reconciled()["pairs"]
    told = sorted((call["call_id"], call["figure"], *call["values"]) for call in pair["differing"]["calls"])
    assert told == [
        ("answer", "disposition", "answered", "unavailable"),
        ("code", "code", "486", "600"),
        ("long", "duration", "60.000 s", "75.000 s"),
        ("party", "called", "+4915112345678", "+4930"),
    ]
    assert pair["differing"]["count"] == {"disposition": 1, "code": 1, "duration": 1, "called": 1}


def test_one_source_has_nothing_to_be_compared_with(both: Both) -> None:
    both.journal(invite("c1", 0), bye("c1", 60))
    assert both.reconciled()["pairs"] == []
    assert "nothing to compare" in both.tollbook("reconcile", "--date", DAY)
    assert "0 calls" in both.tollbook("reconcile", "--date", "2026-11-25")


def test_a_table_for_people_names_calls_and_figures(both: Both) -> None:
    both.journal(invite("c1", 0), bye("c1", 60), invite("c2", 10), bye("c2", 20))
    both.journal_other(invite("c1", 0), bye("c1", 75))
    both.process()
    told = both.tollbook("reconcile", "--date", DAY)
    assert f"{DAY} (UTC): 2 calls, seen by proxy-1 2, proxy-2 1" in told
    assert "seen by proxy-1 only: 1" in told
    assert "duration: proxy-1 60.000 s, proxy-2 75.000 s" in told


def test_a_day_that_is_none_is_refused(both: Both) -> None:
    asked = ["reconcile", "--date", "24.11.2026", "--config", str(both.settings.path)]
    result = CliRunner().invoke(app, asked)
    assert "is not a day" in str(result.exception)
