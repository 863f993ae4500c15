"""The nightly report on real databases: its figures, when it is due, and that nobody sees half of it."""

import csv
import io
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from typer.testing import CliRunner

from accounting.base.clock import to_us
from accounting.base.config import Settings
from accounting.base.errors import TollbookError
from accounting.db.engine import Database
from accounting.db.tables import journal, source, writer
from cdr.store import jobs
from cdr.store.tables import (
    account_deck,
    call_exception,
    cdr_dismissal,
    job_run,
    journal_offset,
    open_call,
    quarantine,
    rate,
)
from reports import queries
from reports.days import BillingDay, billing_day
from reports.figures import first_line_only, table
from reports.files import replace_folder
from reports.nightly import due_days, load_progress, make_report, nightly_job, read_report, run_day
from tests.support import lab
from tests.support.cdrs import ACME, BETA, NOON, TELCO, add_accounts, add_cdr, add_charge, unanswered
from tollbook import app

ZONE = '[reports]\ntimezone = "Europe/Berlin"\nout = "reports"\n'
MONDAY = date(2026, 11, 23)
DAY = billing_day(MONDAY, "Europe/Berlin")
TUESDAY_NIGHT = datetime(2026, 11, 24, 3, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def filled(database: Database) -> Database:
    with database.write() as conn:
        add_accounts(conn)
    return database


@pytest.fixture
def settings(filled: Database, tmp_path: Path) -> Settings:
    return lab.settings(filled, tmp_path, ZONE)


def records(frame: Any) -> list[tuple[Any, ...]]:
    plain = frame.astype(object)
    return list(plain.where(plain.notna(), None).itertuples(index=False, name=None))


def asked(database: Database, question: Any, day: BillingDay = DAY) -> list[tuple[Any, ...]]:
    with database.read() as conn:
        return sorted(records(question(conn, day)), key=repr)


def not_stopping() -> bool:
    return False


def journalled(database: Database, writer_id: int, received: Sequence[datetime], source_id: int = 1) -> None:
    """Add a writer and its rows."""
    with database.journal_write() as conn:
        conn.execute(
            insert(writer).values(
                id=writer_id, kind="receiver", name=f"w{writer_id}", host="h", pid=1, started_us=to_us(received[0])
            )
        )
        if not conn.execute(select(source.c.id).where(source.c.id == source_id)).scalar():
            conn.execute(
                insert(source).values(
                    id=source_id, name=f"proxy-{source_id}", digest=str(source_id), settings="{}", first_us=0
                )
            )
        for seq, at in enumerate(received, 1):
            conn.execute(
                insert(journal).values(
                    writer=writer_id, seq=seq, received_us=to_us(at), source_id=source_id, peer=b"", raw=b""
                )
            )


def processed(database: Database, writer_id: int, seq: int) -> None:
    with database.write() as conn:
        conn.execute(insert(journal_offset).values(writer=writer_id, seq=seq))


# ---- figures -------------------------------------------------------------------------------------------------------


def test_day_is_from_local_midnight_to_local_midnight(filled: Database) -> None:
    with filled.write() as conn:
        for number, at in enumerate((DAY.start - SECOND, DAY.start, DAY.end - SECOND, DAY.end)):
            add_cdr(conn, number, at)
    assert [row[3] for row in asked(filled, queries.by_account)] == [2]


def test_superseded_and_void_count_nowhere(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, superseded_at=NOON)
        add_cdr(conn, 1, revision=2)
        add_cdr(conn, 2, disposition="void", rating="unrated", exception="x")
    for question in (queries.by_account, queries.by_carrier, queries.by_destination, queries.by_minute):
        assert sum(row["calls"] for row in _dicts(filled, question)) == 1
    for question in (queries.unrated, queries.cdr_exceptions):
        assert asked(filled, question) == []


def _dicts(database: Database, question: Any) -> list[dict[str, Any]]:
    with database.read() as conn:
        return list(question(conn, DAY).to_dict("records"))


def test_groups_by_account_keep_currencies_apart(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, cost_micros=50_000, cost_decimals=4, cost_currency="EUR")
        add_cdr(conn, 2, cost_micros=70_000, cost_decimals=4, cost_currency="USD")
        add_cdr(conn, 3, **unanswered())
        add_cdr(conn, 4, account_id=None, rating="unrated", price_micros=None, price_decimals=None, currency="")
    assert asked(filled, queries.by_account) == [
        ("", "", "", 1, 1, 60_000, 60, None, None),
        ("acme", "", "", 1, 0, 0, 0, None, None),
        ("acme", "EUR", "EUR", 1, 1, 60_000, 60, 120_000, 50_000),
        ("acme", "EUR", "USD", 1, 1, 60_000, 60, 120_000, 70_000),
    ]
    assert {row[0] for row in asked(filled, queries.by_carrier)} == {"telco"}


def test_forwarder_pays_for_a_call_that_counts_once(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, forwarded_by="bob", cost_micros=50_000, cost_decimals=4, cost_currency="USD")
        add_charge(conn, 1)
        for revision, kind in ((1, "charge"), (2, "reversal"), (3, "charge")):
            add_charge(conn, 1, revision, 2, kind=kind, party="forwarder", account_id=BETA, destination="Austria",
                       amount_micros=80_000)  # fmt: skip
    assert asked(filled, queries.by_account) == [
        ("acme", "EUR", "USD", 1, 1, 60_000, 60, 120_000, 50_000),
        ("beta, Ltd", "EUR", "USD", 0, 0, 0, 0, 80_000, None),
    ]
    assert [(row[0], row[3], row[7]) for row in asked(filled, queries.by_destination)] == [
        ("Austria", 0, 80_000),
        ("Germany", 1, 120_000),
    ]
    with filled.read() as conn:
        rows = first_line_only(table(queries.by_carrier(conn, DAY)))
    assert records(rows[["key", "calls", "currency", "price_micros", "cost_micros"]]) == [
        ("telco", 1, "EUR", 200_000, None),
        ("telco", None, "USD", None, 50_000),
    ]


def test_failed_calls_stand_with_the_destination_they_were_for(filled: Database) -> None:
    with filled.write() as conn:
        for prefix, name in (("49", "Germany"), ("4915", "Germany mobile")):
            conn.execute(
                insert(rate).values(
                    deck_version_id=1, prefix=prefix, destination=name, rate_nanos=1, connect_fee_nanos=0, initial_s=1,
                    increment_s=1, minimum_s=0, grace_s=0, line=2,
                )
            )  # fmt: skip
        conn.execute(insert(account_deck).values(account_id=ACME, deck_id=1, created_at=NOON))
        add_cdr(conn, 1)
        add_cdr(conn, 2, **unanswered())
        add_cdr(conn, 3, called_number="+4915112345", **unanswered())
        add_cdr(conn, 4, called_number="+33", **unanswered())
        add_cdr(conn, 5, account_id=None, **unanswered())
        add_cdr(conn, 6, called_number="", **unanswered())
    with filled.read() as conn:
        rows = table(queries.by_destination(conn, DAY))
    assert sorted(records(rows[["key", "calls", "answered"]])) == [
        ("", 3, 0),
        ("Germany", 2, 1),
        ("Germany mobile", 1, 0),
    ]


def test_unrated_calls_are_told_by_reason_and_one_by_one(filled: Database) -> None:
    nothing = {"rating": "unrated", "price_micros": None, "price_decimals": None, "currency": ""}
    with filled.write() as conn:
        add_cdr(conn, 1, rating_reason="no_rate", duration_ms=5_000, **nothing)
        add_cdr(conn, 2, rating_reason="no_rate", duration_ms=9_000, **nothing)
        add_cdr(conn, 3, rating_reason="account_unknown", account_id=None, duration_ms=7_000, **nothing)
        add_cdr(conn, 4, rating="not_billable", rating_reason="on_net")
    assert asked(filled, queries.unrated) == [("account_unknown", "", 1, 7_000), ("no_rate", "acme", 2, 14_000)]
    with filled.read() as conn:
        assert [row[0] for row in records(queries.longest_unrated(conn, DAY))] == [2, 3, 1]
        assert records(queries.longest_unrated(conn, DAY))[0][1] == NOON
    assert asked(filled, queries.not_billable) == [("on_net", 1, 60_000)]


def test_exceptions_and_what_nobody_has_dismissed(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, exception="no_stop;x")
        add_cdr(conn, 2, exception="no_stop;x")
        conn.execute(insert(cdr_dismissal).values(cdr_id=2, revision=1, dismissed_at=NOON, dismissed_by="me"))
        for number, at, status in ((1, NOON, "open"), (2, NOON - timedelta(days=9), "open"), (3, NOON, "dismissed")):
            conn.execute(
                insert(call_exception).values(
                    id=number, call_hash=1, call_key="k", call_id="k", source="s", nas="", reason="stop_without_start",
                    detail="", status=status, reported_at=at, raised_at=at, events=b"",
                )
            )  # fmt: skip
    assert asked(filled, queries.cdr_exceptions) == [("no_stop;x", 2, 1)]
    assert asked(filled, queries.call_exceptions) == [("stop_without_start", 2, 1, NOON - timedelta(days=9))]


def test_sources_say_what_came_and_what_did_not(filled: Database, settings: Settings) -> None:
    journalled(filled, 1, [DAY.start - SECOND, DAY.start, NOON])
    journalled(filled, 2, [NOON + SECOND, DAY.end - SECOND, DAY.end], source_id=2)
    journalled(filled, 3, [NOON - timedelta(days=5)], source_id=3)
    with filled.write() as conn:
        add_cdr(conn, 1)
        add_cdr(conn, 2, stop_cause="media")
        add_cdr(conn, 3, **unanswered())
        conn.execute(
            insert(quarantine).values(ref=1, source="proxy-2", reason="no_call_id", detail="", received_us=to_us(NOON))
        )
    report = read_report(filled, settings, DAY, TUESDAY_NIGHT)
    assert records(report.sources) == [
        ("proxy-1", 2, NOON, 3, 2, 1, 0),
        ("proxy-2", 2, DAY.end - SECOND, 0, 0, 0, 1),
    ]


def test_open_calls(filled: Database, settings: Settings) -> None:
    with filled.write() as conn:
        for number, answered_at in ((1, None), (2, NOON - SECOND)):
            conn.execute(
                insert(open_call).values(
                    id=number, call_hash=1, call_key="k", call_id="k", source="proxy-1", nas="", caller="", called="",
                    answered_at=answered_at, reported_at=NOON, due_us=2**60, events=b"",
                )
            )  # fmt: skip
    report = read_report(filled, settings, DAY, TUESDAY_NIGHT)
    assert records(report.open_calls) == [("proxy-1", 2, 1, NOON - SECOND)]


# ---- when ----------------------------------------------------------------------------------------------------------


def test_progress_is_the_first_report_that_was_not_read(filled: Database) -> None:
    journalled(filled, 1, [NOON, NOON + SECOND, NOON + 2 * SECOND])
    journalled(filled, 2, [NOON])
    processed(filled, 1, 1)
    processed(filled, 2, 1)
    assert load_progress(filled).unread_us == {"receiver w1": to_us(NOON + SECOND)}


def test_every_complete_day_is_due_until_it_is_done(filled: Database) -> None:
    with filled.read() as conn:
        assert due_days(conn, "Europe/Berlin", TUESDAY_NIGHT) == []
    with filled.write() as conn:
        add_cdr(conn, 1, NOON - timedelta(days=2))
        jobs.start_run(conn, "nightly", "2026-11-22", NOON)
        jobs.finish_run(conn, "nightly", "2026-11-22", jobs.DONE, "", NOON)
        jobs.start_run(conn, "nightly", "2026-11-23", NOON)
        jobs.finish_run(conn, "nightly", "2026-11-23", jobs.FAILED, "disk full", NOON)
    with filled.read() as conn:
        assert due_days(conn, "Europe/Berlin", TUESDAY_NIGHT) == [date(2026, 11, 21), date(2026, 11, 23)]
        assert due_days(conn, "Europe/Berlin", DAY.end - SECOND) == [date(2026, 11, 21)]
        assert len(due_days(conn, "Europe/Berlin", TUESDAY_NIGHT + timedelta(days=400))) == 31


def test_job_makes_each_settled_day_once(filled: Database, settings: Settings) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, NOON - timedelta(days=1))
        add_cdr(conn, 2, NOON)
    nightly_job(filled, settings, lambda: TUESDAY_NIGHT)(not_stopping)
    out = settings.reports.out
    assert sorted(path.name for path in out.iterdir()) == ["2026-11-22", "2026-11-23"]
    with filled.read() as conn:
        rows = conn.execute(select(job_run).order_by(job_run.c.scheduled_for)).all()
    assert [(row.scheduled_for, row.status, row.detail) for row in rows] == [
        (day, "done", str(out / day / "index.html")) for day in ("2026-11-22", "2026-11-23")
    ]
    (out / "2026-11-23" / "index.html").unlink()
    nightly_job(filled, settings, lambda: TUESDAY_NIGHT)(not_stopping)
    assert not (out / "2026-11-23" / "index.html").exists()


def test_job_waits_for_what_has_not_been_processed(filled: Database, settings: Settings) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, NOON - timedelta(days=1))
        add_cdr(conn, 2, NOON)
    journalled(filled, 1, [NOON])
    job = nightly_job(filled, settings, lambda: TUESDAY_NIGHT)
    job(not_stopping)
    assert [path.name for path in settings.reports.out.iterdir()] == ["2026-11-22"]
    processed(filled, 1, 1)
    job(not_stopping)
    assert sorted(path.name for path in settings.reports.out.iterdir()) == ["2026-11-22", "2026-11-23"]


def test_job_stops_when_asked(filled: Database, settings: Settings) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, NOON)
    nightly_job(filled, settings, lambda: TUESDAY_NIGHT)(lambda: True)
    assert not settings.reports.out.exists()


def test_failed_run_is_recorded_and_tried_again(filled: Database, settings: Settings) -> None:
    settings.reports.out.write_text("in the way")
    with pytest.raises(TollbookError, match="cannot write"):
        run_day(filled, settings, MONDAY, TUESDAY_NIGHT)
    with filled.read() as conn:
        [row] = conn.execute(select(job_run)).all()
    assert (row.status, row.finished_at) == ("failed", TUESDAY_NIGHT)
    assert "cannot write" in row.detail
    settings.reports.out.unlink()
    assert run_day(filled, settings, MONDAY, TUESDAY_NIGHT).exists()
    with filled.read() as conn:
        assert jobs.load_done(conn, "nightly") == {"2026-11-23"}


# ---- files ---------------------------------------------------------------------------------------------------------


def test_report_of_a_real_day(filled: Database, settings: Settings, tmp_path: Path) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, cost_micros=50_000, cost_decimals=4, cost_currency="EUR", duration_ms=90_000)
        add_cdr(conn, 2, carrier_id=TELCO, **unanswered())
    page, missing = make_report(filled, settings, MONDAY, tmp_path / "out", TUESDAY_NIGHT)
    assert (page, missing) == (tmp_path / "out" / "2026-11-23" / "index.html", ())
    names = [
        "accounts.csv",
        "carriers.csv",
        "destinations.csv",
        "exceptions.csv",
        "index.html",
        "sources.csv",
        "unrated.csv",
    ]
    assert sorted(path.name for path in page.parent.iterdir()) == names
    [row] = csv.DictReader(io.StringIO((page.parent / "accounts.csv").read_text()))
    assert [row[name] for name in ("account", "calls", "asr_percent", "minutes", "price", "cost", "margin")] == [
        "acme", "2", "50.0", "1.50", "0.12", "0.05", "0.07",
    ]  # fmt: skip


def test_day_is_made_again_in_place(filled: Database, settings: Settings, tmp_path: Path) -> None:
    page, _ = make_report(filled, settings, MONDAY, tmp_path / "out", TUESDAY_NIGHT)
    (page.parent / "stale.csv").write_text("")
    with filled.write() as conn:
        add_cdr(conn, 1)
    make_report(filled, settings, MONDAY, tmp_path / "out", TUESDAY_NIGHT)
    assert ">acme<" in page.read_text()
    assert not (page.parent / "stale.csv").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["2026-11-23"]


def cannot_exchange(_one: Path, _other: Path) -> bool:
    return False


def test_folder_is_replaced_where_none_can_be_exchanged(tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        replace_folder(tmp_path / "day", {"a": content, content.decode(): b""}, exchange=cannot_exchange)
    assert sorted(path.name for path in (tmp_path / "day").iterdir()) == ["2", "a"]
    assert [path.name for path in tmp_path.iterdir()] == ["day"]


def test_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "day").write_text("a file")
    with pytest.raises(TollbookError, match="in the way"):
        replace_folder(tmp_path / "day", {"a": b""})
    with pytest.raises(TollbookError, match="cannot write"):
        replace_folder(tmp_path / "day" / "x", {"a": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["day"]


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("settings")
def test_command_writes_a_day(tmp_path: Path) -> None:
    config = ("--config", str(tmp_path / "tollbook.toml"))
    words = ("report", "nightly", "--date", "2026-11-23", "--out", str(tmp_path / "out"), *config)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path}/out/2026-11-23/index.html\n"
    refused = CliRunner().invoke(app, ("report", "nightly", "--date", "23.11.2026", *config))
    assert isinstance(refused.exception, TollbookError)


@pytest.mark.usefixtures("settings")
def test_command_makes_yesterday_and_says_when_it_is_preliminary(tmp_path: Path, filled: Database) -> None:
    journalled(filled, 1, [NOON])
    words = ("report", "nightly", "--out", str(tmp_path / "out"), "--config", str(tmp_path / "tollbook.toml"))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r".*/out/\d{4}-\d\d-\d\d/index.html", done.stdout.strip())
    assert "preliminary: reports received by receiver w1" in done.stderr
