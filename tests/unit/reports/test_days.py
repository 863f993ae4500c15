"""Billing days and their hours, where clocks are put forward and back too."""

from datetime import UTC, date, datetime, timedelta

import pytest

from reports.days import billing_day, day_of, hours_of


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2026, 11, 23), "Europe/Berlin", 24),
        (date(2026, 3, 29), "Europe/Berlin", 23),
        (date(2026, 10, 25), "Europe/Berlin", 25),
        (date(2026, 11, 23), "UTC", 24),
        (date(2026, 4, 5), "Australia/Lord_Howe", 24.5),
        (date(2018, 11, 4), "America/Sao_Paulo", 23),  # its midnight does not exist
    ],
)
def test_day_is_as_long_as_its_clock_says(day: date, zone: str, hours: float) -> None:
    span = billing_day(day, zone)
    assert span.end - span.start == timedelta(hours=hours)
    assert day_of(span.start, zone) == day
    assert day_of(span.end - timedelta(microseconds=1), zone) == day
    assert day_of(span.start - timedelta(microseconds=1), zone) == day - timedelta(days=1)


def test_days_follow_each_other_without_a_gap() -> None:
    days = [billing_day(date(2026, 10, 20) + timedelta(days=n), "Europe/Berlin") for n in range(10)]
    assert [day.end for day in days[:-1]] == [day.start for day in days[1:]]


def test_day_begins_at_local_midnight() -> None:
    assert billing_day(date(2026, 11, 23), "Europe/Berlin").start == datetime(2026, 11, 22, 23, tzinfo=UTC)


def test_hours_cover_the_day_once() -> None:
    for day in (date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 23)):
        span = billing_day(day, "Europe/Berlin")
        hours = hours_of(span)
        assert (hours[0].start, hours[-1].end) == (span.start, span.end)
        assert [hour.end for hour in hours[:-1]] == [hour.start for hour in hours[1:]]
        assert len({hour.label for hour in hours}) == len(hours)


def test_doubled_hour_is_told_apart_and_skipped_one_is_absent() -> None:
    doubled = [hour.label for hour in hours_of(billing_day(date(2026, 10, 25), "Europe/Berlin"))]
    assert doubled[1:5] == ["01", "02+2", "02+1", "03"]
    skipped = [hour.label for hour in hours_of(billing_day(date(2026, 3, 29), "Europe/Berlin"))]
    assert skipped[:4] == ["00", "01", "03", "04"]
