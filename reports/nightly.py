"""The nightly report: which days are due, whether a day is settled, and the making of its files.

A day is settled when all that was received before its end and the grace time has been processed. It waits for that
rather than tell figures that will change. What has not reached the journal yet it cannot know.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from accounting.base.clock import from_us, now, to_us
from accounting.base.config import Settings
from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.db.engine import Database, driver_words
from accounting.db.tables import journal
from accounting.journal import ends, writers
from cdr.store import batches, jobs
from cdr.store.tables import cdr, open_call
from reports.days import BillingDay, billing_day, day_of
from reports.files import replace_folder

if TYPE_CHECKING:  # pandas takes half a second to load: not for every command
    from reports.views.nightly import NightlyReport

JOB = "nightly"
DAYS_BACK_MAX = 31
SWEEP_S = 60
"""How long the worker may take to close what is due before the day counts as unsettled."""

log = get_logger(__name__)


class Progress(NamedTuple):
    """How far the work has come, in epoch microseconds."""

    unread_us: Mapping[str, int]  # first unread report of each writer that has any: when it was received
    overdue_us: int | None  # the earliest time at which an open call should have been closed


def missing_for(day: BillingDay, progress: Progress, stop_grace_s: int, now_us: int) -> tuple[str, ...]:
    """Return what is missing for a day to be settled, in words; () if nothing is. Pure."""
    cutoff_us = to_us(day.end) + stop_grace_s * 10**6
    missing = []
    if now_us < to_us(day.end):
        missing.append("the day has not ended")
    elif now_us < cutoff_us:
        missing.append(f"reports of its last calls may still come until {from_us(cutoff_us):%Y-%m-%d %H:%M:%S} UTC")
    late = [name for name, received_us in progress.unread_us.items() if received_us < cutoff_us]
    missing += [
        f"reports received by {name} have not been processed: run tollbook process" for name in sorted(set(late))
    ]
    if progress.overdue_us is not None and progress.overdue_us < min(cutoff_us, now_us - SWEEP_S * 10**6):
        missing.append("open calls that are due have not been looked at: run tollbook process")
    return tuple(missing)


def load_progress(database: Database) -> Progress:
    """Return how far the journal has been read and what waits."""
    with database.read() as conn:
        offsets = batches.load_offsets(conn)
        overdue_us = conn.execute(select(func.min(open_call.c.due_us))).scalar()
    unread: dict[str, int] = {}
    with database.journal_read() as conn:
        names = {row.id: f"{row.kind} {row.name}".strip() for row in writers(conn)}
        for writer, last in ends(conn).items():
            read = offsets.get(writer, 0)
            if last > read:
                first = conn.execute(
                    select(func.min(journal.c.received_us)).where(journal.c.writer == writer, journal.c.seq == read + 1)
                ).scalar()
                if first is not None:
                    unread[names[writer]] = min(first, unread.get(names[writer], first))
    return Progress(unread, overdue_us)


def due_days(conn: Connection, timezone: str, now: datetime) -> list[date]:
    """Return the complete days since the first CDR's that no report is done for, oldest first.

    Not more than DAYS_BACK_MAX days back: older ones are made by hand.
    """
    first = conn.execute(select(func.min(cdr.c.closed_at))).scalar()
    if first is None:
        return []
    today = day_of(now, timezone)
    start = max(day_of(first, timezone), today - timedelta(days=DAYS_BACK_MAX))
    done = jobs.load_done(conn, JOB)
    days = [start + timedelta(days=number) for number in range((today - start).days)]
    return [day for day in days if day.isoformat() not in done]


def make_report(
    database: Database, settings: Settings, day: date, out: Path, now: datetime
) -> tuple[Path, tuple[str, ...]]:
    """Write a day's page and CSV files as the folder out/YYYY-MM-DD; return the page and what is missing."""
    from reports.views.nightly import csv_files
    from reports.views.nightly_html import nightly_html

    report = read_report(database, settings, billing_day(day, settings.reports.timezone), now)
    folder = out / day.isoformat()
    replace_folder(folder, {"index.html": nightly_html(report), **csv_files(report)})
    return folder / "index.html", report.missing


def read_report(database: Database, settings: Settings, day: BillingDay, now: datetime) -> "NightlyReport":
    """Return a day's figures, as they are now."""
    from reports import figures, queries
    from reports.views.nightly import NightlyReport

    missing = missing_for(day, load_progress(database), settings.pairing.stop_grace_s, to_us(now))
    with database.journal_read() as conn:
        received = queries.received(conn, day)
    configured: Sequence[str] = [one.name for one in (*settings.clients, *settings.collectors)]
    with database.read() as conn:
        return NightlyReport(
            day=day,
            produced_at=now,
            missing=missing,
            accounts=queries.by_account(conn, day),
            destinations=queries.by_destination(conn, day),
            carriers=queries.by_carrier(conn, day),
            dispositions=queries.dispositions(conn, day),
            hours=figures.hours(queries.by_minute(conn, day), day),
            unrated=queries.unrated(conn, day),
            longest_unrated=queries.longest_unrated(conn, day),
            not_billable=queries.not_billable(conn, day),
            exceptions=figures.exception_codes(queries.cdr_exceptions(conn, day)),
            call_exceptions=queries.call_exceptions(conn, day),
            open_calls=queries.open_calls(conn),
            sources=figures.completeness(
                configured, received, queries.by_source(conn, day), queries.quarantined(conn, day)
            ),
        )


def run_day(database: Database, settings: Settings, day: date, now: datetime) -> Path:
    """Make a settled day's report in the folder of the settings and record it as done; a failure is recorded too."""
    key = day.isoformat()
    with database.write() as conn:
        jobs.start_run(conn, JOB, key, now)
    try:
        page, missing = make_report(database, settings, day, settings.reports.out, now)
        if missing:
            raise TollbookError(f"the day {key} is no longer settled: {missing[0]}")
    except (TollbookError, DBAPIError) as error:
        words = driver_words(error) if isinstance(error, DBAPIError) else str(error)
        with database.write() as conn:
            jobs.finish_run(conn, JOB, key, jobs.FAILED, words, now)
        raise
    with database.write() as conn:
        jobs.finish_run(conn, JOB, key, jobs.DONE, str(page), now)
    return page


def nightly_job(
    database: Database, settings: Settings, clock: Callable[[], datetime] = now
) -> Callable[[Callable[[], bool]], None]:
    """Return the job of the scheduler: make the report of every due day that is settled, oldest first."""

    def work(stop: Callable[[], bool]) -> None:
        at = clock()
        with database.read() as conn:
            days = due_days(conn, settings.reports.timezone, at)
        for day in days:
            span = billing_day(day, settings.reports.timezone)
            if stop() or missing_for(span, load_progress(database), settings.pairing.stop_grace_s, to_us(at)):
                return  # later days wait for at least as much
            page = run_day(database, settings, day, at)
            log.info("a nightly report was written", day=day.isoformat(), page=str(page))

    return work
