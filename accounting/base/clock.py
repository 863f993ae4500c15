"""Instants: epoch microseconds, aware datetimes and ISO text, exactly converted. UTC throughout.

No naive datetime passes: one without an offset is refused.
"""

import time
from datetime import UTC, datetime, timedelta

from accounting.base.errors import TollbookError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def now_us() -> int:
    """Return the time of day in epoch microseconds."""
    return time.time_ns() // 1000


def now() -> datetime:
    """Return the time of day as an aware datetime in UTC."""
    return from_us(now_us())


def from_us(us: int) -> datetime:
    """Return epoch microseconds as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=us)


def to_us(instant: datetime) -> int:
    """Return an aware datetime as epoch microseconds."""
    if instant.utcoffset() is None:
        raise ValueError(f"naive datetime {instant!r}: an instant needs its offset")
    return (instant - EPOCH) // MICROSECOND


def parse_instant(text: str) -> datetime:
    """Return ISO 8601 text as an instant in UTC; text without an offset or Z is refused."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise TollbookError(f"{text!r} is not an instant; write it like 2026-11-24T07:07:43Z") from None
    if instant.tzinfo is None:
        raise TollbookError(f"{text!r} has no offset; write it like 2026-11-24T07:07:43Z or 2026-11-24T08:07:43+01:00")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise TollbookError(f"{text!r} lies outside the years 1 to 9999") from None


def iso_ms(instant: datetime | None) -> str:
    """Return an instant like 2026-11-24T07:07:43.475Z, '' for None; what is finer than a millisecond is cut off."""
    if instant is None:
        return ""
    if instant.tzinfo is None:
        raise ValueError(f"naive datetime {instant!r}: an instant needs its offset")
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
