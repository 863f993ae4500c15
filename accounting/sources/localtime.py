"""Local time of a proxy's host -> instants: one, two in autumn's doubled hour, a shifted one in spring's hole. Pure."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TIMES_CACHED = 8192


class Instants(NamedTuple):
    """What a local time may mean, in epoch microseconds."""

    us: int
    later_us: int | None = None  # the second pass of a doubled hour
    exists: bool = True  # False in the hour that spring leaves out: then `us` is as if the clock had not been changed


@lru_cache(maxsize=TIMES_CACHED)
def instants(text: str, zone: str) -> Instants | None:
    """Return the instants of `YYYY-MM-DD HH:MM:SS[.ffffff]` in a time zone; None if it is no time (0000-00-00 ...)."""
    try:
        naive = datetime.fromisoformat(text.strip())
        if naive.tzinfo is not None:
            return Instants((naive - EPOCH) // MICROSECOND)
        tz = ZoneInfo(zone)
        first = (naive.replace(tzinfo=tz) - EPOCH) // MICROSECOND
        second = (naive.replace(tzinfo=tz, fold=1) - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        return None
    if second > first:
        return Instants(first, second)
    return Instants(first, None, second == first)
