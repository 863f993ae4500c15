"""Billing days: from one local midnight to the next, in a time zone. Pure.

A day has 23, 24 or 25 hours; where a zone skips midnight, the day begins when its date does.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)


class BillingDay(NamedTuple):
    """A day and its half-open span of instants, in UTC."""

    day: date
    timezone: str
    start: datetime
    end: datetime


class Hour(NamedTuple):
    """An hour of a day: its label (a doubled one has its UTC offset too) and its half-open span."""

    label: str
    start: datetime
    end: datetime


def billing_day(day: date, timezone: str) -> BillingDay:
    """Return a day's span in a zone."""
    return BillingDay(day, timezone, _midnight(day, timezone), _midnight(day + timedelta(days=1), timezone))


def day_of(instant: datetime, timezone: str) -> date:
    """Return on which day of a zone an instant lies."""
    return instant.astimezone(ZoneInfo(timezone)).date()


def hours_of(day: BillingDay) -> list[Hour]:
    """Return the hours of a day's clock: 23, 24 or 25 of them; the doubled hour is told apart by its offset."""
    zone = ZoneInfo(day.timezone)
    spans: list[tuple[int, timedelta, datetime]] = []
    quarter = timedelta(minutes=15)  # no zone of our time changes at other minutes
    instant = day.start
    while instant < day.end:
        local = instant.astimezone(zone)
        offset = local.utcoffset() or timedelta()
        if not spans or spans[-1][:2] != (local.hour, offset):
            spans.append((local.hour, offset, instant))
        instant += quarter
    ends = [start for _, _, start in spans[1:]] + [day.end]
    twice = {hour for hour, _, _ in spans if sum(other == hour for other, _, _ in spans) > 1}
    return [
        Hour(f"{hour:02d}{_sign(offset)}" if hour in twice else f"{hour:02d}", start, end)
        for (hour, offset, start), end in zip(spans, ends, strict=True)
    ]


def _sign(offset: timedelta) -> str:
    minutes = int(offset.total_seconds()) // 60
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02d}" if rest else "")


def _midnight(day: date, timezone: str) -> datetime:
    """Return the first instant of a date; a local midnight that does not exist gives the end of the gap."""
    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)
