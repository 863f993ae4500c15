"""Tables journal_offset, batch and nas_reboot: how far the journal has been read, and what became of its events."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from accounting.base.errors import TollbookError
from accounting.db.bulk import key_chunks
from accounting.event import AccountingEvent, unpack_ref
from cdr.store.tables import batch, journal_offset, nas_reboot

COUNTS = (
    "events_read", "events_used", "events_open", "events_attempts", "events_duplicate", "events_other",
    "events_exception", "events_quarantined", "cdrs", "charges",
)  # fmt: skip


class OvertakenError(TollbookError):
    """Another process committed a batch in between; nothing of this one was written."""


def last_batch(conn: Connection) -> int:
    """Return the id of the latest committed batch, 0 before the first."""
    return int(conn.execute(select(func.coalesce(func.max(batch.c.id), 0))).scalar_one())


def load_offsets(conn: Connection) -> dict[int, int]:
    """Return how far each writer's rows have been read (writer -> seq)."""
    return {row.writer: row.seq for row in conn.execute(select(journal_offset))}


def insert_batch(conn: Connection, batch_id: int, kind: str, at: datetime, counts: Mapping[str, int]) -> None:
    """Take the next batch id; raise OvertakenError if another process took it."""
    if last_batch(conn) != batch_id - 1:
        raise OvertakenError(_overtaken(batch_id))
    row = {name: counts.get(name, 0) for name in COUNTS}
    try:
        conn.execute(insert(batch).values(id=batch_id, kind=kind, committed_at=at, **row))
    except IntegrityError as error:  # the other process commits in this very moment
        raise OvertakenError(_overtaken(batch_id)) from error


def _overtaken(batch_id: int) -> str:
    return f"batch {batch_id} was committed by another process; nothing was written, try again"


def check_unread(offsets: Mapping[int, int], refs: Iterable[int]) -> None:
    """Raise OvertakenError unless all these journal positions lie behind the offsets: they were read without a lock."""
    first: dict[int, int] = {}
    for writer, seq in map(unpack_ref, refs):
        first[writer] = min(seq, first.get(writer, seq))
    for writer, seq in sorted(first.items()):
        if seq <= offsets.get(writer, 0):
            raise OvertakenError(f"writer {writer} was read on by another process; nothing was written, try again")


def check_gone(deleted: int, wanted: Sized) -> None:
    """Raise OvertakenError unless as many rows were deleted as there were to delete."""
    if deleted != len(wanted):
        raise OvertakenError(f"another process took {len(wanted) - deleted} rows; nothing was written, try again")


def move_offsets(conn: Connection, before: Mapping[int, int], after: Mapping[int, int]) -> None:
    """Move each writer's offset from before to after, or raise OvertakenError if it is not where it was."""
    for writer, seq in sorted(after.items()):
        if writer not in before:
            conn.execute(insert(journal_offset).values(writer=writer, seq=seq))
            continue
        moved = conn.execute(
            update(journal_offset)
            .where(journal_offset.c.writer == writer, journal_offset.c.seq == before[writer])
            .values(seq=seq)
        )
        if moved.rowcount != 1:
            raise OvertakenError(f"writer {writer} was read on by another process; nothing was written, try again")


def sums(conn: Connection) -> dict[str, int]:
    """Return the sums of all batches' counts."""
    row = conn.execute(select(*(func.coalesce(func.sum(batch.c[name]), 0) for name in COUNTS))).one()
    return {name: int(value) for name, value in zip(COUNTS, row, strict=True)}


def insert_reboots(conn: Connection, reboots: Iterable[AccountingEvent]) -> None:
    """Record starts and stops of NASes (NAS_ON and NAS_OFF events)."""
    rows = [
        {"ref": event.ref, "nas": event.nas, "address": event.nas_address, "at_us": event.at_us} for event in reboots
    ]
    if rows:
        conn.execute(insert(nas_reboot), rows)


def load_reboots(conn: Connection, nases: Sequence[str]) -> dict[str, list[int]]:
    """Return the times (us) of starts and stops of these NASes, whatever name or address those came under."""
    found: dict[str, list[int]] = {}
    for some in map(set, key_chunks(nases)):
        query = select(nas_reboot).where(nas_reboot.c.nas.in_(some) | nas_reboot.c.address.in_(some))
        for row in conn.execute(query):
            for name in some & {row.nas, row.address}:
                found.setdefault(name, []).append(row.at_us)
    return found
