"""The receiver's way to the journal: straight to the database, or by the spool while that is away or too slow.

A thread of its own moves what was spooled, in order, and repeats what it cannot know to be done: a row's place in the
journal is fixed before it is sent there, so it is there once (docs/decisions/spool.md).
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from sqlalchemy.exc import DBAPIError

from accounting.base.clock import now_us
from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.db.append import NewRow
from accounting.db.engine import Database, driver_words
from accounting.db.failures import is_away, is_transient
from accounting.db.spool_file import Depth, Spool, SpoolUnavailable, free_spools, take_spool
from accounting.event import Source
from accounting.journal import (
    JournalUnavailable,
    JournalWriter,
    SpoolWriter,
    register_source,
    source_of_settings,
    source_settings,
)
from accounting.radius import metrics
from accounting.taken import Taken

RETRY_S = (0.5, 1.0, 2.0, 5.0)
CHUNK_ROWS = 500
BETWEEN_CHUNKS_S = 0.005
"""So that moving leaves the receiver most of its processor: about 30,000 rows a second."""
ALARM_EVERY_S = 60.0
LOOK_S = 1.0
WELL_S = (0.0, 5.0, 15.0, 60.0)
"""How long a database that was away must have taken all that was moved before it is trusted again; the next of them
each time that it falls again within RELAPSE_S, so that it holds requests up for slow_s once in a minute at most."""
RELAPSE_S = 600.0

log = get_logger("spool")


class SourceList:
    """Source versions by a number of this process's own, for the database's may not be known yet. Only grows."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self.settings: list[str] = []

    def add(self, source: Source) -> int:
        """Return the number of a source version."""
        text = source_settings(source)
        if text not in self.settings:
            self._sources.append(source)
            self.settings.append(text)
        return self.settings.index(text)

    def __getitem__(self, number: int) -> Source:
        return self._sources[number]


class Recovery:
    """Whether a database is away, and when one that was is to be trusted again. Two threads use it.

    Its clock is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.is_away = False
        self._well_since: float | None = None
        self._trusted_at = -RELAPSE_S
        self._relapses = 0

    def fell(self) -> None:
        """It did not take a batch, or not in time."""
        relapsed = self._clock() - self._trusted_at < RELAPSE_S
        self._relapses = min(self._relapses + 1, len(WELL_S) - 1) if relapsed else 0
        self._well_since = None
        self.is_away = True

    def took(self) -> None:
        """It took what was moved, or answered where there was nothing to move."""
        if self._well_since is None:
            self._well_since = self._clock()

    def failed(self) -> None:
        """It did not take what was to be moved."""
        self._well_since = None

    def is_well(self) -> bool:
        """Return whether it has been well for long enough."""
        since = self._well_since
        return since is not None and self._clock() - since >= WELL_S[self._relapses]

    def trusted(self) -> None:
        """Requests go to it again."""
        self.is_away = False
        self._trusted_at = self._clock()


def open_spooled_journal(
    database: Database, name: str, sources: SourceList, folder: Path, bytes_max: int
) -> "SpooledJournal":
    """Return the way to a journal that is there or may come; TollbookError, and no file made, if it is unfit."""
    away = ""
    try:
        database.refuse_journal()
    except DBAPIError as error:
        away = driver_words(error)
        if not _may_come(error):
            raise TollbookError(f"database {database} cannot be opened: {away}") from error
    store = SpooledJournal(database, name, sources, folder, bytes_max)
    try:
        store.open(away)
    except BaseException:
        store.close()
        raise
    return store


class SpooledJournal:
    """Stores a receiver's rows for good, in the database or on this machine. Its rows name sources by SourceList.

    append() is called by one thread at a time, and waits for no answer of the database longer than its answer_s.
    """

    def __init__(self, database: Database, name: str, sources: SourceList, folder: Path, bytes_max: int) -> None:
        self._database = database
        self._writer = JournalWriter(database, "receiver", name)
        self._sources = sources
        self._ids: dict[int, int] = {}
        self._spool = take_spool(folder, bytes_max)
        self._recovery = Recovery()
        self._taken = Taken(self._spool.path, database)
        self._mover = Mover(database, self._spool, self._recovery, self._taken, folder, bytes_max)

    def open(self, away: str = "") -> None:
        """Begin; `away` tells why the database cannot be written yet. JournalUnavailable if it refuses."""
        try:
            if not away:
                self._writer.open()
        except JournalUnavailable as error:
            if not _may_come(error.__cause__):
                raise
            away = str(error)
        if away:
            self._away(away)
        self._mover.start()

    def append(self, rows: Sequence[NewRow]) -> None:
        """Return when the rows are on stable storage. JournalUnavailable: append the same rows again."""
        if self._recovery.is_away and self._recovery.is_well():
            self._recovery.trusted()
            self._spool.end_generation()
            log.warning("the database is back: requests go to the journal again")
        cause = ""
        if not self._recovery.is_away:
            try:
                self._writer.append(self._numbered(rows))
                self._taken.note(self._writer.end)
                return
            except (DBAPIError, JournalUnavailable) as error:
                cause = _words(error)
        try:
            if (doubt := self._writer.doubt) is not None:
                self._spool.append_doubtful(doubt, rows, self._sources.settings)
                self._writer.give_up()
            else:
                self._spool.append(rows, self._sources.settings)
        except SpoolUnavailable as error:
            self._recovery.is_away = False  # the database may have room sooner
            raise JournalUnavailable(f"{cause}; {error}" if cause else str(error)) from error
        metrics.SPOOLED.inc(len(rows))
        if not self._recovery.is_away:
            self._away(cause)

    def close(self) -> None:
        """Give connections and files back; what waits in the spool waits for the next start."""
        self._mover.stop()
        self._taken.keep()
        self._writer.close()
        self._spool.close()

    def _away(self, cause: str) -> None:
        self._recovery.fell()
        self._ids.clear()  # the database may come back as it was before it knew them
        log.error("the database is away: requests are kept in the spool", file=str(self._spool.path), cause=cause)
        self._mover.begin()

    def _numbered(self, rows: Sequence[NewRow]) -> list[NewRow]:
        """Return the rows with the database's ids of their sources."""
        ids = self._ids
        for number in {row[1] for row in rows} - ids.keys():
            ids[number] = register_source(self._database, self._sources[number])
        return [(received_us, ids[source], peer, raw) for received_us, source, peer, raw in rows]


class Mover(Thread):
    """Moves spools into the journal whenever the database answers; tells Recovery how that goes."""

    def __init__(
        self, database: Database, spool: Spool, recovery: Recovery, taken: Taken, folder: Path, bytes_max: int
    ) -> None:
        super().__init__(name="spool-mover", daemon=True)
        self._database = database
        self._spool = spool
        self._recovery = recovery
        self._taken = taken
        self._folder = folder
        self._bytes_max = bytes_max
        self._out = SpoolWriter(database)
        self._ending = Event()
        self._wanted = Event()
        self._failures = 0
        self._said_at = -ALARM_EVERY_S
        self._looked_at = 0.0
        self._is_new = True  # the database may be another, the folder may hold spools of processes that ended
        self._depth = Depth(0, 0, 0, None)

    def begin(self) -> None:
        """The database is away."""
        self._is_new = True
        self._wanted.set()

    def stop(self) -> None:
        """End after the chunk in hand."""
        self._ending.set()
        self._wanted.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        while not self._ending.is_set():
            self._wanted.clear()
            try:
                if self._may_have_rows() or self._recovery.is_away or self._is_new:
                    self._move_all()
                self._failures = 0
                self._taken.keep_in_time()
                self._wanted.wait(LOOK_S)
            except Exception as error:  # noqa: BLE001 - a thread that ends here would let the spool wait for ever
                if not isinstance(error, SpoolUnavailable):
                    self._recovery.failed()
                self._is_new = True
                self._alarm(_words(error))
                self._ending.wait(RETRY_S[min(self._failures, len(RETRY_S) - 1)])
                self._failures += 1

    def _move_all(self) -> None:
        self._database.refuse_journal()
        is_new, self._is_new = self._is_new, False
        if is_new:
            self._tell_lost()
        try:
            self._move(self._spool)
        except SpoolUnavailable:
            self._recovery.took()  # the database answers, and a file that cannot be read is no place for more
            raise
        self._recovery.took()
        if is_new:
            self._move_left()

    def _tell_lost(self) -> None:
        """Say what the database had taken and has no more; before it is moved what would hide that."""
        for end, rows in self._taken.lost():
            metrics.LOST.inc(rows)
            log.error(
                "the database has lost requests that it had taken; was it restored from a backup?",
                rows=rows,
                writer=end.writer,
                began=end.mark,
                up_to_seq=end.seq,
            )

    def _move_left(self) -> None:
        for left in free_spools(self._folder, self._bytes_max):
            with closing(left):
                try:
                    self._move(left)
                except SpoolUnavailable as error:
                    log.error(
                        "a spool cannot be read to its end; it is tried again at the next start",
                        file=str(left.path),
                        cause=str(error),
                    )

    def _move(self, spool: Spool) -> None:
        ids: dict[int, int] = {}
        moved = 0
        while doubtful := spool.doubtful():
            for doubt, rows in doubtful:
                self._taken.note(self._out.settle(doubt, self._numbered(spool, rows, ids)))
                spool.settle(doubt, len(rows))
                moved += len(rows)
        for generation, name in spool.generations():
            while not self._ending.is_set():
                waiting = spool.read_next(generation, CHUNK_ROWS)
                if not waiting.rows:
                    break
                self._taken.note(self._out.append(name, waiting.first_seq, self._numbered(spool, waiting.rows, ids)))
                self._recovery.took()
                spool.forget(generation, waiting.first_seq + len(waiting.rows) - 1)
                moved += len(waiting.rows)
                self._look()
                self._ending.wait(BETWEEN_CHUNKS_S)
        if moved:
            metrics.SPOOL_MOVED.inc(moved)
            spool.forget_generations()
            if not self._ending.is_set():
                log.warning("the spool was moved into the journal", file=str(spool.path), rows=moved)
        while not self._ending.is_set() and spool.shrink():
            self._ending.wait(BETWEEN_CHUNKS_S)

    def _numbered(self, spool: Spool, rows: Sequence[NewRow], ids: dict[int, int]) -> list[NewRow]:
        if unknown := {row[1] for row in rows} - ids.keys():
            settings = spool.sources()
            for number in unknown:
                ids[number] = register_source(self._database, _source_of(spool, number, settings.get(number, "")))
        return [(received_us, ids[source], peer, raw) for received_us, source, peer, raw in rows]

    def _may_have_rows(self) -> bool:
        """Return whether something waits, or the file cannot be read: moving tells, and what the database answers."""
        try:
            depth = self._look()
        except SpoolUnavailable:
            return True
        return bool(depth.rows or depth.doubtful)

    def _look(self) -> Depth:
        """Return what the spool holds, as of the last second, and tell the metrics."""
        now = monotonic()
        if now - self._looked_at >= LOOK_S or not self._looked_at:
            self._looked_at = now
            self._depth = depth = self._spool.depth()
            metrics.SPOOL_ROWS.set(depth.rows + depth.doubtful)
            metrics.SPOOL_BYTES.set(depth.bytes)
            metrics.SPOOL_OLDEST.set(_age_s(depth))
        return self._depth

    def _alarm(self, cause: str) -> None:
        if monotonic() - self._said_at < ALARM_EVERY_S:
            return
        self._said_at = monotonic()
        depth = self._depth
        log.error(
            "the spool waits for the database",
            rows=depth.rows + depth.doubtful,
            oldest_s=round(_age_s(depth)),
            cause=cause,
        )


def _source_of(spool: Spool, number: int, settings: str) -> Source:
    """Return a source of a spool; of one that is damaged, one whose reports wait in quarantine until it is known."""
    try:
        return source_of_settings(0, settings)
    except (ValueError, TypeError, AttributeError) as error:  # no JSON, no name, no object
        lost = Source(id=0, name=f"lost-source-{number}", dialects=())
        log.error(
            "the spool is damaged: whose requests these are is lost; they go to the journal, and into quarantine",
            file=str(spool.path),
            source=lost.name,
            cause=_words(error),
        )
        return lost


def _age_s(depth: Depth) -> float:
    return 0.0 if depth.oldest_us is None else max(0.0, (now_us() - depth.oldest_us) / 1e6)


def _may_come(error: BaseException | None) -> bool:
    """Return whether the database is away or busy, and does not refuse."""
    return is_away(error) or (isinstance(error, DBAPIError) and is_transient(error))


def _words(error: Exception) -> str:
    if isinstance(error, DBAPIError):
        return driver_words(error)
    words = " ".join(str(error).split())
    return words if isinstance(error, TollbookError) else f"{type(error).__name__}: {words}"
