"""What the database has taken from this receiver, noted on this machine: so that one that has lost some of it is told.

A database that is put back to an older state has lost what came after. Nothing but an alarm depends on the notes: they
are written once a minute, so they may say less than was taken, and never more.
"""

import json
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic

from accounting.db.engine import Database
from accounting.journal import WriterEnd, lost_rows

SUFFIX = ".taken"
WRITERS_MAX = 20
"""The newest: what is lost is lost from the end."""
NOTE_EVERY_S = 60.0


class Taken:
    """The newest writers of a receiver, its spool's too, and how far each has come. Two threads use it."""

    def __init__(self, spool: Path, database: Database) -> None:
        """Read the notes that lie beside a spool."""
        self._path = path = spool.with_suffix(SUFFIX)
        self._database = database
        self._lock = Lock()
        self._ends = _read(path, str(database))
        self._written = self._ends.copy()
        self._written_at = monotonic()

    def note(self, end: WriterEnd) -> None:
        """The database has this for good."""
        key = end.writer, end.mark
        with self._lock:
            self._ends[key] = max(end.seq, self._ends.pop(key, 0))
            if len(self._ends) > WRITERS_MAX:
                del self._ends[next(iter(self._ends))]

    def lost(self) -> list[tuple[WriterEnd, int]]:
        """Return what the database had taken and has no more, as (up to where, how many rows); each once."""
        noted = self._noted()  # before it is looked: what is stored meanwhile is not seen
        with self._database.journal_read() as conn:
            lost = [(end, rows) for end in noted if (rows := lost_rows(conn, end))]
        with self._lock:
            for end, _ in lost:
                self._ends.pop((end.writer, end.mark), None)
        return lost

    def keep(self) -> None:
        """Write the notes down, if they have changed; a disk that does not take them takes nothing from anybody."""
        self._written_at = monotonic()
        ends = [*self._noted()]
        if (now := {(end.writer, end.mark): end.seq for end in ends}) == self._written:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):
            new.write_text(json.dumps({"database": str(self._database), "taken": ends}), encoding="utf-8")
            new.replace(self._path)
            self._written = now

    def keep_in_time(self) -> None:
        """The same, but once in NOTE_EVERY_S."""
        if monotonic() - self._written_at >= NOTE_EVERY_S:
            self.keep()

    def _noted(self) -> list[WriterEnd]:
        with self._lock:
            return [WriterEnd(writer, mark, seq) for (writer, mark), seq in self._ends.items()]


def _read(path: Path, database: str) -> dict[tuple[int, str], int]:
    """Return the notes of an earlier process; none, if they are of another database or cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["database"] == database:
            return {(int(writer), str(mark)): int(seq) for writer, mark, seq in found["taken"]}
    return {}
