"""Tables call_exception, cdr_dismissal, quarantine and source_override: what needs a person."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from accounting.db.bulk import insert_rows, key_chunks
from cdr.store.tables import call_exception, cdr, cdr_dismissal, quarantine, source_override


def insert_exceptions(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert call exceptions; rows in the table's column order."""
    insert_rows(conn, call_exception, rows)


def delete_exceptions(conn: Connection, ids: Sequence[int]) -> int:
    """Delete call exceptions that later evidence has settled, or that are written again; return how many there were."""
    gone = (delete(call_exception).where(call_exception.c.id.in_(some)) for some in key_chunks(ids))
    return sum(conn.execute(statement).rowcount for statement in gone)


def list_exceptions(conn: Connection, *, dismissed: bool = False) -> Sequence[Row[Any]]:
    """Return call exceptions, oldest first."""
    query = select(call_exception).order_by(call_exception.c.id)
    return conn.execute(query if dismissed else query.where(call_exception.c.status == "open")).all()


def list_cdr_exceptions(conn: Connection, *, dismissed: bool = False) -> Sequence[Any]:
    """Return the latest CDR revisions that carry exception codes or are unrated, oldest first."""
    seen = (cdr_dismissal.c.cdr_id == cdr.c.id) & (cdr_dismissal.c.revision == cdr.c.revision)
    columns = (
        cdr.c.id, cdr.c.revision, cdr.c.call_id, cdr.c.source, cdr.c.exception, cdr.c.rating, cdr.c.rating_reason,
        cdr.c.called, cdr.c.closed_at, cdr_dismissal.c.dismissed_at,
    )  # fmt: skip
    query = (
        select(*columns)
        .select_from(cdr.outerjoin(cdr_dismissal, seen))
        .where(cdr.c.superseded_at.is_(None), (cdr.c.exception != "") | (cdr.c.rating == "unrated"))
        .order_by(cdr.c.id)
    )
    return conn.execute(query if dismissed else query.where(cdr_dismissal.c.cdr_id.is_(None))).all()


def dismiss_exception(conn: Connection, call_id: int, actor: str, at: datetime) -> bool:
    """Mark an open call exception as seen; return whether there was one."""
    done = conn.execute(
        update(call_exception)
        .where(call_exception.c.id == call_id, call_exception.c.status == "open")
        .values(status="dismissed", dismissed_at=at, dismissed_by=actor)
    )
    return done.rowcount == 1


def dismiss_cdr(conn: Connection, cdr_id: int, revision: int, actor: str, at: datetime) -> None:
    """Record that an operator has seen the exception codes of this CDR revision."""
    conn.execute(insert(cdr_dismissal).values(cdr_id=cdr_id, revision=revision, dismissed_at=at, dismissed_by=actor))


def insert_quarantined(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert quarantined events; rows in the table's column order."""
    insert_rows(conn, quarantine, rows)


def delete_quarantined(conn: Connection, refs: Sequence[int]) -> int:
    """Delete events from quarantine that could be translated after all; return how many there were."""
    gone = (delete(quarantine).where(quarantine.c.ref.in_(some)) for some in key_chunks(refs))
    return sum(conn.execute(statement).rowcount for statement in gone)


def list_quarantined(conn: Connection) -> Sequence[Row[Any]]:
    """Return quarantined events, oldest first."""
    return conn.execute(select(quarantine).order_by(quarantine.c.ref)).all()


def quarantined_refs(conn: Connection) -> Sequence[int]:
    """Return the journal positions in quarantine, for verify."""
    return conn.scalars(select(quarantine.c.ref)).all()


def load_overrides(conn: Connection, refs: Iterable[int]) -> dict[int, int]:
    """Return, for those of these events that a retry reads with a later source version, its id."""
    if conn.execute(select(source_override.c.ref).limit(1)).first() is None:
        return {}
    found: dict[int, int] = {}
    for some in key_chunks(list(refs)):
        for row in conn.execute(select(source_override).where(source_override.c.ref.in_(some))):
            found[row.ref] = row.source_id
    return found


def set_overrides(conn: Connection, source_of: Mapping[int, int | None]) -> None:
    """Read these events (ref -> source version id) with another source version from now on; None: with their own."""
    for some in key_chunks(list(source_of)):
        conn.execute(delete(source_override).where(source_override.c.ref.in_(some)))
    insert_rows(conn, source_override, [(ref, source) for ref, source in source_of.items() if source is not None])


def exception_refs(conn: Connection) -> Iterator[tuple[int, bytes]]:
    """Yield (id, packed refs) of every call exception, for verify."""
    for row in conn.execute(select(call_exception.c.id, call_exception.c.events)):
        yield row.id, row.events
