"""Follows the accounting tables of one proxy's database and stores their rows in the journal, with how far it has read.

It never writes to the proxy's database. What rows mean is decided later, by accounting.sources.
"""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from accounting.base.clock import now_us, parse_instant, to_us
from accounting.base.config import CollectorSettings
from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.collecting.flavours import TABLES, TableSpec, missing_words, named
from accounting.collecting.follower import Follower
from accounting.collecting.metrics import FAILURES, GAPS, GIVEN_UP, RESTARTS, ROWS
from accounting.collecting.position import Position, position_of, position_text
from accounting.db.append import NewRow
from accounting.db.engine import Database, as_problem
from accounting.db.foreign import Foreign, ForeignAway, ForeignRefused, open_foreign
from accounting.journal import JournalUnavailable, JournalWriter, load_positions, register_source
from accounting.radius.source_version import source_version

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
REFUSED_WAIT_S = 30.0
WRITER_KIND = "collector"

log = get_logger("collector")


class _Pending(NamedTuple):
    """Rows and a position on their way into the journal; kept until it is known that they are there."""

    table: str
    rows: list[NewRow]
    position: Position


class Collector:
    """Follows the tables of one [[collectors]] entry; one thread at a time."""

    def __init__(self, database: Database, settings: CollectorSettings, *, clock: Callable[[], int] = now_us) -> None:
        self.name = settings.name
        self._database = database
        self._settings = settings
        self._clock = clock
        self._writer = JournalWriter(database, WRITER_KIND, settings.name, clock=clock)
        self._source_id = 0
        self._foreign: Foreign | None = None
        self._followers: dict[str, Follower] = {}
        self._positions: dict[str, Position] = {}
        self._pending: _Pending | None = None
        self._failures = 0
        self._said = ""

    @property
    def trouble(self) -> str:
        """What keeps it from reading now, empty if nothing does."""
        return self._said

    def step(self) -> float:
        """Read once what is new in each table; return after how many seconds to do it again.

        0 says that there is more to read at once. A database that is away or refuses is told once, and tried again.
        """
        try:
            is_full = self.collect()
        except (ForeignAway, ForeignRefused, JournalUnavailable, DBAPIError) as error:
            self._complain(as_problem(error) if isinstance(error, DBAPIError) else error)
            if isinstance(error, ForeignRefused):
                return REFUSED_WAIT_S
            return BACK_OFF_S[min(self._failures, len(BACK_OFF_S)) - 1]
        if self._failures:
            log.info("reads again", collector=self.name)
        self._failures, self._said = 0, ""
        return 0.0 if is_full else float(self._settings.interval_s)

    def collect(self) -> bool:
        """Read once what is new in each table and store it; return whether there is more to read at once.

        ForeignAway and ForeignRefused tell of the proxy's database, JournalUnavailable of ours.
        """
        try:
            if self._pending is not None:
                self._store(self._pending)
            if self._foreign is None:
                self._open()
            full = [self._collect(table) for table in self._followers]
            return any(full)
        except (ForeignAway, ForeignRefused):
            self._disconnect()
            raise

    def close(self) -> None:
        """Give both connections back."""
        self._disconnect()
        self._writer.close()

    # ---- one table

    def _collect(self, table: str) -> bool:
        now = self._clock()
        batch = self._followers[table].poll(self._positions[table], now)
        if batch.restarted:
            RESTARTS.labels(self.name, table).inc()
            log.warning(
                "the table was emptied or made again: reading it from its start", collector=self.name, table=table
            )
        if batch.given_up:
            GIVEN_UP.labels(self.name, table).inc(batch.given_up)
            log.info("ids that never appeared are given up", collector=self.name, table=table, ids=batch.given_up)
        if batch.rows or batch.position != self._positions[table]:
            rows = [(now, self._source_id, b"", raw) for raw in batch.rows]
            self._store(_Pending(table, rows, batch.position))
        GAPS.labels(self.name, table).set(len(batch.position.gaps))
        return batch.is_full

    def _store(self, pending: _Pending) -> None:
        self._pending = pending
        kept = (self.name, pending.table, position_text(pending.position), self._clock())
        self._writer.append(pending.rows, kept)
        self._pending = None
        self._positions[pending.table] = pending.position
        if pending.rows:
            ROWS.labels(self.name, pending.table).inc(len(pending.rows))
            log.info("stored rows", collector=self.name, table=pending.table, rows=len(pending.rows))

    # ---- the proxy's database

    def _open(self) -> None:
        if not self._source_id:
            self._source_id = register_source(self._database, source_version(self._settings))
        foreign = open_foreign(self._settings.url)
        self._foreign = foreign
        specs = [named(spec, self._settings.columns) for spec in TABLES[self._settings.flavour]]
        self._followers = {}
        with self._database.journal_read() as conn:
            kept = load_positions(conn, self.name)
        for spec in specs:
            columns = foreign.columns(spec.name)
            if not columns and spec.optional:
                self._say_missing(spec)
                continue
            self._check(spec, columns)
            follower = Follower(
                foreign, spec, columns, self._settings.timezone, self._settings.batch_max,
                self._settings.gap_s * 1_000_000,
            )  # fmt: skip
            if spec.name not in self._positions:
                self._positions[spec.name] = (
                    position_of(kept[spec.name]) if spec.name in kept else self._first(follower, spec)
                )
            self._followers[spec.name] = follower

    def _first(self, follower: Follower, spec: TableSpec) -> Position:
        start = self._settings.start
        start_us = None if start in ("all", "now") else to_us(parse_instant(start))
        position = follower.first(start, self._clock(), start_us)
        self._store(_Pending(spec.name, [], position))
        log.info("begins", collector=self.name, table=spec.name, start=start, after_id=position.high)
        return position

    def _check(self, spec: TableSpec, columns: dict[str, int | None]) -> None:
        flavour = self._settings.flavour
        if not columns:
            raise ForeignRefused(
                f"collector {self.name}: there is no table {spec.name} that this user may read; is {flavour} the right"
                f" flavour, and is it GRANT SELECT ON {spec.name}?"
            )
        wanted = self._settings.columns.values() if not spec.optional else ()
        words = missing_words(flavour, spec, columns, set(wanted))
        if words:
            raise ForeignRefused(f"collector {self.name}: {words}")

    def _say_missing(self, spec: TableSpec) -> None:
        words = f"no table {spec.name} that this user may read: going on without it"
        if words != self._said:
            log.info(words, collector=self.name)

    def _disconnect(self) -> None:
        foreign, self._foreign = self._foreign, None
        if foreign is not None:
            foreign.close()

    def _complain(self, error: TollbookError) -> None:
        self._failures += 1
        FAILURES.labels(self.name).inc()
        if str(error) != self._said:
            self._said = str(error)
            log.error("cannot read now, and tries again", collector=self.name, error=str(error))
