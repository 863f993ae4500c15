"""rtpengine's CDR lines -> the journal: from UDP syslog as they come, from a file with its position in one commit.

Keeps the lines as they are; what they mean is told by accounting.sources. Answers nobody: syslog has no answers.
"""

import socket
from collections import deque
from collections.abc import Callable

from accounting.base.clock import now_us
from accounting.base.config import MediaSettings
from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.base.metrics import Counter
from accounting.base.sockets import split_address
from accounting.db.append import KeptPosition, NewRow
from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import JournalUnavailable, JournalWriter, load_positions, register_source
from accounting.radius.clients import address_of, network_of, pack_peer
from accounting.sources.rtpengine import is_cdr_line
from accounting.tail import Tail, position_of

BATCH_MAX = 500
DATAGRAM_BYTES_MAX = 65_535
PENDING_MAX = 100_000
"""Lines of one listener held while the database is away; more are dropped and counted."""
RECEIVE_BUFFER_BYTES = 4 << 20
FILE = "(file)"
"""Stands for the table in a kept position: no SQL table has such a name."""

LINES = Counter("tollbook_media_lines_total", "rtpengine CDR lines stored", ["source"])
IGNORED = Counter("tollbook_media_ignored_total", "Lines that are no CDR of rtpengine", ["source"])
DROPPED = Counter("tollbook_media_dropped_total", "Datagrams dropped", ["source", "reason"])
FAILURES = Counter("tollbook_media_commit_failures_total", "Commits that failed and were tried again")

log = get_logger("media")

PeerLine = tuple[bytes, bytes]
"""Who sent a line, as the journal keeps it, and the line."""


class UdpInbox:
    """Lines of syslog datagrams from the addresses that may send them."""

    def __init__(self, settings: MediaSettings) -> None:
        assert settings.listen is not None
        self._name = settings.name
        self._network = network_of(settings.address)
        self._lines: deque[PeerLine] = deque()
        self.socket = _bound(settings.listen, settings.name)

    def take(self, limit: int) -> tuple[list[PeerLine], None]:
        """Return up to `limit` lines that came."""
        self.receive()
        return [self._lines.popleft() for _ in range(min(limit, len(self._lines)))], None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def receive(self) -> None:
        """Read what the kernel holds, so that it need not drop any."""
        for _ in range(PENDING_MAX):
            try:
                line, address = self.socket.recvfrom(DATAGRAM_BYTES_MAX)
            except OSError:  # there is no more
                return
            sender = address_of(address[0])
            if sender.version != self._network.version or sender not in self._network:
                DROPPED.labels(self._name, "unknown_sender").inc()
            elif len(self._lines) >= PENDING_MAX:
                DROPPED.labels(self._name, "overload").inc()
            else:
                self._lines.append((pack_peer(address[0], address[1]), line))


class FileInbox:
    """Lines of a log file."""

    def __init__(self, settings: MediaSettings, kept: str | None) -> None:
        assert settings.file is not None
        self._tail = Tail(settings.file, position_of(kept) if kept else None)

    def take(self, limit: int) -> tuple[list[PeerLine], str]:
        """Return up to `limit` lines that were written, and how far they reach."""
        lines = self._tail.lines(limit)
        return [(b"", line) for line in lines], self._tail.position.text()

    def receive(self) -> None:
        """Do nothing: a file keeps what it holds."""

    def close(self) -> None:
        """Close the file."""
        self._tail.close()


class MediaLog:
    """One `[[media]]` of the settings: step() brings what has come into the journal."""

    def __init__(self, database: Database, settings: MediaSettings, *, clock: Callable[[], int] = now_us) -> None:
        self.name = settings.name
        self._clock = clock
        self._writer = JournalWriter(database, "media", settings.name, clock=clock)
        self._source_id = register_source(database, media_source(settings))
        self._rows: list[NewRow] = []
        self._position: KeptPosition | None = None
        self._failures = 0
        self.trouble = ""  # why the journal cannot be written now
        self.inbox: UdpInbox | FileInbox
        if settings.listen is not None:
            self.inbox = UdpInbox(settings)
        else:
            with database.journal_read() as conn:
                kept = load_positions(conn, settings.name)
            self.inbox = FileInbox(settings, kept.get(FILE))

    def open(self) -> None:
        """Take a writer id now, so that a database that cannot be written is found out at the start."""
        self._writer.open()

    def step(self) -> bool:
        """Store one batch; return whether there may be more at once."""
        self.inbox.receive()
        if not self._rows:
            taken = self._take()
            if not self._rows:
                return taken > 0
        try:
            self._writer.append(self._rows, self._position)
        except JournalUnavailable as error:
            self._failures += 1
            FAILURES.inc()
            self.trouble = f"{self.name}: {error}"
            if self._failures == 1:
                log.error("the journal is away: lines wait until it is back", source=self.name, cause=str(error))
            return False
        if self._failures:
            log.warning("the journal is back", source=self.name, failures=self._failures)
            self._failures = 0
            self.trouble = ""
        LINES.labels(self.name).inc(len(self._rows))
        self._rows, self._position = [], None
        return True

    def close(self) -> None:
        """Close everything; what was not stored is read again from a file, and lost of a listener."""
        self.inbox.close()
        self._writer.close()

    def _take(self) -> int:
        """Fill the batch; return how many lines were read for it."""
        lines, position = self.inbox.take(BATCH_MAX)
        received_us = self._clock()
        self._rows = [(received_us, self._source_id, peer, line) for peer, line in lines if is_cdr_line(line)]
        IGNORED.labels(self.name).inc(len(lines) - len(self._rows))
        if self._rows and position is not None:
            self._position = (self.name, FILE, position, received_us)
        return len(lines)


def media_source(settings: MediaSettings) -> Source:
    """Return a `[[media]]` of the settings as the journal keeps it, with id 0: it is not registered yet."""
    return Source(
        id=0, name=settings.name, kind="media", dialects=("rtpengine",), role=settings.role, rank=settings.rank
    )


def _bound(address: str, name: str) -> socket.socket:
    host, port = split_address(address)
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        bound.setblocking(False)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise TollbookError(f"[[media]] {name}: cannot listen on {address}: {error.strerror or error}") from error
    return bound
