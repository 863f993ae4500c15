"""Puts the Accounting-Requests of a capture into the journal, those that it does not hold already. Repeatable.

Verifies as a receiver does, and answers nobody. Two requests are the same if one client sent the same octets: an
authenticator is made of all of them, so what differs in anything, as after a failover, is for pairing to see.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from accounting.captures import Known
from accounting.db.append import NewRow
from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import DAY_US, JournalWriter, load_sources, register_source
from accounting.journal_window import rows_of, window_since
from accounting.radius.capture import Datagram
from accounting.radius.clients import Client, pack_peer
from accounting.radius.packet import verified

CHUNK = 50_000
"""Requests held at one time: some 60 MB with those of the chunk before."""
BATCH = 500
WINDOW_US = 600 * 1_000_000
"""How far a request's arrival in the journal may lie from its time in the capture: another machine's clock, a receiver
that was stopped for a while, a client that repeats."""
YEAR_2000_US = 946_684_800 * 1_000_000

STORED, HELD, REPEATED = "stored", "held", "repeated"
NO_TIME = "no_time"

Outcomes = Counter[tuple[str, str]]
"""How many, by client ("" if unknown) and outcome: STORED, HELD, REPEATED, NO_TIME or a receiver's reason to drop."""
_Key = tuple[str, bytes]


class _Found(NamedTuple):
    """A verified request of a capture."""

    at_us: int
    client: Client
    peer: bytes


class Replay:
    """Takes captures one after the other and counts what became of their requests."""

    def __init__(
        self, database: Database, known: Known, *, now_us: int, dry_run: bool = False, chunk: int = CHUNK
    ) -> None:
        self._database = database
        self._known = known
        self._until_us = now_us + DAY_US
        self._dry_run = dry_run
        self._chunk = chunk
        self._ids: dict[str, int] = {}  # of source versions, by client
        self._sources: dict[int, Source] = {}
        self._before: frozenset[_Key] = frozenset()
        self.outcomes: Outcomes = Counter()

    def take(self, name: str, found: Iterable[Datagram], ports: frozenset[int]) -> None:
        """Store what is new of a capture. JournalUnavailable: do it again, nothing gets in twice."""
        writer = JournalWriter(self._database, "replay", name)
        try:
            for chunk in self._chunks(found, ports):
                self._remove_held(chunk)
                self._store(writer, chunk)
        finally:
            writer.close()

    def _chunks(self, found: Iterable[Datagram], ports: frozenset[int]) -> Iterator[dict[_Key, _Found]]:
        chunk: dict[_Key, _Found] = {}
        for datagram in found:
            if datagram.to_port not in ports:
                continue  # an answer
            client = self._known.table.find(datagram.source)
            if client is None:
                self.outcomes["", "unknown_client"] += 1
                continue
            name = client.name
            packet = verified(datagram.payload, client.secrets, required=client.must_authenticate)
            if isinstance(packet, str):
                self.outcomes[name, packet] += 1
            elif datagram.at_us is None or not YEAR_2000_US <= datagram.at_us <= self._until_us:
                self.outcomes[name, NO_TIME] += 1
            elif (name, packet) in chunk or (name, packet) in self._before:
                self.outcomes[name, REPEATED] += 1
            else:
                peer = pack_peer(datagram.source, datagram.source_port)
                chunk[name, packet] = _Found(datagram.at_us, client, peer)
                if len(chunk) >= self._chunk:
                    yield self._begun(chunk)
                    chunk = {}
        if chunk:
            yield self._begun(chunk)

    def _begun(self, chunk: dict[_Key, _Found]) -> dict[_Key, _Found]:
        self._before = frozenset(chunk)
        return chunk

    def _remove_held(self, chunk: dict[_Key, _Found]) -> None:
        """Leave only what the journal lacks: reads the rows of the chunk's time, WINDOW_US around it."""
        times = [found.at_us for found in chunk.values()]
        window = window_since(self._database, min(times) - WINDOW_US, until_us=max(times) + WINDOW_US)
        for rows in rows_of(self._database, window):
            for row in rows:
                key = self._client_of(row.source_id), bytes(row.raw)
                if chunk.pop(key, None) is not None:
                    self.outcomes[key[0], HELD] += 1

    def _store(self, writer: JournalWriter, chunk: dict[_Key, _Found]) -> None:
        new = sorted(((found, packet) for (_, packet), found in chunk.items()), key=lambda one: one[0].at_us)
        for _, same_day in groupby(new, key=lambda one: one[0].at_us // DAY_US):
            day = list(same_day)
            for at in range(0, len(day), BATCH):
                batch = day[at : at + BATCH]
                if not self._dry_run:
                    writer.append(self._rows(batch))
                self.outcomes.update((found.client.name, STORED) for found, _ in batch)

    def _rows(self, batch: Sequence[tuple[_Found, bytes]]) -> list[NewRow]:
        return [(found.at_us, self._id_of(found.client), found.peer, packet) for found, packet in batch]

    def _id_of(self, client: Client) -> int:
        if client.name not in self._ids:
            self._ids[client.name] = register_source(self._database, self._known.sources[client.source_id])
        return self._ids[client.name]

    def _client_of(self, source_id: int) -> str:
        if source_id not in self._sources:
            with self._database.journal_read() as conn:
                self._sources = load_sources(conn)
        source = self._sources[source_id]
        return source.name if source.kind == "radius" else ""
