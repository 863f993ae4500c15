"""Rows for spools, spools as a kill or a bad disk leaves them, and what the journal has of them."""

import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic

from sqlalchemy import select

from accounting.db.append import NewRow
from accounting.db.engine import Database
from accounting.db.spool_file import take_spool
from accounting.db.tables import journal
from accounting.journal import gaps

DAY_US = 86_400_000_000
PEER = bytes(18)
MIB = 1024 * 1024
PATIENCE_S = 30


def rows(first: int, number: int, day: int = 0) -> list[NewRow]:
    return [(day * DAY_US + n, 0, PEER, b"request %d" % n) for n in range(first, first + number)]


def raws(database: Database) -> list[bytes]:
    with database.journal_read() as conn:
        return list(conn.execute(select(journal.c.raw).order_by(journal.c.writer, journal.c.seq)).scalars())


def wait_until_stored(database: Database, wanted: Sequence[NewRow]) -> None:
    end = monotonic() + PATIENCE_S
    while len(raws(database)) < len(wanted):
        assert monotonic() < end, "the spool was not moved"
    assert sorted(raws(database)) == sorted(row[3] for row in wanted)


def until(true: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE_S
    while not true():
        assert monotonic() < end, "waited in vain"
        signal.sigtimedwait((), 0.01)


def missing(database: Database) -> int:
    """Return how many rows the writers' seq lack."""
    with database.journal_read() as conn:
        return sum(count.last - count.rows for count in gaps(conn))


def left_open(folder: Path, number: int) -> Path:
    """Leave a spool as a process that was killed leaves it."""
    spool = take_spool(folder, 64 * MIB)
    for n in range(0, number, 10):
        spool.append(rows(n, 10), ["{}"])
    for name in ("", "-wal"):
        (folder / f"copy{name}").write_bytes(spool.path.with_name(spool.path.name + name).read_bytes())
    path = spool.path
    spool.close()
    for name in ("", "-wal"):
        (folder / f"copy{name}").rename(path.with_name(path.name + name))
    return path


def damaged(folder: Path) -> Path:
    """Leave a spool of 2000 rows, some in its middle overwritten."""
    path = left_open(folder, 2_000)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    octets = bytearray(path.read_bytes())
    octets[-50_000:-40_000] = b"\xff" * 10_000
    path.write_bytes(octets)
    return path
