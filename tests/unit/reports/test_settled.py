"""When a day is settled."""

from datetime import date

from accounting.base.clock import to_us
from reports.days import billing_day
from reports.nightly import Progress, missing_for

DAY = billing_day(date(2026, 11, 23), "Europe/Berlin")
END_US = to_us(DAY.end)
GRACE_S = 300
CUTOFF_US = END_US + GRACE_S * 10**6
HOUR_US = 3600 * 10**6
NOTHING = Progress({}, None)


def missing(progress: Progress, now_us: int = END_US + HOUR_US) -> tuple[str, ...]:
    return missing_for(DAY, progress, GRACE_S, now_us)


def test_day_is_settled_when_all_is_read_and_grace_is_over() -> None:
    assert missing(NOTHING) == ()
    assert missing(NOTHING, CUTOFF_US) == ()


def test_day_that_runs_is_not_settled() -> None:
    assert missing(NOTHING, END_US - 1) == ("the day has not ended",)


def test_day_waits_for_reports_of_its_last_calls() -> None:
    [words] = missing(NOTHING, CUTOFF_US - 1)
    assert "2026-11-23 23:05:00 UTC" in words


def test_unread_reports_of_the_day_are_missing_and_later_ones_are_not() -> None:
    [words] = missing(Progress({"receiver a": CUTOFF_US - 1, "receiver b": CUTOFF_US}, None))
    assert "receiver a" in words


def test_open_call_that_is_overdue_is_missing() -> None:
    assert missing(Progress({}, CUTOFF_US - 1))
    assert not missing(Progress({}, CUTOFF_US))


def test_the_worker_has_a_minute_to_close_what_is_due() -> None:
    assert not missing(Progress({}, CUTOFF_US - 1), CUTOFF_US + 59 * 10**6)
    assert missing(Progress({}, CUTOFF_US - 1), CUTOFF_US + 60 * 10**6)
