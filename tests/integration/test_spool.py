"""The spool: how what it keeps is moved, and that each row is in the journal once, whatever breaks in between."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from structlog.testing import capture_logs

from accounting.db.append import NewRow
from accounting.db.engine import Database
from accounting.db.spool_file import take_spool
from accounting.db.tables import journal, writer
from accounting.db.url import parse_url
from accounting.event import Source
from accounting.journal import JournalUnavailable, JournalWriter, SpoolWriter, load_sources
from accounting.spool import RELAPSE_S, WELL_S, Recovery, SourceList, SpooledJournal
from accounting.taken import Taken
from tests.support.spool import MIB, PEER, missing, raws, rows, until, wait_until_stored


@pytest.fixture
def sources() -> SourceList:
    made = SourceList()
    assert made.add(Source(id=0, name="proxy-1")) == 0
    return made


@pytest.fixture
def store(database: Database, sources: SourceList, tmp_path: Path) -> Iterator[SpooledJournal]:
    made = SpooledJournal(database, "test", sources, tmp_path / "spool", 64 * MIB)
    yield made
    made.close()


class Refusing:
    """Stands for a database that breaks: `times` appends fail, before or after they are stored."""

    def __init__(self, store: SpooledJournal, times: int, *, after: bool) -> None:
        self._insert = store._writer.append
        self.left = times
        self._after = after
        self._store = store
        store._writer.append = self  # type: ignore[assignment,method-assign]

    def __call__(self, rows: Sequence[NewRow], position: Any = None) -> list[int]:
        if self.left:
            self.left -= 1
            if self._after:
                self._insert(rows)
                writer = self._store._writer
                writer._seq -= len(rows)
                writer._doubtful = rows
            raise JournalUnavailable("it broke")
        return self._insert(rows, position)


@pytest.mark.parametrize("after", [True, False])
def test_what_the_database_did_not_take_is_moved_when_it_is_back(
    store: SpooledJournal, database: Database, after: bool
) -> None:
    store.open()
    store.append(rows(0, 5))
    Refusing(store, 1, after=after)
    store.append(rows(5, 5))
    for n in range(10, 40, 5):
        store.append(rows(n, 5))
    wait_until_stored(database, rows(0, 40))
    assert missing(database) == 0


def test_a_database_that_falls_again_and_again_is_trusted_later_and_later() -> None:
    now = [0.0]
    recovery = Recovery(lambda: now[0])

    def trusted_after() -> float:
        recovery.fell()
        assert not recovery.is_well()
        recovery.took()
        began = now[0]
        while not recovery.is_well():
            now[0] += 1
        recovery.trusted()
        return now[0] - began

    assert [trusted_after() for _ in range(6)] == [*WELL_S, WELL_S[-1], WELL_S[-1]]
    now[0] += RELAPSE_S
    assert [trusted_after() for _ in range(2)] == [*WELL_S[:2]]


def test_a_database_must_have_been_well_all_the_time() -> None:
    now = [0.0]
    recovery = Recovery(lambda: now[0])
    for _ in range(2):
        recovery.fell()
        recovery.took()
        recovery.trusted()
    recovery.fell()
    recovery.took()
    now[0] += WELL_S[2] - 1
    recovery.failed()
    now[0] += WELL_S[2]
    assert not recovery.is_well()
    recovery.took()
    now[0] += WELL_S[2] - 1
    assert not recovery.is_well()
    now[0] += 1
    assert recovery.is_well()


def test_while_a_database_recovers_requests_go_by_the_spool_and_are_moved(
    store: SpooledJournal, database: Database
) -> None:
    now = [0.0]
    store._recovery._clock = lambda: now[0]
    store.open()
    direct = Refusing(store, 2, after=False)
    for n in (0, 5):  # it falls, recovers at once, and falls again
        store.append(rows(n, 5))
        wait_until_stored(database, rows(0, n + 5))
        until(store._recovery.is_well if n == 0 else lambda: store._recovery._well_since is not None)
    direct.left = 99
    store.append(rows(10, 5))
    assert direct.left == 99
    wait_until_stored(database, rows(0, 15))
    now[0] += WELL_S[1]
    direct.left = 0
    store.append(rows(15, 5))
    assert not store._recovery.is_away
    assert len(raws(database)) == 20
    assert missing(database) == 0


def test_a_database_that_forgot_the_writer_gets_its_rows_under_another(
    store: SpooledJournal, database: Database
) -> None:
    store.append(rows(0, 5))
    Refusing(store, 1, after=True)
    store.append(rows(5, 5))
    with database.journal_write() as conn:  # put back to before the receiver started
        conn.execute(delete(journal))
        conn.execute(writer.update().values(pid=1, host="another"))
    store.open()
    wait_until_stored(database, rows(5, 5))
    assert missing(database) == 5


def _lost(logs: list[Any]) -> list[int]:
    return [line["rows"] for line in logs if line["event"].startswith("the database has lost")]


def _put_back(database: Database) -> None:
    """Make the database what it was before anything came by the spool, and one row younger."""
    with database.journal_write() as conn:
        spooled = select(writer.c.id).where(writer.c.kind == "spool")
        conn.execute(delete(journal).where(journal.c.writer.in_(spooled) | (journal.c.seq == 5)))
        conn.execute(delete(writer).where(writer.c.kind == "spool"))


def test_a_database_that_lost_what_came_by_the_spool_is_told_once(store: SpooledJournal, database: Database) -> None:
    store.open()
    store.append(rows(0, 5))
    with capture_logs() as logs:
        for n in (5, 10):
            Refusing(store, 1, after=False)
            store.append(rows(n, 5))
            wait_until_stored(database, rows(0, n + 5))
            until(lambda: store._recovery._well_since is not None)  # else the next go the same way
        until(lambda: len(store._taken._noted()) == 3)
        assert _lost(logs) == []
        _put_back(database)
        store._mover.begin()
        until(lambda: len(_lost(logs)) == 3)
        store._mover.begin()
        until(lambda: not store._mover._is_new)
    assert sorted(_lost(logs)) == [1, 5, 5]


def test_what_is_stored_while_it_is_compared_is_not_lost(database: Database, tmp_path: Path) -> None:
    taken = Taken(tmp_path / "1.spool", database)
    writing = JournalWriter(database, "receiver", "test")

    def write() -> None:
        for n in range(300):
            writing.append(rows(n, 1))
            taken.note(writing.end)

    thread = Thread(target=write)
    thread.start()
    while thread.is_alive():
        assert taken.lost() == []
    thread.join()
    writing.close()
    assert taken.lost() == []


def test_a_loss_between_two_starts_is_told_by_the_second(
    sources: SourceList, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"

    def start(database: Database = database) -> list[int]:
        with capture_logs() as logs, closing(SpooledJournal(database, "test", sources, folder, MIB)) as store:
            store.open()
            until(lambda: not store._mover._is_new and store._recovery._well_since is not None)
        return _lost(logs)

    with closing(SpooledJournal(database, "test", sources, folder, MIB)) as store:
        store.open()
        store.append(rows(0, 5))
        store._recovery.fell()
        store.append(rows(5, 5))
        wait_until_stored(database, rows(0, 10))
    notes = (folder / "1.taken").read_text()
    assert start() == []
    _put_back(database)
    (folder / "1.taken").write_text(notes.replace(str(database), "another database"))
    assert start() == []
    (folder / "1.taken").write_text(notes[:-9])
    assert start() == []
    (folder / "1.taken").write_text(notes)
    assert sorted(start()) == [1, 5]
    assert start() == []


def test_sources_are_registered_when_rows_are_moved(store: SpooledJournal, database: Database) -> None:
    store._recovery.fell()
    store.append(rows(0, 3))
    with database.journal_read() as conn:
        assert load_sources(conn) == {}
    store.open()
    wait_until_stored(database, rows(0, 3))
    with database.journal_read() as conn:
        assert [source.name for source in load_sources(conn).values()] == ["proxy-1"]


def test_a_day_has_a_writer_of_its_own(store: SpooledJournal, database: Database) -> None:
    Refusing(store, 1, after=False)
    store.append(rows(0, 3))
    store.append(rows(3, 3, day=1))
    store.append(rows(6, 3, day=1))
    store.open()
    wait_until_stored(database, [*rows(0, 3), *rows(3, 6, day=1)])
    with database.journal_read() as conn:
        assert [row.kind for row in conn.execute(select(writer).where(writer.c.kind == "spool"))] == ["spool"] * 2


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_a_move_that_is_cut_off_anywhere_is_repeated(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, sizes: list[int], data: st.DataObject
) -> None:
    """The journal may have taken what the spool does not know to be taken, after every chunk."""
    folder = tmp_path_factory.mktemp("cut-off")
    for name in ("tollbook.db", "tollbook-journal.db"):
        (folder / name).write_bytes((sqlite_template / name).read_bytes())
    url = parse_url(f"sqlite:///{folder}/tollbook.db")
    with Database(url) as database, closing(take_spool(folder / "spool", 64 * MIB)) as spool:
        total = 0
        for size in sizes:
            spool.append(rows(total, size), ["{}"])
            total += size
        out = SpoolWriter(database)
        [(generation, name)] = spool.generations()
        while (waiting := spool.read_next(generation, data.draw(st.integers(1, 5)))).rows:
            for _ in range(data.draw(st.integers(1, 3))):
                out.append(name, waiting.first_seq, waiting.rows)
            spool.forget(generation, waiting.first_seq + data.draw(st.integers(0, len(waiting.rows) - 1)))
        assert raws(database) == [row[3] for row in rows(0, total)]


@pytest.mark.parametrize("damage", ["settings = '{\"name\"'", "settings = '{}'", "id = 99"])
def test_rows_whose_source_is_lost_are_moved_and_said_once(
    sources: SourceList, database: Database, tmp_path: Path, damage: str
) -> None:
    """They wait in quarantine until somebody says what `lost-source-1` is."""
    sources.add(Source(id=0, name="proxy-2"))
    folder = tmp_path / "spool"
    with closing(take_spool(folder, MIB)) as spool:
        spool.append(rows(0, 700), sources.settings)
        spool.append([(0, 1, PEER, b"another's")], sources.settings)
    with closing(sqlite3.connect(folder / "1.spool", isolation_level=None)) as connection:
        connection.execute(f"UPDATE spool_source SET {damage} WHERE id = 1")
    with capture_logs() as logs, closing(SpooledJournal(database, "test", SourceList(), folder, MIB)) as store:
        store.open()
        wait_until_stored(database, [*rows(0, 700), (0, 1, PEER, b"another's")])
    [said] = [line for line in logs if "whose requests these are is lost" in line["event"]]
    assert (said["file"], said["source"]) == (str(folder / "1.spool"), "lost-source-1")
    with database.journal_read() as conn:
        found = {source.name: source.dialects for source in load_sources(conn).values()}
    assert found == {"lost-source-1": (), "proxy-2": ("generic",)}


@pytest.mark.parametrize("table", ["mark", "waiting"])
def test_a_spool_that_cannot_be_read_is_said_and_keeps_nothing_from_the_database(
    store: SpooledJournal, database: Database, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounting.spool.LOOK_S", 0.0)  # what it held a moment ago is no help
    with capture_logs() as logs:
        store._recovery.fell()
        store.append(rows(0, 5))
        with closing(sqlite3.connect(store._spool.path, isolation_level=None)) as connection:
            connection.execute(f"DROP TABLE {table}")
        store.open(away="it was")
        until(store._recovery.is_well)
        store.append(rows(5, 5))
        assert raws(database) == [row[3] for row in rows(5, 5)]
        until(lambda: any("spool waits" in line["event"] for line in logs))
    [said] = [line["cause"] for line in logs if "spool waits" in line["event"]]
    assert str(store._spool.path) in said
    if table == "mark":  # without the other it cannot be told
        assert store._spool.depth().rows == 5


def test_a_spool_of_another_user_is_said_and_keeps_nobody(
    sources: SourceList, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    with closing(SpooledJournal(database, "test", sources, folder, MIB)) as store, capture_logs() as logs:
        (folder / "2.spool").write_bytes(b"")
        (folder / "2.lock").mkdir()  # nobody can open this for writing, root neither
        store.open()
        store.append(rows(0, 5))
        until(lambda: "a spool cannot be opened; it is tried again at the next start" in [x["event"] for x in logs])
        assert raws(database) == [row[3] for row in rows(0, 5)]


def test_a_spool_that_another_process_left_is_moved_beside_its_own(
    sources: SourceList, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    spools = [take_spool(folder, MIB), take_spool(folder, MIB)]
    for spool, first in zip(spools, (0, 5), strict=True):
        spool.append(rows(first, 5), sources.settings)
    for spool in spools:
        spool.close()
    with closing(SpooledJournal(database, "test", sources, folder, MIB)) as store:
        store.open()
        wait_until_stored(database, rows(0, 10))
