"""The journal: every accounting event as it came, by writer and seq. The only module that writes it.

A writer's seq counts up from 1 by one, from one connection, in order: no gaps, nothing that appears late.
Nothing here changes or removes a row.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from accounting.base.clock import now_us
from accounting.base.errors import TollbookError
from accounting.db.append import Appender, Doubt, KeptPosition, NewRow, open_appender
from accounting.db.engine import Database, driver_words
from accounting.db.tables import collector_position
from accounting.db.tables import journal as journal_table
from accounting.db.tables import source as source_table
from accounting.db.tables import writer as writer_table
from accounting.event import SEQ_BITS, Source, pack_ref, unpack_ref

FETCH_SEQS_MAX = 1000
NEWEST_WRITERS = 50
DAY_US = 86_400 * 1_000_000
PACKETS = ("receiver", "spool", "replay")  # the kinds of writers whose rows are packets


class JournalRow(NamedTuple):
    """One accounting event as it came; `peer` as accounting.radius.clients.pack_peer makes it, or empty."""

    ref: int
    received_us: int
    source_id: int
    peer: bytes
    raw: bytes


class WriterRow(NamedTuple):
    """One start of a writing process, or its next UTC day."""

    id: int
    kind: str
    name: str
    host: str
    pid: int
    started_us: int


class SeqCount(NamedTuple):
    """What a writer's rows look like: without a gap, first is 1 and last equals rows."""

    writer: int
    first: int
    last: int
    rows: int


class WriterEnd(NamedTuple):
    """How far a writer has come; its mark tells it from one that got the same id."""

    writer: int
    mark: str
    seq: int


class JournalUnavailable(TollbookError):
    """The rows of an append are not known to be stored: try again with the same rows first."""


class JournalWriter:
    """Appends rows over a connection of its own; one thread at a time.

    A new writer id is taken at the first append and whenever the UTC day of a batch's first row is another.
    """

    def __init__(self, database: Database, kind: str, name: str, *, clock: Callable[[], int] = now_us) -> None:
        self._database = database
        self._kind = kind
        self._name = name
        self._clock = clock
        self._writer = 0
        self._mark = ""
        self._day = 0
        self._seq = 0
        self._doubtful: Sequence[NewRow] = ()
        self._appender: Appender | None = None
        self._errors = (DBAPIError, database.journal_engine.dialect.loaded_dbapi.Error)

    @property
    def writer(self) -> int:
        """The writer id in use, 0 before the first."""
        return self._writer

    @property
    def end(self) -> WriterEnd:
        """How far the writer has come, of what is known to be stored."""
        return WriterEnd(self._writer, self._mark, self._seq)

    @property
    def doubt(self) -> Doubt | None:
        """The append whose outcome is unknown, if there is one."""
        return Doubt(self._writer, self._mark, self._seq + 1) if self._doubtful else None

    def give_up(self) -> None:
        """Forget the append in doubt and the writer id: whoever takes the rows on knows both. The next id is new."""
        self.close()
        self._writer, self._day, self._seq, self._doubtful = 0, 0, 0, ()

    def open(self) -> None:
        """Connect and take a writer id now, so that a database that cannot be written is found out before traffic."""
        try:
            self._connect()
            self._register(self._clock() // DAY_US)
        except self._errors as error:
            raise self._unavailable(error) from error

    def append(self, rows: Sequence[NewRow], position: KeptPosition | None = None) -> list[int]:
        """Store rows in one commit and return their refs; when it returns they are on stable storage.

        A collector's position is stored in the same transaction as the rows that it says were read.

        JournalUnavailable leaves open whether they were stored. The next append must begin with the same rows: it
        reads how far this writer got, and stores what is missing.
        """
        if not rows and position is None:
            return []
        try:
            if self._appender is None:
                self._connect()
            if not rows:
                assert self._appender is not None
                assert not self._doubtful, "an append in doubt was not repeated"
                self._appender.insert(self._writer, self._seq + 1, (), position)
                return []
            stored = self._stored_of_doubtful() if self._doubtful else 0
            assert list(rows[:stored]) == list(self._doubtful[:stored]), "an append in doubt was not repeated"
            day = rows[0][0] // DAY_US
            if not stored and (not self._writer or day != self._day):
                self._register(day)
            self._doubtful = rows
            assert self._appender is not None
            if stored < len(rows):
                left = rows[stored:] if stored else rows
                self._appender.insert(self._writer, self._seq + stored + 1, left, position)
        except self._errors as error:
            raise self._unavailable(error) from error
        self._doubtful = ()
        first = pack_ref(self._writer, self._seq + 1)
        self._seq += len(rows)
        return list(range(first, first + len(rows)))

    def close(self) -> None:
        """Give the connection back."""
        appender, self._appender = self._appender, None
        if appender is not None:
            with suppress(*self._errors):  # it may be broken already
                appender.close()

    def _connect(self) -> None:
        self.close()
        self._appender = open_appender(self._database.journal_engine, self._database.answer_s)

    def _register(self, day: int) -> None:
        with self._database.journal_write() as conn:
            row = _insert_writer(conn, self._kind, self._name, self._clock())
        self._writer, self._mark, self._day, self._seq = row.id, _mark_of(row), day, 0

    def _stored_of_doubtful(self) -> int:
        """Return how many rows of the append in doubt are in the journal: all or none, unless it took several days."""
        assert self._appender is not None
        return min(max(0, self._appender.last_seq(self._writer) - self._seq), len(self._doubtful))

    def _unavailable(self, error: Exception) -> JournalUnavailable:
        """Close the connection an error came from, and return the error to raise."""
        self.close()
        return _unavailable(self._database, error)


class SpoolWriter:
    """Brings rows of a spool into the journal, each to a place fixed beforehand; doing it again changes nothing.

    Their writer is found by its name, which is the generation's. Its errors are JournalUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._errors = (DBAPIError, database.journal_engine.dialect.loaded_dbapi.Error)

    def append(self, name: str, first_seq: int, rows: Sequence[NewRow]) -> WriterEnd:
        """Store rows as first_seq and on of the writer of that name; those that are there already are left out."""
        try:
            with self._appender() as appender:
                writer = self._writer(name)
                stored = max(0, appender.last_seq(writer.id) - first_seq + 1)
                if stored < len(rows):
                    appender.insert(writer.id, first_seq + stored, rows[stored:])
                return WriterEnd(writer.id, _mark_of(writer), first_seq + len(rows) - 1)
        except self._errors as error:
            raise _unavailable(self._database, error) from error

    def settle(self, doubt: Doubt, rows: Sequence[NewRow]) -> WriterEnd:
        """Store rows in the very place where they may be already, or may yet come to be.

        The key lets only one of both in. A database that was put back to before it knew the writer may have given its
        id to another since: then they get a writer of their own, with the gap before them that verify() tells of.
        """
        try:
            with self._database.journal_read() as conn:
                found = conn.execute(select(writer_table).where(writer_table.c.id == doubt.writer)).one_or_none()
            if found is None or _mark_of(WriterRow(*found)) != doubt.mark:
                return self.append(sha256(f"{doubt}".encode()).hexdigest(), doubt.first_seq, rows)
            with self._appender() as appender:
                appender.insert(doubt.writer, doubt.first_seq, rows, again=True)
            return WriterEnd(doubt.writer, doubt.mark, doubt.first_seq + len(rows) - 1)
        except self._errors as error:
            raise _unavailable(self._database, error) from error

    @contextmanager
    def _appender(self) -> Iterator[Appender]:
        appender = open_appender(self._database.journal_engine, self._database.answer_s)
        try:
            yield appender
        finally:
            with suppress(*self._errors):
                appender.close()

    def _writer(self, name: str) -> WriterRow:
        """Return the writer of that name, made if there is none: one, though an earlier attempt may yet be committed.

        The locking read waits for such an attempt.
        """
        query = select(writer_table).where(writer_table.c.kind == "spool", writer_table.c.name == name).limit(1)
        with self._database.journal_write() as conn:
            known = conn.execute(query).first() or conn.execute(query.with_for_update()).first()
            return _insert_writer(conn, "spool", name, now_us()) if known is None else WriterRow(*known)


def _insert_writer(conn: Connection, kind: str, name: str, started_us: int) -> WriterRow:
    row = WriterRow(0, kind, name[:255], socket.gethostname()[:255], os.getpid(), started_us)
    values = row._asdict()
    del values["id"]
    key = conn.execute(insert(writer_table).values(values)).inserted_primary_key
    assert key is not None
    return row._replace(id=int(key[0]))


def _mark_of(row: WriterRow) -> str:
    return f"{row.host} {row.pid} {row.started_us}"


def _unavailable(database: Database, error: Exception) -> JournalUnavailable:
    words = driver_words(error) if isinstance(error, DBAPIError) else " ".join(str(error).split())
    return JournalUnavailable(f"journal {database} cannot be written: {words}")


def lost_rows(conn: Connection, end: WriterEnd) -> int:
    """Return how many rows the journal lacks at the end of what a writer has stored."""
    found = conn.execute(select(writer_table).where(writer_table.c.id == end.writer)).one_or_none()
    if found is None or _mark_of(WriterRow(*found)) != end.mark:
        return end.seq
    last = conn.execute(select(func.max(journal_table.c.seq)).where(journal_table.c.writer == end.writer)).scalar()
    return max(0, end.seq - (last or 0))


def register_source(database: Database, source: Source) -> int:
    """Return the id of a source version; one with the same settings is taken again, a new one is added."""
    settings = source_settings(source)
    digest = sha256(settings.encode()).hexdigest()
    values = {"name": source.name, "digest": digest, "settings": settings, "first_us": now_us()}
    try:
        with database.journal_write() as conn:
            known = _source_id(conn, digest)
            if known is not None:
                return known
            key = conn.execute(insert(source_table).values(values)).inserted_primary_key
            assert key is not None
            return int(key[0])
    except IntegrityError:  # another process was quicker
        with database.journal_read() as conn:
            known = _source_id(conn, digest)
        assert known is not None
        return known


def load_sources(conn: Connection) -> dict[int, Source]:
    """Return all source versions by id."""
    found = conn.execute(select(source_table.c.id, source_table.c.settings))
    return {number: source_of_settings(number, settings) for number, settings in found}


def load_positions(conn: Connection, collector: str) -> dict[str, str]:
    """Return how far a collector has read, by table, as accounting.collecting.position writes it."""
    c = collector_position.c
    found = conn.execute(select(c.table_name, c.position).where(c.collector == collector))
    return {row.table_name: row.position for row in found}


def ends(conn: Connection) -> dict[int, int]:
    """Return the highest seq of each writer that has rows."""
    last = select(func.max(journal_table.c.seq)).where(journal_table.c.writer == writer_table.c.id).scalar_subquery()
    return {writer: seq for writer, seq in conn.execute(select(writer_table.c.id, last)) if seq is not None}


def writers(conn: Connection) -> list[WriterRow]:
    """Return all writers, oldest first."""
    return [WriterRow(*row) for row in conn.execute(select(writer_table).order_by(writer_table.c.id))]


def seq_counts(conn: Connection) -> list[SeqCount]:
    """Return first, last and number of the rows of each writer that has any; reads the whole key."""
    seq = journal_table.c.seq
    found = conn.execute(
        select(journal_table.c.writer, func.min(seq), func.max(seq), func.count())
        .group_by(journal_table.c.writer)
        .order_by(journal_table.c.writer)
    )
    return [SeqCount(*row) for row in found]


def gaps(conn: Connection) -> list[SeqCount]:
    """Return the writers whose rows are not seq 1 to last without a gap. Every one is an alarm."""
    return [count for count in seq_counts(conn) if count.first != 1 or count.last != count.rows]


def read_after(conn: Connection, offsets: Mapping[int, int], limit: int) -> list[JournalRow]:
    """Return the rows behind each writer's offset (0 where it has none), at most `limit` in all.

    Each writer's rows come in order and without a hole; writers with much to tell leave room for the others.
    """
    waiting = {
        writer: last - offsets.get(writer, 0) for writer, last in ends(conn).items() if last > offsets.get(writer, 0)
    }
    rows: list[JournalRow] = []
    for writer, share in sorted(_shares(waiting, limit).items()):
        found = conn.execute(_READ_AFTER, {"writer": writer, "seq": offsets.get(writer, 0), "share": share})
        rows += _journal_rows(writer, found)
    return rows


def read_last(conn: Connection, number: int) -> list[JournalRow]:
    """Return the newest rows in the order of their arrival, looked for among the newest writers."""
    rows: list[JournalRow] = []
    query = text(f"{_COLUMNS} WHERE writer = :writer ORDER BY seq DESC LIMIT :share")
    for writer in sorted(ends(conn), reverse=True)[:NEWEST_WRITERS]:
        rows += _journal_rows(writer, conn.execute(query, {"writer": writer, "share": number}))
    return sorted(rows, key=lambda row: (row.received_us, row.ref))[-number:]


def fetch(conn: Connection, refs: Sequence[int]) -> list[JournalRow]:
    """Return the rows at these positions, in no particular order; those that are not there are left out."""
    by_writer: dict[int, set[int]] = {}
    for ref in refs:
        writer, seq = unpack_ref(ref)
        by_writer.setdefault(writer, set()).add(seq)
    rows: list[JournalRow] = []
    for writer, wanted in by_writer.items():
        seqs = sorted(wanted)
        for at in range(0, len(seqs), FETCH_SEQS_MAX):
            listed = ",".join(map(str, seqs[at : at + FETCH_SEQS_MAX]))  # numbers of our own: one short statement
            found = conn.exec_driver_sql(f"{_COLUMNS} WHERE writer = {writer} AND seq IN ({listed})")
            rows += _journal_rows(writer, found)
    return rows


_COLUMNS = "SELECT seq, received_us, source_id, peer, raw FROM journal"
_READ_AFTER = text(f"{_COLUMNS} WHERE writer = :writer AND seq > :seq ORDER BY seq LIMIT :share")


def _journal_rows(writer: int, found: Any) -> list[JournalRow]:
    base = writer << SEQ_BITS
    return [
        JournalRow(base | seq, received_us, source_id, peer, raw) for seq, received_us, source_id, peer, raw in found
    ]


def _shares(waiting: Mapping[int, int], limit: int) -> dict[int, int]:
    """Return how many rows each writer may give: those with few all of theirs, the rest in equal parts."""
    shares: dict[int, int] = {}
    left = limit
    order = sorted(waiting, key=lambda writer: waiting[writer])
    for place, writer in enumerate(order):
        shares[writer] = min(waiting[writer], -(-left // (len(order) - place)))
        left -= shares[writer]
    return {writer: share for writer, share in shares.items() if share}


def _source_id(conn: Connection, digest: str) -> int | None:
    return conn.execute(select(source_table.c.id).where(source_table.c.digest == digest)).scalar()


def source_settings(source: Source) -> str:
    """Return a source version's settings as the journal keeps them: equal for equal ones."""
    settings = source._asdict()
    del settings["id"]
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def source_of_settings(number: int, settings: str) -> Source:
    """Return a source from its settings; what an older version did not know has its default."""
    known: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(settings).items() if k in Source._fields
    }
    return Source(id=number, **known)
