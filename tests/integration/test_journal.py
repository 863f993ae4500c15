"""The journal on both databases: numbering, an append in doubt, reading after offsets, sources."""

import sqlite3
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from accounting.db.append import NewRow
from accounting.db.engine import Database, open_database
from accounting.db.url import parse_url
from accounting.event import Source, pack_ref, unpack_ref
from accounting.journal import (
    DAY_US,
    JournalRow,
    JournalUnavailable,
    JournalWriter,
    ends,
    fetch,
    gaps,
    load_sources,
    read_after,
    register_source,
    seq_counts,
    writers,
)

DAY = 20_000 * DAY_US
AWKWARD = bytes(range(256)) + b"\\'\"\x00%s?:x" + "Zoë".encode()


def rows(number: int, *, at: int = DAY, raw: bytes = b"raw") -> list[NewRow]:
    return [(at + place, 1, bytes(18), raw + b"%d" % place) for place in range(number)]


def writer_of(database: Database, name: str = "test") -> JournalWriter:
    return JournalWriter(database, "receiver", name, clock=lambda: DAY)


def stored(database: Database) -> list[JournalRow]:
    with database.journal_read() as conn:
        assert gaps(conn) == []
        return read_after(conn, {}, 1_000_000)


def test_rows_are_numbered_from_1_without_gaps_and_come_back_as_they_were(database: Database) -> None:
    writer = writer_of(database)
    first = writer.append([(DAY, 7, bytes(range(18)), AWKWARD)])
    second = writer.append(rows(3))
    assert [unpack_ref(ref) for ref in first + second] == [(writer.writer, seq) for seq in (1, 2, 3, 4)]
    found = stored(database)
    assert found[0] == JournalRow(first[0], DAY, 7, bytes(range(18)), AWKWARD)
    assert [row.ref for row in found] == first + second
    with database.journal_read() as conn:
        assert ends(conn) == {writer.writer: 4}


def test_nothing_to_append_is_nothing(database: Database) -> None:
    writer = writer_of(database)
    assert writer.append([]) == []
    assert writer.writer == 0


def test_each_start_is_a_new_writer(database: Database) -> None:
    for name in ("a", "b"):
        writer = writer_of(database, name)
        writer.append(rows(1))
        writer.close()
    with database.journal_read() as conn:
        found = writers(conn)
    assert [(row.kind, row.name, row.started_us) for row in found] == [("receiver", "a", DAY), ("receiver", "b", DAY)]
    assert found[0].id < found[1].id


def test_a_new_utc_day_is_a_new_writer(database: Database) -> None:
    writer = writer_of(database)
    writer.open()
    before = writer.append(rows(2, at=DAY + DAY_US - 3))
    after = writer.append(rows(2, at=DAY + DAY_US))
    assert unpack_ref(after[0])[0] > unpack_ref(before[0])[0]
    assert [unpack_ref(ref)[1] for ref in before + after] == [1, 2, 1, 2]
    assert after[0] > before[-1]


def test_a_batch_that_needs_several_statements_is_one_transaction(database: Database) -> None:
    writer = writer_of(database)
    refs = writer.append(rows(400, raw=b"x" * 4000))
    assert [row.ref for row in stored(database)] == refs


class Trouble:
    """Stands between a writer and its connection, and breaks it where a test says."""

    def __init__(self, appender: object, *, committed: bool) -> None:
        self.appender = appender
        self.committed = committed

    def insert(self, writer: int, first_seq: int, rows: Sequence[NewRow], position: object = None) -> None:
        if self.committed:
            self.appender.insert(writer, first_seq, rows, position)  # type: ignore[attr-defined]
        raise sqlite3.OperationalError("the connection broke")

    def close(self) -> None:
        self.appender.close()  # type: ignore[attr-defined]


def broken(writer: JournalWriter, *, committed: bool) -> None:
    writer._errors = (*writer._errors, sqlite3.OperationalError)  # type: ignore[assignment]
    writer._appender = Trouble(writer._appender, committed=committed)  # type: ignore[assignment]


@pytest.mark.parametrize("committed", [True, False])
def test_after_a_commit_of_unknown_outcome_it_goes_on_from_what_is_stored(database: Database, committed: bool) -> None:
    writer = writer_of(database)
    writer.append(rows(2))
    broken(writer, committed=committed)
    doubtful = rows(3, raw=b"doubtful")
    with pytest.raises(JournalUnavailable):
        writer.append(doubtful)
    refs = writer.append([*doubtful, *rows(1, raw=b"more")])
    assert [unpack_ref(ref)[1] for ref in refs] == [3, 4, 5, 6]
    assert [row.raw for row in stored(database)] == [
        b"raw0",
        b"raw1",
        b"doubtful0",
        b"doubtful1",
        b"doubtful2",
        b"more0",
    ]


def test_an_append_in_doubt_keeps_its_writer_over_midnight(database: Database) -> None:
    writer = writer_of(database)
    writer.append(rows(1, at=DAY + DAY_US - 9))
    first = writer.writer
    broken(writer, committed=True)
    late = rows(1, at=DAY + DAY_US - 5)
    with pytest.raises(JournalUnavailable):
        writer.append(late)
    assert unpack_ref(writer.append(late)[0]) == (first, 2)
    writer.append(rows(1, at=DAY + DAY_US))
    assert len(stored(database)) == 3


def test_an_append_in_doubt_must_be_repeated(database: Database) -> None:
    writer = writer_of(database)
    writer.append(rows(1))
    broken(writer, committed=True)
    with pytest.raises(JournalUnavailable):
        writer.append(rows(1, raw=b"a"))
    with pytest.raises(AssertionError, match="not repeated"):
        writer.append(rows(1, raw=b"b"))


def test_a_connection_that_the_server_ended_is_made_again(mariadb_url: str) -> None:
    with open_database(mariadb_url) as database:
        writer = writer_of(database)
        writer.append(rows(1))
        end_all_connections(database)
        with pytest.raises(JournalUnavailable, match="cannot be written"):
            writer.append(rows(2))
        writer.append(rows(2))
        assert len(stored(database)) == 3
        writer.close()


def end_all_connections(database: Database) -> None:
    with database.journal_write() as conn:
        own = conn.execute(text("SELECT connection_id()")).scalar_one()
        listed = conn.execute(text("SELECT id FROM information_schema.processlist WHERE db = database()"))
        for number in set(listed.scalars()) - {own}:
            conn.execute(text(f"KILL {number}"))


@pytest.mark.parametrize("answer_s", [1, 7])
def test_a_lock_of_a_sqlite_file_is_waited_for_as_long_as_an_answer(sqlite_url: str, answer_s: int) -> None:
    with Database(parse_url(sqlite_url), answer_s) as database:
        writer = writer_of(database)
        writer.open()
        connection = writer._appender._dbapi  # type: ignore[union-attr]
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (answer_s * 1000,)
        writer.close()


def test_a_gap_is_found(database: Database) -> None:
    writer = writer_of(database)
    writer.append(rows(5))
    other = writer_of(database)
    other.append(rows(2))
    with database.journal_write() as conn:
        conn.execute(text(f"DELETE FROM journal WHERE writer = {writer.writer} AND seq = 3"))
    with database.journal_read() as conn:
        assert [(count.writer, count.first, count.last, count.rows) for count in seq_counts(conn)] == [
            (writer.writer, 1, 5, 4),
            (other.writer, 1, 2, 2),
        ]
        assert [count.writer for count in gaps(conn)] == [writer.writer]


def test_rows_after_the_offsets_are_read_in_order_and_shared_out_fairly(database: Database) -> None:
    busy, quiet = writer_of(database, "busy"), writer_of(database, "quiet")
    busy.append(rows(50))
    quiet.append(rows(3))
    with database.journal_read() as conn:
        found = [unpack_ref(row.ref) for row in read_after(conn, {busy.writer: 10}, 10)]
        assert found == [(busy.writer, seq) for seq in range(11, 18)] + [(quiet.writer, seq) for seq in (1, 2, 3)]
        assert len(read_after(conn, {busy.writer: 10}, 1000)) == 43
        assert read_after(conn, {busy.writer: 50, quiet.writer: 3}, 10) == []
        assert len(read_after(conn, {}, 1)) == 1


def test_rows_are_fetched_by_position(database: Database) -> None:
    one, two = writer_of(database), writer_of(database)
    refs = one.append(rows(2500)) + two.append(rows(5))
    wanted = [*refs[:1200], *refs[-2:], pack_ref(one.writer, 9999), refs[0]]
    with database.journal_read() as conn:
        found = fetch(conn, wanted)
        assert fetch(conn, []) == []
    assert {row.ref for row in found} == set(refs[:1200] + refs[-2:])
    assert len(found) == 1202


def test_the_same_settings_are_one_source_and_others_another(database: Database) -> None:
    source = Source(0, "proxy", dialects=("opensips", "mediaproxy"), dictionary="VENDOR\tZoë 1\n", rank=2)
    first = register_source(database, source)
    assert register_source(database, source._replace(id=99)) == first
    second = register_source(database, source._replace(rank=1))
    assert second != first
    with database.journal_read() as conn:
        assert load_sources(conn) == {
            first: source._replace(id=first),
            second: source._replace(id=second, rank=1),
        }
