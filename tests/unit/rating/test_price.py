"""Billed seconds and prices: the contract's sentences, and exactness against fractions."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdr.rating.price import NO_LIMIT, Price, Rounding, Tariff, TariffColumns, price_call, price_calls

CENT = 10**7  # nanos
NANOS_MAX = 2**63 - 1

money = st.one_of(st.integers(0, 100 * 10**9), st.integers(0, NANOS_MAX))
tariffs = st.builds(
    Tariff,
    rate_nanos=money,
    connect_fee_nanos=money,
    initial_s=st.integers(0, 90),
    increment_s=st.integers(1, 90),
    minimum_s=st.integers(0, 200),
    grace_s=st.integers(0, 30),
    max_price_nanos=st.none() | money,
)
durations = st.one_of(st.integers(0, 200_000), st.integers(0, 2**45))
roundings = st.sampled_from(Rounding)
decimals_ = st.integers(0, 6)


def reference(tariff: Tariff, duration_ms: int, decimals: int, rounding: Rounding) -> Price:
    """The contract, word for word, in fractions."""
    s = ceil(Fraction(duration_ms, 1000))
    if s == 0 or s <= tariff.grace_s:
        return Price(0, 0)
    steps = max(0, ceil(Fraction(s - tariff.initial_s, tariff.increment_s)))
    billed = max(tariff.initial_s + steps * tariff.increment_s, tariff.minimum_s)
    price = Fraction(tariff.connect_fee_nanos, 10**9) + Fraction(tariff.rate_nanos, 10**9) * billed / 60
    if tariff.max_price_nanos is not None:
        price = min(price, Fraction(tariff.max_price_nanos, 10**9))
    scaled = price * 10**decimals
    whole = {
        Rounding.UP: ceil,
        Rounding.DOWN: floor,
        Rounding.HALF_UP: lambda x: floor(x + Fraction(1, 2)),
        Rounding.HALF_EVEN: round,
    }[rounding](scaled)
    return Price(billed, whole * 10 ** (6 - decimals))


def columns(rows: list[Tariff]) -> TariffColumns:
    limited = [
        row._replace(max_price_nanos=NO_LIMIT if row.max_price_nanos is None else row.max_price_nanos) for row in rows
    ]
    return TariffColumns(*(np.array(column, dtype=np.int64) for column in zip(*limited, strict=True)))


@given(tariffs, durations, decimals_, roundings)
def test_price_is_exact_and_rounded_once(tariff, duration_ms, decimals, rounding):
    assert price_call(tariff, duration_ms, decimals, rounding) == reference(tariff, duration_ms, decimals, rounding)


@given(st.lists(st.tuples(tariffs, durations), min_size=1, max_size=8), decimals_, roundings)
@example([(Tariff(NANOS_MAX, NANOS_MAX), 60_000), (Tariff(CENT), 60_000)], 4, Rounding.HALF_UP)
@example([(Tariff(2**58), 60_000)], 4, Rounding.HALF_UP)  # just beyond 64 bits
@example([(Tariff(cents * CENT // 2), 60_000) for cents in (1, 3, 5, 7)], 2, Rounding.HALF_EVEN)
@example([(Tariff(cents * CENT // 2), 60_000) for cents in (1, 3, 5, 7)], 2, Rounding.HALF_UP)
def test_columns_price_as_single_calls_do(calls, decimals, rounding):
    rows, durations_ms = zip(*calls, strict=True)
    billed, amounts = price_calls(columns(list(rows)), np.array(durations_ms, dtype=np.int64), decimals, rounding)
    for at, (tariff, duration_ms) in enumerate(calls):
        one = price_call(tariff, duration_ms, decimals, rounding)
        assert billed[at] == one.billed_s
        assert amounts[at] == (one.amount_micros if one.amount_micros <= NANOS_MAX else -1)


@pytest.mark.parametrize(
    ("tariff", "seconds", "billed"),
    [
        (Tariff(CENT), 61, 61),
        (Tariff(CENT, initial_s=60, increment_s=60), 1, 60),
        (Tariff(CENT, initial_s=60, increment_s=60), 60, 60),
        (Tariff(CENT, initial_s=60, increment_s=60), 61, 120),
        (Tariff(CENT, initial_s=30, increment_s=6), 30, 30),
        (Tariff(CENT, initial_s=30, increment_s=6), 31, 36),
        (Tariff(CENT, initial_s=0, increment_s=6), 1, 6),
        (Tariff(CENT, minimum_s=20), 1, 20),
        (Tariff(CENT, minimum_s=20), 21, 21),
    ],
)
def test_billed_seconds(tariff, seconds, billed):
    assert price_call(tariff, seconds * 1000, 4, Rounding.HALF_UP).billed_s == billed


def test_a_begun_second_counts_as_one():
    assert [price_call(Tariff(CENT), ms, 4, Rounding.UP).billed_s for ms in (0, 1, 999, 1000, 1001)] == [0, 1, 1, 1, 2]


@pytest.mark.parametrize("seconds", [0, 1, 5])
def test_free_seconds_have_no_connect_fee(seconds):
    tariff = Tariff(CENT, connect_fee_nanos=CENT, initial_s=60, minimum_s=60, grace_s=5)
    assert price_call(tariff, seconds * 1000, 4, Rounding.UP) == Price(0, 0)
    assert price_call(tariff, 6000, 4, Rounding.UP) == Price(60, 20_000)


@pytest.mark.parametrize(
    ("rounding", "micros"),
    [(Rounding.UP, 20_000), (Rounding.HALF_UP, 20_000), (Rounding.HALF_EVEN, 20_000), (Rounding.DOWN, 10_000)],
)
def test_a_half_goes_where_the_mode_says(rounding, micros):
    half = Tariff(3 * CENT // 2)  # 0.015
    assert price_call(half, 60_000, 2, rounding).amount_micros == micros
    assert price_call(Tariff(5 * CENT // 2), 60_000, 2, Rounding.HALF_EVEN).amount_micros == 20_000  # 0.025


def test_maximum_price_caps_before_rounding():
    tariff = Tariff(100 * CENT, max_price_nanos=5 * 10**9)
    assert price_call(tariff, 3_600_000, 4, Rounding.HALF_UP) == Price(3600, 5_000_000)
