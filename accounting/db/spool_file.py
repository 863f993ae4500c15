"""Where accepted rows wait on this machine's disk while the database is away: one SQLite file for each receiver.

A spool is made of generations, each a journal of one future writer: seq from 1 by one. What was being written to the
database when it went away is kept beside, under the writer and seq it was to have there. Knows no database but its own.
"""

import fcntl
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
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
FREE_PAGES_KEPT = 4096
SHRINK_PAGES = 1000
"""Of 4096 octets."""

_WHOLE = " AND ".join(
    f"typeof({column}) = '{kind}'"
    for column, kind in (("received_us", "integer"), ("source", "integer"), ("peer", "blob"), ("raw", "blob"))
)
"""Checked at a start: a row that is not of these kinds would stop all behind it."""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS spool_source (id INTEGER PRIMARY KEY, settings TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS generation (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS waiting (
    generation INTEGER NOT NULL, seq INTEGER NOT NULL, received_us INTEGER NOT NULL, source INTEGER NOT NULL,
    peer BLOB NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (generation, seq), CHECK ({_WHOLE})
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubtful (
    writer INTEGER NOT NULL, seq INTEGER NOT NULL, received_us INTEGER NOT NULL, source INTEGER NOT NULL,
    peer BLOB NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (writer, seq), CHECK ({_WHOLE})
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark (writer INTEGER PRIMARY KEY, mark TEXT NOT NULL);
"""
_ROWS = "SELECT seq, received_us, source, peer, raw FROM"
_HOLDS_ROWS = "EXISTS (SELECT 1 FROM waiting WHERE generation = id)"

log = get_logger("spool")


class SpoolUnavailable(TollbookError):
    """The rows could not be put on this machine's disk: it is full, or the spool's limit is reached."""


class Waiting(NamedTuple):
    """Rows in the order of their seq, from first_seq on by one; the source is the spool's own number."""

    first_seq: int
    rows: list[NewRow]


class Depth(NamedTuple):
    """What a spool holds; oldest_us is None if nothing. Rows that a damaged file has lost are counted as if there."""

    rows: int
    doubtful: int
    bytes: int  # of the file, in use
    oldest_us: int | None


class Spool:
    """One file of rows, locked for this process. Two threads may use it: `append` has a connection of its own."""

    def __init__(self, path: Path, lock: IO[bytes], bytes_max: int) -> None:
        """Open the file; take_spool() and free_spools() call this."""
        self.path = path
        self._lock = lock
        self._bytes_max = bytes_max
        _mend(path)
        self._in = _connect(path)
        self._out = _connect(path)
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
            if bytes_of(self._in) > self._bytes_max:
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

    def settle(self, doubt: Doubt, number: int) -> None:
        """Forget so many rows in doubt: they are in the journal."""
        self._run("DELETE FROM doubtful WHERE writer = ? AND seq < ?", doubt.writer, doubt.first_seq + number)
        self._run("DELETE FROM mark WHERE writer NOT IN (SELECT writer FROM doubtful)")

    def generations(self) -> list[tuple[int, str]]:
        """Return number and name of the generations that hold rows, the oldest first."""
        return self._run(f"SELECT id, name FROM generation WHERE {_HOLDS_ROWS} ORDER BY id")

    def read_next(self, generation: int, limit: int) -> Waiting:
        """Return the first rows of a generation."""
        return _waiting(self._run(f"{_ROWS} waiting WHERE generation = ? ORDER BY seq LIMIT ?", generation, limit))

    def forget(self, generation: int, seq: int) -> None:
        """Delete the rows of a generation up to seq: they are in the journal."""
        self._run("DELETE FROM waiting WHERE generation = ? AND seq <= ?", generation, seq)

    def forget_generations(self) -> None:
        """Delete the names of generations that are moved; the newest may get more."""
        older = "id < (SELECT max(id) FROM generation)"
        self._run(f"DELETE FROM generation WHERE {older} AND NOT {_HOLDS_ROWS}")

    def shrink(self) -> bool:
        """Give some of the disk back if much of the file is empty; return whether there is more to give.

        In steps, for nothing can be stored meanwhile.
        """
        [(free,)] = self._run("PRAGMA freelist_count")
        if free < FREE_PAGES_KEPT:
            return False
        with _told(self.path):  # a script, for execute() does no more than the first page
            self._out.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
        return True

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
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)  # requests name who calls whom
        for slot in range(1, SLOTS_MAX):
            path = folder / f"{slot}{SUFFIX}"
            if (lock := _locked(path)) is not None:
                return _opened(path, lock, bytes_max)
    except OSError as error:
        where = error.filename or folder
        raise TollbookError(f"spool {where} cannot be used: {error.strerror}; see [spool] directory") from error
    except sqlite3.Error as error:
        raise TollbookError(f"spool {folder} cannot be used: {error}; see [spool] directory") from error
    raise TollbookError(f"spool {folder} is in use by {SLOTS_MAX} processes")


def free_spools(folder: Path, bytes_max: int) -> Iterator[Spool]:
    """Yield, open, the spools that ended processes have left; the caller closes each."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            if (lock := _locked(path)) is None:
                continue
            spool = _opened(path, lock, bytes_max)
        except (OSError, sqlite3.Error) as error:
            log.error("a spool cannot be opened; it is tried again at the next start", file=str(path), cause=str(error))
            continue
        yield spool


def _opened(path: Path, lock: IO[bytes], bytes_max: int) -> Spool:
    try:
        return Spool(path, lock, bytes_max)
    except BaseException:
        lock.close()
        raise


def look_into(folder: Path) -> Iterator[tuple[Path, Depth | str]]:
    """Yield each spool of a folder and what it holds, or why that cannot be told; changes nothing.

    TollbookError if the folder cannot be read: glob() would take it for an empty one.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise TollbookError(
            f"spool {folder} cannot be read: {error.strerror}; run this as the receiver's user"
        ) from error
    for path in paths:
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
    """Return what an open spool holds. Costs the same for ten rows and for ten million."""
    spans = [span for span in connection.execute(_SPANS) if span[0] is not None]
    rows = sum(last - first + 1 for first, last, _ in spans)
    doubtful, first_us = connection.execute("SELECT count(*), min(received_us) FROM doubtful").fetchone()
    times = [oldest_us for _, _, oldest_us in spans] + ([first_us] if doubtful else [])
    return Depth(rows, doubtful, bytes_of(connection) if times else 0, min(times, default=None))


def bytes_of(connection: sqlite3.Connection) -> int:
    """Return how many octets of an open spool's file are in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


_SPANS = """
SELECT (SELECT min(seq) FROM waiting WHERE generation = id), (SELECT max(seq) FROM waiting WHERE generation = id),
    (SELECT received_us FROM waiting WHERE generation = id ORDER BY seq LIMIT 1) FROM generation
"""


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
        mend = "; restart the receiver: it takes over what can be read" if "malformed" in str(error) else ""
        raise SpoolUnavailable(f"spool {path} cannot be used: {error}{mend}") from error


# ---- a file that is not whole

WAL_HEAD, FRAME_HEAD = 32, 24  # octets; https://sqlite.org/fileformat2.html section 4


def _mend(path: Path) -> None:
    """See that a file left by an earlier process is whole; else take over what can be read, and keep it by its side.

    May be cut off anywhere and begun again: the new file is whole before the old one is moved.
    """
    mended = path.with_name(f"{path.name}.mended")
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    if path.exists():
        verdict = _verdict(path, aside)
        if verdict == "ok":
            return
        for suffix in _PARTS:
            _beside(mended, suffix).unlink(missing_ok=True)
        kept = _salvage(path, mended)
        log.error("the spool is damaged; its whole rows are kept", file=str(aside), rows=kept, verdict=verdict)
        path.rename(aside)
    if mended.exists():
        for suffix in _PARTS[1:]:
            with suppress(FileNotFoundError):
                _beside(path, suffix).rename(_beside(aside, suffix))
        mended.rename(path)


def _verdict(path: Path, aside: Path) -> str:
    """Return "ok" or what is wrong with a file; say what an unclean end has cost."""
    wal = _beside(path, "-wal")
    left = wal.read_bytes() if wal.exists() else b""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
            [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict == "ok" and left:
                connection.executescript(_TABLES)
                _, taken, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                rows = sum(depth_of(connection)[:2])
                log.warning("the spool was not closed; whole commits are kept", file=str(path), rows=rows)
                if (lost := _commits_behind(left, max(taken, 0))) > 1:  # one alone was never answered
                    _beside(aside, ".wal").write_bytes(left)
                    log.error("the spool's last commits are damaged", file=f"{aside}.wal", commits_lost=lost)
            return str(verdict)
    except sqlite3.DatabaseError as error:
        return str(error)


def _commits_behind(wal: bytes, frames: int) -> int:
    """Return how many commits stand in a write-ahead log behind the frames that SQLite takes for whole."""
    salt = wal[16:24]
    step = FRAME_HEAD + int.from_bytes(wal[8:12])
    heads = (wal[at : at + FRAME_HEAD] for at in range(WAL_HEAD + frames * step, len(wal), step))
    return sum(head[8:16] == salt and head[4:8] != bytes(4) for head in heads)


_PARTS = ("", "-wal", "-shm")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _salvage(damaged: Path, path: Path) -> int:
    """Copy what can be read of a damaged file, from both ends, into a new one; return how many rows."""
    with closing(_connect(path)) as new, closing(sqlite3.connect(damaged, isolation_level=None)) as old:
        new.execute("BEGIN IMMEDIATE")
        for table, columns in (("spool_source", 2), ("generation", 2), ("mark", 2), ("doubtful", 6), ("waiting", 6)):
            insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * columns)})"
            for order in ("1, 2", "1 DESC, 2 DESC"):
                for row in _readable(old, f"SELECT * FROM {table} ORDER BY {order}"):
                    with suppress(sqlite3.IntegrityError):  # an id that is no number any more
                        new.execute(insert, row)
        new.execute("INSERT OR IGNORE INTO generation SELECT DISTINCT generation, hex(randomblob(16)) FROM waiting")
        new.execute("INSERT OR IGNORE INTO mark SELECT DISTINCT writer, 'lost' FROM doubtful")
        for table in ("waiting", "doubtful"):  # else the next source would get the number of one that is lost
            new.execute(f"INSERT OR IGNORE INTO spool_source SELECT DISTINCT source, 'lost ' || source FROM {table}")
        new.execute("COMMIT")
        [kept] = new.execute("SELECT (SELECT count(*) FROM waiting) + (SELECT count(*) FROM doubtful)").fetchone()
    return int(kept)


def _readable(connection: sqlite3.Connection, query: str) -> Iterator[Any]:
    """Yield rows until there is none that can be read."""
    try:
        yield from connection.execute(query)
    except sqlite3.DatabaseError:
        return
