"""Figures as people read them: thousands, minutes, shares, amounts. Pure."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

MICROS = 10**6
MINUTE_MS = 60_000
MISSING = "–"


def count(value: int) -> str:
    """Return 12,345."""
    return f"{value:,d}"


def minutes(duration_ms: int, places: int = 1) -> str:
    """Return a duration in minutes, like 1,234.5."""
    return f"{rounded(Decimal(duration_ms) / MINUTE_MS, places):,f}"


def share(part: int, whole: int) -> str:
    """Return a percentage like 61.5 %, MISSING of nothing."""
    return f"{rounded(Decimal(100 * part) / whole, 1)} %" if whole else MISSING


def average(duration_ms: int, calls: int) -> str:
    """Return the average duration of a call as m:ss, MISSING without calls."""
    if not calls:
        return MISSING
    seconds = int(rounded(Decimal(duration_ms) / calls / 1000, 0))
    return f"{seconds // 60}:{seconds % 60:02d}"


def clock(duration_ms: int) -> str:
    """Return a duration as h:mm:ss."""
    seconds = duration_ms // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def amount(micros: int | None) -> str:
    """Return an amount rounded to two decimals, like 1,234.57; MISSING if there is none."""
    if micros is None:
        return MISSING
    return f"{_cents(micros):,f}".replace("-", "−")


def is_loss(micros: int | None) -> bool:
    """Return whether an amount is shown as less than nothing."""
    return micros is not None and _cents(micros) < 0


def local(instant: datetime | None, timezone: str) -> str:
    """Return an instant as local date and time."""
    return MISSING if instant is None else f"{instant.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M:%S}"


def _cents(micros: int) -> Decimal:
    return rounded(Decimal(micros) / MICROS, 2)


def rounded(value: Decimal, places: int) -> Decimal:
    """Return a figure with so many places, halves away from zero, and no negative zero."""
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP) + 0
