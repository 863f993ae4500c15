"""What a call costs under one rate: billed seconds and price, in exact integers, rounded once at the end.

It does not choose the rate, and it never meets a float: the vectorised way falls back to Python's integers where
64 bits could overflow.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cdr.rating.terms import DECIMALS_MAX, Rounding, Tariff

AMOUNT_MICROS_MAX = 2**63 - 1
NO_LIMIT = -1  # of max_price_nanos in columns

_SAFE = 2.0**62  # a float estimate below this is an exact int64 product

Ints = NDArray[np.int64]


class TariffColumns(NamedTuple):
    """One tariff per call, as columns; `max_price_nanos` is NO_LIMIT where there is none."""

    rate_nanos: Ints
    connect_fee_nanos: Ints
    initial_s: Ints
    increment_s: Ints
    minimum_s: Ints
    grace_s: Ints
    max_price_nanos: Ints


class Price(NamedTuple):
    billed_s: int
    amount_micros: int


def price_call(tariff: Tariff, duration_ms: int, decimals: int, rounding: Rounding) -> Price:
    """Return billed seconds and amount of one call; this is the definition, price_calls is the same for columns."""
    seconds = (duration_ms + 999) // 1000  # a begun second counts as one
    if seconds == 0 or seconds <= tariff.grace_s:
        return Price(0, 0)
    billed = tariff.initial_s
    if seconds > tariff.initial_s:
        billed += -(-(seconds - tariff.initial_s) // tariff.increment_s) * tariff.increment_s
    billed = max(billed, tariff.minimum_s)
    exact = tariff.connect_fee_nanos * 60 + tariff.rate_nanos * billed  # in sixtieths of a nano: still exact
    if tariff.max_price_nanos is not None:
        exact = min(exact, tariff.max_price_nanos * 60)
    steps, rest = divmod(exact, unit := 60 * 10 ** (9 - decimals))
    match rounding:
        case Rounding.UP:
            steps += rest > 0
        case Rounding.HALF_UP:
            steps += 2 * rest >= unit
        case Rounding.HALF_EVEN:
            steps += 2 * rest > unit or (2 * rest == unit and steps % 2)
        case Rounding.DOWN:
            pass
    return Price(billed, int(steps) * 10 ** (DECIMALS_MAX - decimals))


def price_calls(tariffs: TariffColumns, duration_ms: Ints, decimals: int, rounding: Rounding) -> tuple[Ints, Ints]:
    """Return billed seconds and amounts in micros (int64) of calls priced under one deck version.

    An amount that does not fit 64 bits comes back as -1; limits on load make that a call of months.
    """
    billed = billed_seconds(tariffs, duration_ms)
    estimate = tariffs.rate_nanos.astype(np.float64) * billed + tariffs.connect_fee_nanos.astype(np.float64) * 60
    estimate = np.maximum(estimate, tariffs.max_price_nanos.astype(np.float64) * 60)
    if float(estimate.max(initial=0.0)) < _SAFE:
        return billed, _amounts(tariffs, billed, decimals, rounding)
    wide = np.flatnonzero(estimate >= _SAFE)
    narrow = np.flatnonzero(estimate < _SAFE)
    amounts = np.empty(len(billed), dtype=np.int64)
    amounts[narrow] = _amounts(_take(tariffs, narrow), billed[narrow], decimals, rounding)
    for at in wide.tolist():
        rate, connect, initial, increment, minimum, grace, limit = (int(column[at]) for column in tariffs)
        tariff = Tariff(rate, connect, initial, increment, minimum, grace, None if limit == NO_LIMIT else limit)
        amount = price_call(tariff, int(duration_ms[at]), decimals, rounding).amount_micros
        amounts[at] = amount if amount <= AMOUNT_MICROS_MAX else -1
    return billed, amounts


def billed_seconds(tariffs: TariffColumns, duration_ms: Ints) -> Ints:
    """Return billed seconds (int64) for durations in ms; initial/increment as in 30/6. Zero stays zero."""
    seconds = (duration_ms + 999) // 1000
    beyond = np.maximum(seconds - tariffs.initial_s, 0)
    steps = (beyond + tariffs.increment_s - 1) // tariffs.increment_s
    billed = np.maximum(tariffs.initial_s + steps * tariffs.increment_s, tariffs.minimum_s)
    free = (seconds == 0) | (seconds <= tariffs.grace_s)
    return np.where(free, 0, billed)


def _amounts(tariffs: TariffColumns, billed: Ints, decimals: int, rounding: Rounding) -> Ints:
    exact = tariffs.connect_fee_nanos * 60 + tariffs.rate_nanos * billed
    limited = tariffs.max_price_nanos != NO_LIMIT
    if limited.any():
        exact = np.where(limited, np.minimum(exact, tariffs.max_price_nanos * 60), exact)
    exact[billed == 0] = 0  # free seconds: no connect fee either
    unit = 60 * 10 ** (9 - decimals)
    steps = exact // unit
    rest = exact - steps * unit
    match rounding:
        case Rounding.UP:
            steps += rest > 0
        case Rounding.HALF_UP:
            steps += 2 * rest >= unit
        case Rounding.HALF_EVEN:
            steps += (2 * rest > unit) | ((2 * rest == unit) & (steps % 2 == 1))
        case Rounding.DOWN:
            pass
    amounts: Ints = steps * 10 ** (DECIMALS_MAX - decimals)
    return amounts


def _take(tariffs: TariffColumns, at: NDArray[np.intp]) -> TariffColumns:
    return TariffColumns(*(column[at] for column in tariffs))
