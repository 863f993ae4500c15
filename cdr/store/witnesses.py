"""The evidence of ended calls, read in chunks: which journal positions each CDR rests on. Writes nothing."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from cdr.settle import unpack_refs
from cdr.store.tables import cdr

CALLS_PER_CHUNK = 2_000


class Witnessed(NamedTuple):
    """One CDR and the journal positions of all its evidence."""

    cdr_id: int
    call_id: str
    refs: tuple[int, ...]


def ended_between(conn: Connection, start: datetime, end: datetime) -> Iterator[Sequence[Witnessed]]:
    """Yield, in chunks, the latest CDRs of calls that ended in [start, end)."""
    c = cdr.c
    query = (
        select(c.id, c.call_id, c.events)
        .where(c.closed_at >= start, c.closed_at < end, c.superseded_at.is_(None), c.disposition != "void")
        .order_by(c.closed_at, c.id)
    )
    for some in conn.execution_options(yield_per=CALLS_PER_CHUNK).execute(query).partitions():
        yield [Witnessed(row.id, row.call_id, unpack_refs(row.events)) for row in some]
