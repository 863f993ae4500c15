"""The SQL of the nightly report: a day's CDRs grouped by the database into small frames.

One function, one question. Calls belong to the day in which they ended; superseded revisions and what was taken back
(`void`) count nowhere.
"""

from collections import Counter
from typing import Any

import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)  # fmt: skip

from accounting.base.clock import to_us
from accounting.db.tables import journal, writer
from accounting.db.tables import source as source_table
from cdr.rating.book import RateRequest, rate_calls
from cdr.store.decks import load_book
from cdr.store.tables import account, call_exception, cdr, cdr_dismissal, charge, open_call, quarantine
from reports.days import BillingDay
from reports.figures import (
    CALL_EXCEPTION_KINDS,
    DISPOSITION_KINDS,
    EXCEPTION_GROUP_KINDS,
    GROUP_KINDS,
    JOURNAL_KINDS,
    MINUTE_KINDS,
    OPEN_KINDS,
    QUARANTINE_KINDS,
    REASON_KINDS,
    SOURCE_KINDS,
    UNRATED_CALL_KINDS,
    UNRATED_KINDS,
)  # fmt: skip
from reports.frames import build_frame, count_if, read_frame, sum_of

UNRATED_CALLS_MAX = 20
"""Unrated calls that the report lists one by one; the export has all."""

DAY_US = 86_400 * 10**6
answered = cdr.c.disposition == "answered"
duration_ms = func.coalesce(sum_of(cdr.c.duration_ms), 0)


def by_account(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return groups by customer; what was charged to who forwarded a call stands with the forwarder."""
    own = _groups(cdr.c.account_id, day).subquery()
    forwarded = _forwarded(charge.c.account_id, day).subquery()
    return read_frame(conn, union_all(_named(own), _named(forwarded)), GROUP_KINDS)


def by_carrier(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return groups by carrier."""
    own = _groups(cdr.c.carrier_id, day).subquery()
    forwarded = _forwarded(cdr.c.carrier_id, day).subquery()
    return read_frame(conn, union_all(_named(own), _named(forwarded)), GROUP_KINDS)


def by_destination(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return groups by destination; calls without an answer stand where they would have been rated."""
    known = or_(cdr.c.destination != "", answered)
    frame = read_frame(
        conn,
        union_all(_groups(cdr.c.destination, day).where(known), _forwarded(charge.c.destination, day)),
        GROUP_KINDS,
    )
    return pd.concat([frame, _attempted(conn, day)], ignore_index=True)


def _attempted(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return groups by destination of calls that were not answered, found in the decks of their accounts."""
    calls = func.count().label("calls")
    query = (
        select(func.coalesce(cdr.c.account_id, 0), cdr.c.called_number, func.min(cdr.c.closed_at), calls)
        .where(*_of(day), cdr.c.destination == "", ~answered)
        .group_by(cdr.c.account_id, cdr.c.called_number)
    )
    found = [tuple(row) for row in conn.execute(query)]
    requests = [RateRequest(account_id, number, to_us(at), 0) for account_id, number, at, _ in found]
    rated = rate_calls(load_book(conn), requests) if requests else []
    counted = Counter[str]()
    for one, row in zip(rated, found, strict=True):
        counted[one.destination] += row[3]
    return build_frame([(name, "", "", count, 0, 0, 0, None, None) for name, count in counted.items()], GROUP_KINDS)


def dispositions(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return calls by disposition."""
    query = select(cdr.c.disposition, func.count().label("calls")).where(*_of(day)).group_by(cdr.c.disposition)
    return read_frame(conn, query, DISPOSITION_KINDS)


def by_minute(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return calls by the UTC minute of their end, as text: what every local hour can be made of."""
    minute = func.substr(cast(cdr.c.closed_at, String), 1, len("2026-11-24 07:07"))
    query = select(
        minute.label("minute"),
        func.count().label("calls"),
        count_if(answered).label("answered"),
        duration_ms.label("duration_ms"),
    )
    return read_frame(conn, query.where(*_of(day)).group_by(minute), MINUTE_KINDS)


def unrated(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return unrated calls by reason and account."""
    grouped = (
        select(
            cdr.c.rating_reason, cdr.c.account_id, func.count().label("calls"), duration_ms.label("duration_ms")
        )
        .where(*_of(day), cdr.c.rating == "unrated")
        .group_by(cdr.c.rating_reason, cdr.c.account_id)
        .subquery()
    )  # fmt: skip
    query = (
        select(grouped.c.rating_reason, func.coalesce(account.c.name, "").label("account"), grouped.c.calls,
               grouped.c.duration_ms)
        .select_from(grouped.outerjoin(account, grouped.c.account_id == account.c.id))
        .order_by(grouped.c.duration_ms.desc(), grouped.c.rating_reason, account.c.name)
    )  # fmt: skip
    return read_frame(conn, query, UNRATED_KINDS)


def longest_unrated(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return the longest unrated calls."""
    query = (
        select(cdr.c.id, cdr.c.closed_at, func.coalesce(account.c.name, "").label("account"), cdr.c.called,
               cdr.c.duration_ms, cdr.c.rating_reason)
        .select_from(cdr.outerjoin(account, cdr.c.account_id == account.c.id))
        .where(*_of(day), cdr.c.rating == "unrated")
        .order_by(cdr.c.duration_ms.desc(), cdr.c.id)
        .limit(UNRATED_CALLS_MAX)
    )  # fmt: skip
    return read_frame(conn, query, UNRATED_CALL_KINDS)


def not_billable(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return answered calls that nobody is to be charged for, by reason."""
    query = (
        select(cdr.c.rating_reason, func.count().label("calls"), duration_ms.label("duration_ms"))
        .where(*_of(day), cdr.c.rating == "not_billable", answered)
        .group_by(cdr.c.rating_reason)
        .order_by(func.count().desc(), cdr.c.rating_reason)
    )
    return read_frame(conn, query, REASON_KINDS)


def cdr_exceptions(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return calls by their joined exception codes, and how many of them nobody has dismissed."""
    same = and_(cdr_dismissal.c.cdr_id == cdr.c.id, cdr_dismissal.c.revision == cdr.c.revision)
    query = (
        select(
            cdr.c.exception,
            func.count().label("calls"),
            count_if(cdr_dismissal.c.cdr_id.is_(None)).label("undismissed"),
        )
        .select_from(cdr.outerjoin(cdr_dismissal, same))
        .where(*_of(day), cdr.c.exception != "")
        .group_by(cdr.c.exception)
    )
    return read_frame(conn, query, EXCEPTION_GROUP_KINDS)


def call_exceptions(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return reports that no CDR could be made of and nobody has dismissed: now, and reported on the day."""
    c = call_exception.c
    on_day = and_(c.reported_at >= day.start, c.reported_at < day.end)
    query = (
        select(c.reason, func.count().label("calls"), count_if(on_day).label("on_day"),
               func.min(c.reported_at).label("oldest_at"))
        .where(c.status == "open")
        .group_by(c.reason)
        .order_by(func.count().desc(), c.reason)
    )  # fmt: skip
    return read_frame(conn, query, CALL_EXCEPTION_KINDS)


def open_calls(conn: Connection) -> pd.DataFrame:
    """Return calls that wait for their end, by source, as of now."""
    c = open_call.c
    query = select(c.source, func.count().label("calls"), count_if(c.answered_at.is_not(None)).label("answered"),
                   func.min(func.coalesce(c.answered_at, c.reported_at)).label("oldest_at"))  # fmt: skip
    return read_frame(conn, query.group_by(c.source).order_by(c.source), OPEN_KINDS)


def by_source(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return calls by source, and for how many of the answered ones a report told the end."""
    told = and_(answered, cdr.c.stop_cause.in_(("bye", "complete")))
    query = select(
        cdr.c.source, func.count().label("calls"), count_if(answered).label("answered"), count_if(told).label("ended")
    )
    return read_frame(conn, query.where(*_of(day)).group_by(cdr.c.source), SOURCE_KINDS)


def quarantined(conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return what was received on the day and could not be read, by source."""
    c = quarantine.c
    query = select(c.source, func.count().label("quarantined")).where(
        c.received_us >= to_us(day.start), c.received_us < to_us(day.end)
    )
    return read_frame(conn, query.group_by(c.source), QUARANTINE_KINDS)


def received(journal_conn: Connection, day: BillingDay) -> pd.DataFrame:
    """Return what was received on the day by source: events and the time of the last.

    A writer writes on one UTC day only, so this reads the rows of two or three days, however long the journal is.
    """
    start_us, end_us = to_us(day.start), to_us(day.end)
    since = start_us - start_us % DAY_US
    j = journal.c
    grouped = (
        select(j.source_id, func.count().label("events"), func.max(j.received_us).label("last_us"))
        .select_from(journal.join(writer, writer.c.id == j.writer))
        .where(writer.c.started_us >= since, writer.c.started_us < end_us)
        .where(j.received_us >= start_us, j.received_us < end_us)
        .group_by(j.source_id)
        .subquery()
    )
    query = (
        select(source_table.c.name.label("source"), sum_of(grouped.c.events).label("events"),
               func.max(grouped.c.last_us).label("last_us"))
        .select_from(grouped.join(source_table, source_table.c.id == grouped.c.source_id))
        .group_by(source_table.c.name)
    )  # fmt: skip
    return read_frame(journal_conn, query, JOURNAL_KINDS)


def _of(day: BillingDay) -> list[ColumnElement[bool]]:
    """Return the conditions that a CDR counts on a day."""
    c = cdr.c
    return [c.closed_at >= day.start, c.closed_at < day.end, c.superseded_at.is_(None), c.disposition != "void"]


def _groups(key: ColumnElement[Any], day: BillingDay) -> Select[Any]:
    """Return the day's calls by a key and the currencies of price and cost."""
    c = cdr.c
    return (
        select(
            key.label("key"), c.currency, c.cost_currency, func.count().label("calls"),
            count_if(answered).label("answered"), duration_ms.label("duration_ms"),
            func.coalesce(sum_of(c.billed_s), 0).label("billed_s"),
            sum_of(c.price_micros).label("price_micros"), sum_of(c.cost_micros).label("cost_micros"),
        )
        .where(*_of(day))
        .group_by(key, c.currency, c.cost_currency)
    )  # fmt: skip


def _forwarded(key: ColumnElement[Any], day: BillingDay) -> Select[Any]:
    """Return what forwarders were charged for the day's calls, as groups without calls: a call counts once."""
    c = charge.c
    signed = case((c.kind == "reversal", -c.amount_micros), else_=c.amount_micros)
    nothing = literal(0)
    return (
        select(
            key.label("key"), c.currency, cdr.c.cost_currency, nothing.label("calls"), nothing.label("answered"),
            nothing.label("duration_ms"), nothing.label("billed_s"), sum_of(signed).label("price_micros"),
            null().label("cost_micros"),
        )
        .select_from(cdr.join(charge, c.cdr_id == cdr.c.id))
        .where(*_of(day), cdr.c.forwarded_by != "", c.party == "forwarder")
        .group_by(key, c.currency, cdr.c.cost_currency)
    )  # fmt: skip


def _named(groups: Any) -> Select[Any]:
    """Return groups by account id as groups by name, '' for no account."""
    name = func.coalesce(account.c.name, "").label("key")
    others = [groups.c[column] for column in GROUP_KINDS if column != "key"]
    return select(name, *others).select_from(groups.outerjoin(account, groups.c.key == account.c.id))
