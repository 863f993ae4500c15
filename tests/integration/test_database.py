"""The database's promises, the same on SQLite and MariaDB."""

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, MetaData, Table, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from accounting.base.errors import TollbookError
from accounting.db import bulk
from accounting.db.bulk import insert_rows
from accounting.db.engine import Database, LeaseHeld, as_problem, open_database
from accounting.db.tables import journal, writer
from accounting.db.types import BigId, Bytes, Instant, LongText, Name

ALL_BYTES = bytes(range(256))
WRITER = {"kind": "receiver", "name": "n", "host": "h", "pid": 1, "started_us": 1}
HOLD_LEASE = """
import sys
from accounting.db.engine import open_database
with open_database(sys.argv[1]) as database, database.lease("work"):
    print("held", flush=True)
    sys.stdin.read()
"""

everything = Table(
    "everything",
    MetaData(),
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("name", Name(255)),
    Column("words", LongText()),
    Column("raw", Bytes()),
    Column("at", Instant),
    mysql_engine="InnoDB",
)


@pytest.fixture
def table(database: Database) -> Iterator[Table]:
    """A table with a column of each type."""
    with database.write() as conn:
        everything.create(conn)
    yield everything
    with database.write() as conn:
        everything.drop(conn)


def count_writers(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(writer)).scalar_one()


# ---- bulk inserts


def test_bulk_insert_gives_back_every_value(database: Database, table: Table) -> None:
    texts = ["", " ", "a", "a ", "'", '"', "\\", "\\'", "%s %d %%", "\x00\n\r\x1a", "ü€𝄞😀", "?:x", "NULL"]
    blobs = [ALL_BYTES * 3, ALL_BYTES[::-1], b"", b"'", b"\\", b"%s", b"\xc3(", b"\xf0\x28\x8c\x28", b"\xff\x27\x00"]
    blobs += [random.Random(n).randbytes(n) for n in range(1, 200)]
    instants = [None, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=UTC)]
    rows: list[tuple[Any, ...]] = [
        (
            n or -(2**63),
            texts[n % len(texts)],
            None if n % 5 == 0 else texts[-n % len(texts)] * 3,
            blobs[n % len(blobs)],
            instants[n % len(instants)],
        )
        for n in range(600)
    ]
    with database.write() as conn:
        insert_rows(conn, table, rows)
    with database.read() as conn:
        assert sorted(tuple(row) for row in conn.execute(select(table))) == sorted(rows)


def test_bulk_insert_stores_instants_as_single_inserts_do(database: Database, table: Table) -> None:
    at = datetime(2026, 11, 24, 8, 7, 43, tzinfo=timezone(timedelta(hours=1)))
    with database.write() as conn:
        insert_rows(conn, table, [(1, "bulk", None, None, at)])
        conn.execute(insert(table).values(id=2, name="single", at=at))
        conn.execute(insert(table), [{"id": 3, "name": "many", "at": at}])
        stored = conn.execute(text("SELECT DISTINCT CAST(at AS CHAR) FROM everything")).scalars().all()
        assert stored == ["2026-11-24 07:07:43.000000"]


def test_bulk_insert_is_split_below_the_servers_packet(
    database: Database, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "STATEMENT_BYTES_MAX", 1000)
    rows = [(n, "n", None, b"x" * (50 if n % 10 else 3000), None) for n in range(100)]
    with database.write() as conn:
        insert_rows(conn, table, rows)
        insert_rows(conn, table, [(1000, "n", None, b"x" * 9_000_000, None)])
    with database.read() as conn:
        assert conn.execute(select(func.count(), func.sum(func.length(table.c.raw)))).one() == (101, 9_034_500)


@pytest.mark.parametrize(
    ("column", "value"), [(0, 1.0), (0, "1"), (1, b"x"), (1, 1), (3, "x"), (4, "2026-01-01"), (4, 1.5)]
)
def test_bulk_insert_refuses_values_of_another_type(
    database: Database, table: Table, column: int, value: object
) -> None:
    row: list[Any] = [1, "n", None, None, None]
    row[column] = value
    with database.write() as conn:
        with pytest.raises(TypeError, match=rf"everything.{list(table.c)[column].name} takes"):
            insert_rows(conn, table, [tuple(row)])
        with pytest.raises(ValueError, match="naive"):
            insert_rows(conn, table, [(1, "n", None, None, datetime(2026, 1, 1))])  # noqa: DTZ001
        with pytest.raises(TypeError, match="5 columns"):
            insert_rows(conn, table, [(1, "n")])
        insert_rows(conn, table, [])


def test_bulk_insert_raises_sqlalchemys_errors_and_shows_no_values(database: Database, table: Table) -> None:
    with pytest.raises(IntegrityError) as caught, database.write() as conn:
        insert_rows(conn, table, [(1, "hush", None, None, None)] * 2)
    assert "hush" not in str(caught.value)
    with database.read() as conn:
        assert conn.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_text_is_compared_byte_for_byte(database: Database, table: Table) -> None:
    with database.write() as conn:
        insert_rows(conn, table, [(n, name, None, None, None) for n, name in enumerate(["a", "A", "a ", "ä"])])
        assert conn.execute(select(table.c.id).where(table.c.name == "a")).scalars().all() == [0]


# ---- transactions


def test_write_commits_at_the_end_and_rolls_back_on_an_exception(database: Database) -> None:
    with database.journal_write() as conn:
        conn.execute(insert(writer).values(WRITER))
    with pytest.raises(KeyError), database.journal_write() as conn:
        conn.execute(insert(writer).values(WRITER))
        raise KeyError
    with database.journal_read() as conn:
        assert count_writers(conn) == 1


def test_read_sees_one_snapshot_from_its_beginning(database: Database) -> None:
    with database.journal_read() as reading:
        with database.journal_write() as conn:
            conn.execute(insert(writer).values(WRITER))
        assert count_writers(reading) == 0
    with database.journal_read() as reading:
        assert count_writers(reading) == 1


def test_read_refuses_to_write_and_the_connection_can_write_afterwards(database: Database) -> None:
    with pytest.raises(DBAPIError), database.journal_read() as conn:
        conn.execute(insert(writer).values(WRITER))
    with database.journal_write() as conn:
        conn.execute(insert(writer).values(WRITER))


def test_write_sees_what_others_committed_meanwhile_on_mariadb(mariadb_url: str) -> None:
    with open_database(mariadb_url) as database, database.write() as conn:
        assert count_writers(conn) == 0
        with database.journal_write() as other:
            other.execute(insert(writer).values(WRITER))
        assert count_writers(conn) == 1


def test_mariadb_sessions_are_strict_and_in_utc(mariadb_url: str) -> None:
    with open_database(mariadb_url) as database:
        with database.write() as conn:
            row = conn.exec_driver_sql("SELECT @@sql_mode, @@time_zone, @@tx_isolation, @@character_set_client").one()
        assert "STRICT_ALL_TABLES" in row[0]
        assert tuple(row[1:]) == ("+00:00", "READ-COMMITTED", "utf8mb4")
        with pytest.raises(DBAPIError), database.write() as conn:
            conn.execute(insert(writer).values({**WRITER, "kind": "x" * 17}))


def test_sqlite_commits_are_durable_and_writers_wait(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database, database.write() as conn:
        pragmas = [
            conn.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous", "foreign_keys")
        ]
        assert pragmas == ["wal", 2, 1]
        assert conn.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


def test_the_receivers_commit_does_not_wait_for_the_pipelines_on_sqlite(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database, database.write(), database.journal_write() as conn:
        insert_rows(conn, journal, [(1, 1, 1, 1, b"", b"")])


# ---- leases


@pytest.fixture
def holder(database_url: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lease "work"."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LEASE, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lease_is_one_processs_and_names_it(database: Database, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(LeaseHeld) as caught, database.lease("work", 0.1):
        pass
    named = f"pid {holder.pid}" if database.dialect == "sqlite" else "connection "
    assert named in str(caught.value)
    with database.lease("other"):
        pass


def test_a_lease_is_free_at_once_after_a_crash(database: Database, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    with database.lease("work", 5):
        pass


def test_a_lease_ends_with_its_block(database: Database) -> None:
    with database.lease("work"), pytest.raises(LeaseHeld), database.lease("work"):
        pass
    with pytest.raises(KeyError), database.lease("work"):
        raise KeyError
    with database.lease("work"):
        pass


# ---- what goes wrong


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://root@127.0.0.1:1/tollbook", "cannot be opened"),
        ("mysql://root:hush@127.0.0.1/", "names no database"),
        ("postgresql://u:hush@h/d", "begins with postgresql://"),
        ("hush", "cannot be read"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("sqlite:////no/such/folder/t.db", "there is no folder /no/such/folder"),
    ],
)
def test_a_database_that_cannot_be_opened_is_one_clear_line(url: str, words: str) -> None:
    with pytest.raises(TollbookError) as caught:
        open_database(url, check_schema=False)
    assert words in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("this is no database at all\n" * 100)
    with pytest.raises(TollbookError, match="file is not a database"):
        open_database(f"sqlite:///{tmp_path}/t.db")


def test_a_full_disk_is_told_as_such(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database:
        with pytest.raises(DBAPIError) as caught, database.journal_write() as conn:
            conn.exec_driver_sql("PRAGMA max_page_count = 20")
            insert_rows(conn, journal, [(1, 1, 1, 1, b"", bytes(1_000_000))])
        assert "disk is full; make room" in str(as_problem(caught.value))


def test_mariadb_is_reached_by_its_socket(mariadb_url: str) -> None:
    with open_database(mariadb_url) as database, database.read() as conn:
        path = conn.exec_driver_sql("SELECT @@socket").scalar_one()
    name = mariadb_url.rsplit("/", 1)[1]
    open_database(f"mysql://root@localhost/{name}?unix_socket={path}").dispose()


def test_a_connection_that_the_server_closed_is_replaced(mariadb_url: str) -> None:
    with open_database(mariadb_url) as database:
        with database.read() as conn:
            number = conn.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
        with open_database(mariadb_url) as other, other.write() as conn:
            conn.exec_driver_sql(f"KILL {number}")
        with database.read() as conn:
            assert conn.exec_driver_sql("SELECT 1").scalar_one() == 1
