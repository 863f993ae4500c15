"""Where accepted rows wait on this machine's disk while the database is away: one SQLite file for each receiver.

A spool is made of generations, each a journal of one future writer: seq from 1 by one. What was being written to the
database when it went away is kept beside, under the writer and seq it was to have there. Knows no database but its own.
"""

import fcntl
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.db.append import Doubt, NewRow

SUFFIX = ".spool"
BUSY_S = 5.0
SLOTS_MAX = 1000
DAY_US = 86_400 * 1_000_000

_TABLES = """
CREATE TABLE IF NOT EXISTS spool_source (id INTEGER PRIMARY KEY, settings TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS generation (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS waiting (
    generation INTEGER NOT NULL, seq INTEGER NOT NULL, received_us INTEGER NOT NULL, source INTEGER NOT NULL,
    peer BLOB NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (generation, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubtful (
    writer INTEGER NOT NULL, seq INTEGER NOT NULL, received_us INTEGER NOT NULL, source INTEGER NOT NULL,
    peer BLOB NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (writer, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark (writer INTEGER PRIMARY KEY, mark TEXT NOT NULL);
"""
_ROWS = "SELECT seq, received_us, source, peer, raw FROM"

log = get_logger("spool")


class SpoolUnavailable(TollbookError):
    """The rows could not be put on this machine's disk: it is full, or the spool's limit is reached."""


class Waiting(NamedTuple):
    """Rows in the order of their seq, from first_seq on by one; the source is the spool's own number."""

    first_seq: int
    rows: list[NewRow]


class Depth(NamedTuple):
    """What a spool holds; oldest_us is None if nothing."""

    rows: int
    doubtful: int
    bytes: int
    oldest_us: int | None


class Spool:
    """One file of rows, locked for this process. Two threads may use it: `append` has a connection of its own."""

    def __init__(self, path: Path, lock: IO[bytes], bytes_max: int) -> None:
        """Open the file; take_spool() and free_spools() call this."""
        self.path = path
        self._lock = lock
        self._bytes_max = bytes_max
        _set_aside_damaged(path)
        self._in = _connect(path)
        self._out = _connect(path)
        [page_bytes] = self._in.execute("PRAGMA page_size").fetchone()
        self._page_bytes = int(page_bytes)
        self._generation, self._seq, self._day = 0, 0, 0
        self._sources: dict[str, int] = {settings: n for n, settings in self._in.execute("SELECT * FROM spool_source")}

    # ---- in

    def append(self, rows: Sequence[NewRow], settings: Sequence[str]) -> None:
        """Put rows on the disk; settings[row's source] are its source's. Returns when they are there."""
        self._store("waiting", *self._place(rows[0][0] // DAY_US), rows, settings)
        self._seq += len(rows)

    def append_doubtful(self, doubt: Doubt, rows: Sequence[NewRow], settings: Sequence[str]) -> None:
        """Put rows on the disk that the database may have, or may yet get."""
        self._store("doubtful", doubt.writer, doubt.first_seq, rows, settings, doubt.mark)

    def end_generation(self) -> None:
        """Let the next row begin another: the database is back."""
        self._generation = 0

    def _place(self, day: int) -> tuple[int, int]:
        if not self._generation or day != self._day:
            with _told(self.path):
                cursor = self._in.execute("INSERT INTO generation (name) VALUES (?)", (uuid4().hex,))
            self._generation, self._seq, self._day = cursor.lastrowid or 0, 0, day
        return self._generation, self._seq + 1

    def _store(
        self, table: str, first: int, first_seq: int, rows: Sequence[NewRow], settings: Sequence[str], mark: str = ""
    ) -> None:
        with _told(self.path):
            if self._bytes() > self._bytes_max:
                raise SpoolUnavailable(f"spool {self.path} holds its {self._bytes_max} bytes; [spool] bytes_max")
            self._in.execute("BEGIN IMMEDIATE")
            try:
                numbered = [
                    (first, seq, received_us, self._source(settings[source]), peer, raw)
                    for seq, (received_us, source, peer, raw) in enumerate(rows, first_seq)
                ]
                self._in.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", numbered)
                if mark:
                    self._in.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (first, mark))
                self._in.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._in.execute("ROLLBACK")
                self._sources = {text: n for n, text in self._in.execute("SELECT * FROM spool_source")}
                raise

    def _source(self, settings: str) -> int:
        number = self._sources.get(settings)
        if number is None:
            cursor = self._in.execute("INSERT INTO spool_source (settings) VALUES (?)", (settings,))
            number = self._sources[settings] = cursor.lastrowid or 0
        return number

    def _bytes(self) -> int:
        [pages], [free] = (self._in.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "freelist_count"))
        return int(pages - free) * self._page_bytes

    # ---- out

    def depth(self) -> Depth:
        """Return what waits."""
        with _told(self.path):
            return depth_of(self._out)

    def sources(self) -> dict[int, str]:
        """Return the settings of each source that rows name."""
        return dict(self._run("SELECT id, settings FROM spool_source"))

    def doubtful(self) -> list[tuple[Doubt, list[NewRow]]]:
        """Return the rows in doubt, and where they may be."""
        found = []
        for writer, mark in self._run("SELECT writer, mark FROM mark ORDER BY writer"):
            waiting = _waiting(self._run(f"{_ROWS} doubtful WHERE writer = ? ORDER BY seq", writer))
            found.append((Doubt(writer, mark, waiting.first_seq), waiting.rows))
        return found

    def settle(self, doubt: Doubt) -> None:
        """Forget rows in doubt: they are in the journal."""
        self._run("DELETE FROM doubtful WHERE writer = ?", doubt.writer)
        self._run("DELETE FROM mark WHERE writer = ?", doubt.writer)

    def generations(self) -> list[tuple[int, str]]:
        """Return number and name of the generations that hold rows, the oldest first."""
        holds = "EXISTS (SELECT 1 FROM waiting WHERE generation = id)"
        return self._run(f"SELECT id, name FROM generation WHERE {holds} ORDER BY id")

    def read_next(self, generation: int, limit: int) -> Waiting:
        """Return the first rows of a generation."""
        return _waiting(self._run(f"{_ROWS} waiting WHERE generation = ? ORDER BY seq LIMIT ?", generation, limit))

    def forget(self, generation: int, seq: int) -> None:
        """Delete the rows of a generation up to seq: they are in the journal."""
        self._run("DELETE FROM waiting WHERE generation = ? AND seq <= ?", generation, seq)

    def shrink(self) -> None:
        """Give the disk back what an empty spool no longer needs."""
        self._run("PRAGMA incremental_vacuum")
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def _run(self, statement: str, *values: int) -> list[Any]:
        with _told(self.path):
            return self._out.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the file, and remove it if nothing is in it."""
        is_empty = False
        with suppress(SpoolUnavailable):
            depth = self.depth()
            is_empty = not depth.rows and not depth.doubtful
        for connection in (self._in, self._out):
            connection.close()
        if is_empty:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._lock.close()


def take_spool(folder: Path, bytes_max: int) -> Spool:
    """Return the first spool of the folder that no other process has; TollbookError if the folder cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for slot in range(1, SLOTS_MAX):
            path = folder / f"{slot}{SUFFIX}"
            if (lock := _locked(path)) is not None:
                return Spool(path, lock, bytes_max)
    except OSError as error:
        raise TollbookError(f"spool {folder} cannot be used: {error.strerror}; see [spool] directory") from error
    except sqlite3.Error as error:
        raise TollbookError(f"spool {folder} cannot be used: {error}; see [spool] directory") from error
    raise TollbookError(f"spool {folder} is in use by {SLOTS_MAX} processes")


def free_spools(folder: Path, bytes_max: int) -> Iterator[Spool]:
    """Yield, open, the spools that ended processes have left; the caller closes each."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if (lock := _locked(path)) is not None:
            yield Spool(path, lock, bytes_max)


def look_into(folder: Path) -> Iterator[tuple[Path, Depth | str]]:
    """Yield each spool of a folder and what it holds, or why that cannot be told; changes nothing."""
    for path in sorted(folder.glob(f"*{SUFFIX}*")):
        if path.suffix == SUFFIX:
            try:
                connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)
                try:
                    yield path, depth_of(connection)
                finally:
                    connection.close()
            except sqlite3.Error as error:
                yield path, str(error)
        elif ".damaged-" in path.name and not path.name.endswith(("-wal", "-shm")):
            yield path, "damaged; what could be read of it has been taken over"


def depth_of(connection: sqlite3.Connection) -> Depth:
    """Return what an open spool holds."""
    rows, oldest = connection.execute("SELECT count(*), min(received_us) FROM waiting").fetchone()
    doubtful, first = connection.execute("SELECT count(*), min(received_us) FROM doubtful").fetchone()
    size = sum(len_ or 0 for (len_,) in connection.execute(_SIZES))
    times = [at for at in (oldest, first) if at is not None]
    return Depth(rows, doubtful, size, min(times, default=None))


_SIZES = "SELECT sum(length(raw)) FROM waiting UNION ALL SELECT sum(length(raw)) FROM doubtful"


def _waiting(found: Sequence[Any]) -> Waiting:
    """Return these rows, up to a hole: a damaged file may have one."""
    first = found[0][0] if found else 0
    return Waiting(first, [row[1:] for seq, row in enumerate(found, first) if row[0] == seq])


def _locked(path: Path) -> IO[bytes] | None:
    """Lock a spool for this process, for as long as the file that is returned is open; None if another has it."""
    lock = path.with_suffix(".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(_TABLES)
    return connection


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SpoolUnavailable(f"spool {path} cannot be used: {error}") from error


# ---- a file that is not whole


def _set_aside_damaged(path: Path) -> None:
    """See that a file left by an earlier process is whole; else take over what can be read, and keep it by its side."""
    wal = path.with_name(path.name + "-wal")
    was_cut_off = wal.exists() and wal.stat().st_size > 0
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict == "ok":
                if was_cut_off:
                    connection.executescript(_TABLES)
                    log.warning(
                        "the spool was not closed; whole commits are kept",
                        file=str(path),
                        rows=sum(depth_of(connection)[:2]),
                    )
                return
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for suffix in ("-wal", "-shm", ""):  # the file itself last: until then this is begun again
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    kept = _salvage(aside, path)
    log.error("the spool is damaged; its whole rows are kept", file=str(aside), rows=kept, verdict=verdict)


def _salvage(damaged: Path, path: Path) -> int:
    """Copy what can be read of a damaged file into a new one; return how many rows."""
    kept = 0
    new = _connect(path)
    new.execute("BEGIN IMMEDIATE")
    old = sqlite3.connect(damaged, timeout=BUSY_S, isolation_level=None)
    try:
        for table, columns in (("spool_source", 2), ("generation", 2), ("mark", 2), ("doubtful", 6), ("waiting", 6)):
            marks = ", ".join("?" * columns)
            with suppress(sqlite3.Error):
                for row in old.execute(f"SELECT * FROM {table}"):
                    new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
                    kept += columns == 6
        new.execute("INSERT OR IGNORE INTO generation SELECT DISTINCT generation, hex(randomblob(16)) FROM waiting")
        new.execute("COMMIT")
    finally:
        new.close()
        old.close()
    return kept
