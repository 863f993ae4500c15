"""The database's promises, the same on SQLite and MariaDB."""

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError

from accounting.db.bulk import insert_rows
from accounting.db.engine import Database
from accounting.db.tables import journal, writer

ALL_BYTES = bytes(range(256))


def test_bulk_insert_gives_back_every_byte_and_character(database: Database) -> None:
    raws = [ALL_BYTES * 3, ALL_BYTES[::-1], b"", b"'", b"\\", b'"', b"%s %d %%", b"\xc3(", b"\xf0\x28\x8c\x28"]
    rows = [(1, seq, seq * 1000, 7, b"\x7f\x00\x00\x01\x07\x15", raw) for seq, raw in enumerate(raws, 1)]
    with database.journal_write() as conn:
        insert_rows(conn, journal, rows)
    with database.journal_read() as conn:
        assert [tuple(row) for row in conn.execute(select(journal).order_by(journal.c.seq))] == rows


def test_read_refuses_to_write(database: Database) -> None:
    with database.journal_read() as conn, pytest.raises(DBAPIError):
        conn.execute(insert(writer).values(kind="receiver", name="n", host="h", pid=1, started_us=1))
