"""Commits whose outcome nobody knew, and that happen long after somebody looked: each row is stored once all the same.

On a real MariaDB whose disk, or a lock, holds them up while its clients give up waiting.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, create_engine, select, text

from accounting.db.append import NewRow
from accounting.db.engine import Database
from accounting.db.tables import writer
from accounting.db.url import parse_url
from accounting.event import Source
from accounting.journal import JournalUnavailable, JournalWriter, SpoolWriter, gaps, register_source
from accounting.spool import SourceList, SpooledJournal
from tests.support import mariadb
from tests.support.daemon import program
from tests.support.spool import raws, rows, until

SLOW_DISK = Path(__file__).parents[1] / "support/slowdisk.c"
ANSWER_S = 1
SOURCE = Source(id=0, name="proxy-1")
HOLDS = ("disk", "rows", "table")
"""A flush that does not end, after the insert; locks of rows and of the table, before it. MariaDB itself ends a
statement that waits for a table's lock soon after its client went; of the others none."""


class SlowServer(NamedTuple):
    server: mariadb.Server
    folder: Path

    @property
    def held(self) -> Path:
        """While this file is there nothing is flushed."""
        return self.folder / "held"


class Held:
    """A database in which nothing is stored until let_go()."""

    def __init__(self, server: SlowServer, conn: Connection, how: str) -> None:
        self._file = server.held
        self._conn = conn
        self._how = how
        if how == "disk":
            self._file.touch()
        elif how == "rows":
            conn.exec_driver_sql("START TRANSACTION")
            conn.exec_driver_sql("SELECT seq FROM journal FOR UPDATE").all()  # and all places between them
        else:
            conn.exec_driver_sql("LOCK TABLES journal WRITE")

    def wait_for(self, number: int) -> list[int]:
        """Wait until so many statements are held up or wait for one that is; return their connections' ids."""
        until(lambda: len(self._busy()) >= number)
        return self._busy()

    def kill(self, numbers: list[int]) -> None:
        for number in numbers:
            self._conn.exec_driver_sql(f"KILL {number}")

    def let_go(self) -> None:
        """Let all happen, and wait until it has, whoever still asks for it."""
        self._file.unlink(missing_ok=True)
        for statement in ("UNLOCK TABLES", "ROLLBACK"):
            self._conn.exec_driver_sql(statement)
        until(lambda: not self._busy())

    def _busy(self) -> list[int]:
        return list(self._conn.execute(_BUSY).scalars())


_BUSY = text(
    "SELECT id FROM information_schema.processlist"
    " WHERE db = database() AND id <> connection_id() AND command <> 'Sleep'"
)


@pytest.fixture(scope="module")
def server() -> Iterator[SlowServer]:
    """A MariaDB with a binary log, as one has that is replicated: a commit is not seen before that is flushed."""
    folder = Path(tempfile.mkdtemp(prefix="tollbook-late-"))
    folder.chmod(0o755)  # the server runs as another user
    library = folder / "slowdisk.so"
    subprocess.run([program("gcc", "gcc libc6-dev"), "-shared", "-fPIC", "-o", library, SLOW_DISK, "-ldl"], check=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(library))
            patch.setenv("SLOW_DISK_WHILE", str(folder / "held"))
            with mariadb.running_server(options=("--log-bin=log", "--sync-binlog=1")) as url:
                made = mariadb.Server(url)
                yield SlowServer(made, folder)
                made.dispose()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def url(server: SlowServer) -> Iterator[str]:
    made = server.server.create_migrated()
    yield made
    server.server.drop(made)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A MariaDB whose answer is waited for no longer than ANSWER_S."""
    with Database(parse_url(url), ANSWER_S) as opened:
        yield opened


@pytest.fixture
def hold(server: SlowServer, url: str) -> Iterator[Callable[[str], Held]]:
    """Hold up what is stored; let go at the end at the latest."""
    engine = create_engine(parse_url(url).set(drivername="mysql+mysqldb"), isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        yield lambda how: Held(server, conn, how)
        server.held.unlink(missing_ok=True)
        conn.invalidate()
    engine.dispose()


def stored(database: Database) -> list[bytes]:
    """Return what the journal holds, which has no gap."""
    with database.journal_read() as conn:
        assert gaps(conn) == []
    return raws(database)


def octets(wanted: list[NewRow]) -> list[bytes]:
    return [row[3] for row in wanted]


def fails(store: Callable[[], object]) -> None:
    with pytest.raises(JournalUnavailable):
        store()


@contextmanager
def spooled(database: Database, folder: Path) -> Iterator[SpooledJournal]:
    sources = SourceList()
    sources.add(SOURCE)
    with closing(SpooledJournal(database, "test", sources, folder, 2**26)) as store:
        yield store


@pytest.mark.parametrize(("how", "end"), [("disk", "late"), ("rows", "late"), ("rows", "killed")])
def test_a_commit_that_comes_after_it_was_looked_for_is_stored_once(
    database: Database, hold: Callable[[str], Held], how: str, end: str
) -> None:
    journal_writer = JournalWriter(database, "receiver", "test")
    journal_writer.append(rows(0, 2))
    held = hold(how)
    fails(lambda: journal_writer.append(rows(2, 3)))
    assert stored(database) == octets(rows(0, 2))
    fails(lambda: journal_writer.append(rows(2, 4)))  # it looked, and found nothing
    waiting = held.wait_for(2)
    if end == "killed":
        held.kill(waiting)
    held.let_go()
    found = stored(database)
    assert len(found) in ((2,) if end == "killed" else (5, 6))  # the server lets either of the two that waited go first
    assert found == octets(rows(0, len(found)))
    journal_writer.append(rows(2, 4))
    journal_writer.append(rows(6, 1))
    journal_writer.close()
    assert stored(database) == octets(rows(0, 7))


@pytest.mark.parametrize("how", HOLDS)
def test_a_batch_in_doubt_is_stored_once_though_both_insert_it(
    database: Database, hold: Callable[[str], Held], tmp_path: Path, how: str
) -> None:
    """The one that nobody waits for any more, and the spool's."""
    with spooled(database, tmp_path) as store:
        store.open()
        store.append(rows(0, 2))
        held = hold(how)
        store.append(rows(2, 3))
        store.append(rows(5, 3))
        held.wait_for(1 if how == "table" else 2)
        held.let_go()
        until(lambda: len(stored(database)) == 8)
    assert sorted(stored(database)) == octets(rows(0, 8))


@pytest.mark.parametrize("how", HOLDS)
def test_a_chunk_of_the_spool_that_comes_late_is_stored_once(
    database: Database, hold: Callable[[str], Held], how: str
) -> None:
    out = SpoolWriter(database)
    out.append("generation", 1, rows(0, 2))
    held = hold(how)
    fails(lambda: out.append("generation", 3, rows(2, 3)))
    fails(lambda: out.append("generation", 3, rows(2, 5)))
    held.let_go()
    out.append("generation", 3, rows(2, 6))
    assert stored(database) == octets(rows(0, 8))


def test_a_generation_has_one_writer_though_the_first_comes_late(
    database: Database, hold: Callable[[str], Held], tmp_path: Path
) -> None:
    register_source(database, SOURCE)
    with spooled(database, tmp_path) as store:
        store._recovery.fell()
        store.append(rows(0, 5))
        held = hold("disk")
        store.open(away="it was")
        held.wait_for(3)
        held.let_go()
        until(lambda: len(stored(database)) == 5)
        store._mover.stop()
    with database.journal_read() as conn:
        assert list(conn.execute(select(writer.c.kind).where(writer.c.kind == "spool")).scalars()) == ["spool"]
