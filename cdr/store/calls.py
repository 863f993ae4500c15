"""Tables open_call, cdr and charge: calls that wait, calls as they were, what they cost."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, bindparam, delete, exists, func, select, update

from accounting.db.bulk import insert_rows, key_chunks
from cdr.reconcile import Stored
from cdr.settle import CdrRow, Charge, LiveCharge, pack_refs, unpack_refs
from cdr.store.tables import call_exception, cdr, charge, open_call

GROUPS_PER_QUERY = 500  # many NASes may share an id: thousands of calls a group
Keep = Callable[[str, Sequence[Stored]], Sequence[Stored]]
SET_ASIDE = "processing_failed"  # the reason of events that a batch could not be made with: not evidence until retried


def load_stored(conn: Connection, keys: Mapping[str, int], keep: Keep | None = None) -> dict[str, Sequence[Stored]]:
    """Return what is stored of the groups with these keys (key -> hash), or what `keep` returns of each."""
    groups: dict[str, Sequence[Stored]] = {}
    hashes = sorted(set(keys.values()))
    for at in range(0, len(hashes), GROUPS_PER_QUERY):
        for key, stored in _stored_of(conn, keys, hashes[at : at + GROUPS_PER_QUERY]).items():
            groups[key] = keep(key, stored) if keep else stored
    return groups


def _stored_of(conn: Connection, keys: Mapping[str, int], hashes: Sequence[int]) -> dict[str, list[Stored]]:
    found: dict[tuple[str, int], Stored] = {}

    def of(row: Row[Any]) -> Stored:
        return found.get((row.call_key, row.id)) or Stored(row.id, row.call_key, row.nas)

    for row in conn.execute(_open_of(hashes)):
        if row.call_key in keys:
            found[row.call_key, row.id] = of(row)._replace(open_refs=unpack_refs(row.events), open_due_us=row.due_us)
    for row in conn.execute(_exceptions_of(hashes)):
        if row.call_key in keys:
            found[row.call_key, row.id] = of(row)._replace(
                exception_refs=unpack_refs(row.events), exception_reason=row.reason
            )
    for row in conn.execute(_latest_of(hashes)):
        call_id, key, nas, from_tag, to_tag, code, disposition, revision, said, events, attempts = row
        if key in keys:
            is_void = disposition == "void"
            is_session = code is None and (is_void or disposition == "answered") and not (from_tag or to_tag)
            old = found.get((key, call_id)) or Stored(call_id, key)
            found[key, call_id] = Stored(
                call_id, key, nas, old.open_refs, old.open_due_us, old.exception_refs, old.exception_reason, revision,
                said, unpack_refs(events), attempts, is_void, is_session,
            )  # fmt: skip
    groups: dict[str, list[Stored]] = {}
    for (key, _), stored in found.items():
        groups.setdefault(key, []).append(stored)
    return groups


def _open_of(hashes: Sequence[int]) -> Any:
    columns = (open_call.c.id, open_call.c.call_key, open_call.c.nas, open_call.c.due_us, open_call.c.events)
    return select(*columns).where(_among(open_call, hashes))


def _exceptions_of(hashes: Sequence[int]) -> Any:
    c = call_exception.c
    columns = (c.id, c.call_key, c.nas, c.reason, c.events)
    return select(*columns).where(_among(call_exception, hashes), call_exception.c.reason != SET_ASIDE)


def _latest_of(hashes: Sequence[int]) -> Any:
    c = cdr.c
    columns = (
        c.id, c.call_key, c.nas, c.from_tag, c.to_tag, c.sip_code, c.disposition, c.revision, c.digest, c.events,
        c.attempts,
    )  # fmt: skip
    return select(*columns).where(_among(cdr, hashes), cdr.c.superseded_at.is_(None))


def _among(table: Table, hashes: Sequence[int]) -> Any:
    return table.c.call_hash.in_(hashes)


def due_groups(conn: Connection, now_us: int, limit: int) -> dict[str, int]:
    """Return the groups (key -> hash) of open calls whose time has come, the longest due first."""
    columns = (open_call.c.call_key, open_call.c.call_hash)
    query = select(*columns).where(open_call.c.due_us <= now_us).order_by(open_call.c.due_us).limit(limit)
    return {row.call_key: row.call_hash for row in conn.execute(query)}


def groups_of_nas(conn: Connection, nas: Iterable[str], since: datetime, until: datetime) -> dict[str, int]:
    """Return the groups (key -> hash) of these NASes' calls that a restart within [since, until] may concern.

    Those are all that are open, and those with a report since then that had begun by then: their session id may have
    been used again after the restart.
    """
    names = sorted(nas)
    queries = (
        select(open_call.c.call_key, open_call.c.call_hash).where(open_call.c.nas.in_(names)),
        select(call_exception.c.call_key, call_exception.c.call_hash).where(
            call_exception.c.reported_at >= since, call_exception.c.nas.in_(names)
        ),
        select(cdr.c.call_key, cdr.c.call_hash).where(
            cdr.c.closed_at >= since,
            cdr.c.answered_at <= until,
            cdr.c.superseded_at.is_(None),
            cdr.c.nas.in_(names),
        ),
    )
    return {row.call_key: row.call_hash for query in queries for row in conn.execute(query)}


def insert_open(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert open calls; rows in the table's column order."""
    insert_rows(conn, open_call, rows)


def delete_open(conn: Connection, ids: Sequence[int]) -> int:
    """Delete open calls that are open no longer, or are written again; return how many there were."""
    return sum(conn.execute(delete(open_call).where(open_call.c.id.in_(some))).rowcount for some in key_chunks(ids))


def insert_cdrs(conn: Connection, rows: Sequence[CdrRow]) -> None:
    """Insert CDR revisions."""
    insert_rows(conn, cdr, rows)


def insert_charges(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert charges and reversals; rows in the table's column order."""
    insert_rows(conn, charge, rows)


def supersede(conn: Connection, revisions: Sequence[tuple[int, int]], at: datetime) -> None:
    """Mark (cdr id, revision) as no longer the latest, and hand their evidence on."""
    if revisions:
        conn.execute(
            update(cdr)
            .where(cdr.c.id == bindparam("of_id"), cdr.c.revision == bindparam("of_revision"))
            .values(superseded_at=at, attempts=0, events=b""),
            [{"of_id": cdr_id, "of_revision": revision} for cdr_id, revision in revisions],
        )


def set_evidence(conn: Connection, evidence: Sequence[tuple[int, int, int, Sequence[int]]]) -> None:
    """Store which events now belong to (cdr id, revision, attempts, refs): witnesses, not figures."""
    if evidence:
        conn.execute(
            update(cdr)
            .where(cdr.c.id == bindparam("of_id"), cdr.c.revision == bindparam("of_revision"))
            .values(attempts=bindparam("to_attempts"), events=bindparam("to_events")),
            [
                {"of_id": cdr_id, "of_revision": revision, "to_attempts": attempts, "to_events": pack_refs(refs)}
                for cdr_id, revision, attempts, refs in evidence
            ],
        )


def load_latest(conn: Connection, ids: Sequence[int]) -> dict[int, CdrRow]:
    """Return the latest revision of each of these CDRs."""
    rows: dict[int, CdrRow] = {}
    for some in key_chunks(ids):
        for row in conn.execute(select(cdr).where(cdr.c.id.in_(some), cdr.c.superseded_at.is_(None))):
            rows[row.id] = CdrRow(*row)
    return rows


def revisions(conn: Connection, cdr_id: int) -> list[CdrRow]:
    """Return all revisions of one CDR, first to last."""
    return [CdrRow(*row) for row in conn.execute(select(cdr).where(cdr.c.id == cdr_id).order_by(cdr.c.revision))]


def charges_of(conn: Connection, cdr_id: int) -> Sequence[Row[Any]]:
    """Return all charge rows of one CDR, in the order they were made."""
    query = select(charge).where(charge.c.cdr_id == cdr_id).order_by(charge.c.revision, charge.c.line)
    return conn.execute(query).all()


def live_charges(conn: Connection, ids: Sequence[int]) -> dict[int, list[LiveCharge]]:
    """Return, for each of these CDRs, the charges that no reversal has taken back."""
    live: dict[int, list[LiveCharge]] = {}
    for some in key_chunks(ids):
        query = select(charge).where(charge.c.cdr_id.in_(some))
        rows = conn.execute(query.order_by(charge.c.cdr_id, charge.c.revision, charge.c.line)).all()
        # not by NOT EXISTS: MariaDB 10.11 then reads the whole table for every query
        taken_back = {(row.cdr_id, row.reverses_revision, row.reverses_line) for row in rows if row.kind == "reversal"}
        for row in rows:
            if row.kind == "charge" and (row.cdr_id, row.revision, row.line) not in taken_back:
                said = Charge(*(getattr(row, name) for name in Charge._fields))
                live.setdefault(row.cdr_id, []).append(
                    LiveCharge(row.cdr_id, row.revision, row.line, row.period, row.service_at, said)
                )
    return live


def select_for_rerate(
    conn: Connection, account_id: int | None, since: datetime | None, until: datetime | None, ids: Sequence[int] = ()
) -> dict[int, tuple[str, int]]:
    """Return the answered CDRs (id -> group key, hash) that ended in [since, until).

    Of one account: those that are its own or nobody's, or for which it has been charged as a forwarder.
    """
    wanted = [cdr.c.superseded_at.is_(None), cdr.c.disposition == "answered"]
    if account_id is not None:
        pays = exists().where(charge.c.cdr_id == cdr.c.id, charge.c.account_id == account_id)
        wanted.append((cdr.c.account_id == account_id) | cdr.c.account_id.is_(None) | pays)
    if since is not None:
        wanted.append(cdr.c.closed_at >= since)
    if until is not None:
        wanted.append(cdr.c.closed_at < until)
    query = select(cdr.c.id, cdr.c.call_key, cdr.c.call_hash).where(and_(*wanted))
    queries = [query.where(cdr.c.id.in_(some)) for some in key_chunks(ids)] if ids else [query]
    return {row.id: (row.call_key, row.call_hash) for query in queries for row in conn.execute(query)}


def load_open(conn: Connection, call_id: int | None = None) -> Sequence[Row[Any]]:
    """Return the open calls, in the order of their ids; or the one with this id, if it is open."""
    query = select(open_call).order_by(open_call.c.id)
    return conn.execute(query if call_id is None else query.where(open_call.c.id == call_id)).all()


def open_summary(conn: Connection) -> tuple[int, datetime | None]:
    """Return how many calls are open and the last report of the one that has been silent longest."""
    row = conn.execute(select(func.count(), func.min(open_call.c.reported_at))).one()
    return row[0], row[1]


def owned_refs(conn: Connection) -> Iterator[tuple[str, int, bytes, int]]:
    """Yield (owner, id, packed refs, attempts) of every row that owns evidence, for verify."""
    for call_id, packed in conn.execute(select(open_call.c.id, open_call.c.events)):
        yield "open", call_id, packed, 0
    latest = select(cdr.c.id, cdr.c.events, cdr.c.attempts).where(cdr.c.superseded_at.is_(None))
    for row in conn.execution_options(yield_per=10_000).execute(latest):
        yield "cdr", row.id, row.events, row.attempts
