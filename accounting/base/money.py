"""Money as exact integers: micros (1e-6 of a currency) for amounts, nanos (1e-9) for rates per unit.

It never meets a float and never rounds: a figure that does not fit is refused.
"""

import re
from typing import Final

from accounting.base.errors import TollbookError

MICROS: Final = 10**6
NANOS: Final = 10**9
MICROS_PLACES: Final = 6
NANOS_PLACES: Final = 9
INT64_MAX: Final = 2**63 - 1
DIGITS_MAX: Final = 64
"""Longer text is no amount of money, and would cost time to read."""

_DECIMAL = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?")
_CURRENCY = re.compile(r"[A-Z]{3}")


class MoneyError(TollbookError):
    """A text that is no exact amount of money."""


def parse_micros(text: str) -> int:
    """Return a decimal text like '12.50' in micros."""
    return _parse(text, MICROS_PLACES)


def parse_nanos(text: str) -> int:
    """Return a decimal text like '0.0123' in nanos."""
    return _parse(text, NANOS_PLACES)


def format_micros(micros: int, decimals: int) -> str:
    """Return micros as a decimal text with so many places; micros must have no more of them."""
    assert 0 <= decimals <= MICROS_PLACES, decimals
    units, rest = divmod(abs(micros), 10 ** (MICROS_PLACES - decimals))
    assert rest == 0, f"{micros} micros have more than {decimals} decimals"
    sign = "-" if micros < 0 else ""
    if decimals == 0:
        return f"{sign}{units}"
    whole, fraction = divmod(units, 10**decimals)
    return f"{sign}{whole}.{fraction:0{decimals}d}"


def format_exact(micros: int, at_least: int = 2) -> str:
    """Return micros as a decimal text with as many places as they need, but so many at least."""
    decimals = next(d for d in range(at_least, MICROS_PLACES + 1) if micros % 10 ** (MICROS_PLACES - d) == 0)
    return format_micros(micros, decimals)


def check_currency(code: str) -> str:
    """Return a currency's code if it has the form of ISO 4217, like EUR."""
    if not _CURRENCY.fullmatch(code):
        raise MoneyError(f"{code!r} is not a currency code; write three capital letters like EUR")
    return code


def _parse(text: str, places: int) -> int:
    if not isinstance(text, str):
        raise MoneyError(f"{text!r} is not decimal text")
    stripped = text.strip()
    if len(stripped) > DIGITS_MAX:
        raise MoneyError(f"{stripped[:DIGITS_MAX]!r}... is too long for an amount")
    match = _DECIMAL.fullmatch(stripped)
    if match is None:
        raise MoneyError(f"{text!r} is not a decimal number like 12.50")
    sign, whole, fraction = match.group(1), match.group(2), (match.group(3) or "").rstrip("0")
    if len(fraction) > places:
        raise MoneyError(f"{text!r} has more than {places} decimals")
    value = int(whole + fraction.ljust(places, "0"))
    if value > INT64_MAX:
        raise MoneyError(f"{text!r} is too large")
    return -value if sign == "-" else value
