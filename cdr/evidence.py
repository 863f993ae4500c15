"""Reads accounting events out of the journal: rows translated with the source version they came with.

It decides nothing about calls and writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from accounting.db.engine import Database
from accounting.event import AccountingEvent, Source, Untranslatable
from accounting.journal import PACKETS, JournalRow, ends, fetch, load_sources, read_after, writers
from accounting.sources import translate


class Unread(NamedTuple):
    """A journal row that is not an event yet, and why."""

    row: JournalRow
    source: str
    why: Untranslatable


class EvidenceReader:
    """Translates journal rows; keeps the source versions it has met."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sources: dict[int, Source] = {}

    def behind(self, offsets: Mapping[int, int]) -> int:
        """Return how many rows lie behind the offsets (writer -> seq)."""
        with self._database.journal_read() as conn:
            return sum(max(0, last - offsets.get(writer, 0)) for writer, last in ends(conn).items())

    def writers_of_packets(self) -> frozenset[int]:
        """Return the writers whose rows are packets, not rows of tables or anything else."""
        with self._database.journal_read() as conn:
            return frozenset(writer.id for writer in writers(conn) if writer.kind in PACKETS)

    def read_after(self, offsets: Mapping[int, int], limit: int) -> list[JournalRow]:
        """Return up to limit rows that lie behind the offsets (writer -> seq)."""
        with self._database.journal_read() as conn:
            return read_after(conn, offsets, limit)

    def fetch(self, refs: Sequence[int]) -> list[JournalRow]:
        """Return the rows at these journal positions."""
        if not refs:
            return []
        with self._database.journal_read() as conn:
            return fetch(conn, refs)

    def source(self, source_id: int) -> Source:
        """Return a source version by its id; KeyError if the journal does not know it."""
        if source_id not in self._sources:
            with self._database.journal_read() as conn:
                self._sources = load_sources(conn)
        return self._sources[source_id]

    def translate(
        self, rows: Iterable[JournalRow], overrides: Mapping[int, int]
    ) -> tuple[list[AccountingEvent], list[Unread]]:
        """Return the events of these rows, and the rows that could not be translated.

        overrides: journal position -> source version to read it with instead of its own.
        """
        events: list[AccountingEvent] = []
        unread: list[Unread] = []
        for row in rows:
            source = self.source(overrides.get(row.ref, row.source_id))
            said = translate(row, source)
            if isinstance(said, Untranslatable):
                unread.append(Unread(row, source.name, said))
            else:
                events.append(said)
        return events, unread
