"""RADIUS over TCP (RFC 6613) and over TLS (RFC 6614): listeners and their connections, as one port of the receiver.

Nothing here waits for a peer. What a connection may hold is bounded: part of one packet read, replies not taken, and
requests not answered, beyond which nothing more of it is read. Peers that are slow to do their part are closed.
"""

import errno
import select
import socket
import ssl
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Any

from accounting.radius import metrics
from accounting.radius.drops import DropLog
from accounting.radius.intake import UNKNOWN_CLIENT, Intake
from accounting.radius.packet import packets_of
from accounting.radius.tls import ServerContext, Session

CONNECTIONS_MAX = 500
"""Connections at a time, so that with a limit of 1024 descriptors the journal and the spool have theirs."""
CLIENT_CONNECTIONS_MAX = 100
HANDSHAKES_MAX = 16
"""Connections of one address that have not ended their TLS handshake."""
ALL_HANDSHAKES_MAX = 128
ACCEPTS_MAX = 16
READ_BYTES = 16384
"""What is read at once: fifty requests, or what a TLS record may hold (RFC 8446 section 5.1)."""
PASS_S = 0.005
"""How long sockets are looked after before a finished commit is."""
WAITING_MAX = 256
"""Requests of a connection that wait; more are not read. It has no more identifiers (RFC 6613 section 2.6.5)."""
EMPTY_BYTES_MAX = 65536
"""Octets without the end of one packet: of 4096, it would take TLS records of an octet each."""
HANDSHAKE_S = 10.0
UNFINISHED_S = 10.0
"""How long the rest of a packet, or the reading of a reply, may take."""
UNPROVEN_S = 60.0
"""How long a connection may be silent that has neither a certificate nor sent a packet that was right."""
IDLE_S = 3600.0
"""How long others may be silent."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))  # a dead peer: 2 minutes
_NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_CLOSING = frozenset(
    (
        UNKNOWN_CLIENT,
        "malformed",
        "oversized",
        "bad_authenticator",
        "bad_message_authenticator",
        "no_message_authenticator",
    )
)
"""Faults of a packet that end its connection (RFC 6613 section 2.6.4)."""
_GONE = select.EPOLLHUP | select.EPOLLERR


class _Connection:
    """One peer: the way its replies go back. tls: its session, None over TCP; names: those of its certificate.

    number: in the keys of its requests, for another connection may come from the same port while these wait.
    """

    def __init__(
        self,
        to_flush: "dict[int, _Connection]",
        bound: socket.socket,
        address: tuple[str, int],
        number: int,
        tls: Session | None,
        now: float,
    ) -> None:
        self.socket = bound
        self.fd = bound.fileno()
        self.address = address
        self.number = number.to_bytes(8)
        self.tls = tls
        self.names: tuple[str, ...] = ()
        self.client = ""
        self.counted_as = ""
        self.has_ended = False  # the peer sends no more, but may read
        self.is_held = False  # its client has had its share
        self.is_proven = False  # by a certificate, or a packet that was right
        self.waiting = 0
        self.rest = b""
        self.empty_bytes = 0  # came since the last packet
        self.replies = bytearray()
        self.unsent = b""  # as it goes over the wire
        self.heard_at = now
        self.owes_since = now  # a handshake, the rest of a packet, the reading of replies
        self.interest = select.EPOLLIN
        self.is_taking = False
        self._to_flush = to_flush

    @property
    def is_shaking(self) -> bool:
        """Whether its TLS handshake is not over."""
        return self.tls is not None and self.tls.is_shaking

    @property
    def is_paused(self) -> bool:
        """Whether more of it is not read now."""
        return self.has_ended or self.is_held or self.waiting >= WAITING_MAX or bool(self.unsent)

    @property
    def idle_s(self) -> float:
        """How long it may be silent."""
        return IDLE_S if self.is_proven else UNPROVEN_S

    def sendto(self, data: bytes, _address: Any, /) -> int:
        """Keep a reply until all of this commit are there: one call, and over TLS one record, sends them."""
        if self.fd < 0:
            raise BrokenPipeError
        if not self.is_taking:  # it waited for its commit
            self.waiting -= 1
        self.replies += data
        self._to_flush[self.fd] = self
        return len(data)


class StreamPort:
    """Listening TCP sockets and the connections they accept; closes what it accepted, not the listeners.

    It is an epoll of its own, which is ready when one of its sockets is.
    """

    def __init__(
        self,
        tcp: Iterable[socket.socket] = (),
        tls: Iterable[socket.socket] = (),
        context: ServerContext | None = None,
    ) -> None:
        self._context = context
        self._listeners = {one.fileno(): (one, False) for one in tcp} | {one.fileno(): (one, True) for one in tls}
        self._connections: dict[int, _Connection] = {}
        self._to_flush: dict[int, _Connection] = {}
        self._numbers = count()
        self._counts: Counter[str] = Counter()
        self._closed = DropLog(metrics.CLOSED, "connections closed")
        self._is_full = False
        self._poll = select.epoll()
        for fd in self._listeners:
            self._poll.register(fd, select.EPOLLIN)
        self.fileno = self._poll.fileno

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def renew(self, context: ServerContext) -> None:
        """Shake hands by this from now on; where it trusts others than before, let those who are in come again."""
        has_changed = self._context is not None and context.trusted != self._context.trusted
        self._context = context
        if not has_changed:
            return
        for connection in list(self._connections.values()):
            if connection.is_shaking:
                self._close(connection)
            elif connection.names:
                connection.has_ended = True  # what waits is answered first
                self._to_flush[connection.fd] = connection
        self.flush()

    def ready(self, intake: Intake) -> None:
        """Look after some of the sockets that have something to do, each in its turn."""
        begun = now = monotonic()
        while now - begun < PASS_S and (events := self._poll.poll(0, 1)):
            [(fd, event)] = events
            if fd in self._listeners:
                self._accept(*self._listeners[fd], intake, now)
            elif connection := self._connections.get(fd):
                self._serve(connection, event, intake, now)
            now = monotonic()
        self.flush()

    def flush(self) -> None:
        """Send what was answered since the last time."""
        while self._to_flush:
            _, connection = self._to_flush.popitem()
            try:
                self._send(connection)
            except OSError:  # the peer is gone
                self._close(connection)

    def tidy(self, now: float) -> None:
        """Close those whose time is over; once a second or so."""
        # the longest silent first, so that the held take turns
        for connection in sorted(self._connections.values(), key=lambda one: one.heard_at):
            owed_s, silent_s = now - connection.owes_since, now - connection.heard_at
            if connection.is_shaking:
                if owed_s > HANDSHAKE_S:
                    self._close(connection, "handshake", detail="it took too long")
            elif connection.unsent:
                if owed_s > UNFINISHED_S:
                    self._close(connection, "slow_reader")
            elif connection.rest and not connection.is_paused:
                if owed_s > UNFINISHED_S:
                    self._close(connection, "unfinished")
            elif not connection.waiting and not connection.is_held and silent_s > connection.idle_s:
                self._close(connection, "idle")
            if connection.is_held and connection.fd >= 0:
                connection.is_held = False
                self._watch(connection)
        if self._is_full:
            self._is_full = False
            for fd in self._listeners:
                self._poll.modify(fd, select.EPOLLIN)
        self._closed.report(now)
        metrics.CONNECTIONS.set(len(self._connections))

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections.values()):
            self._close(connection)
        self._closed.report(None)
        self._poll.close()

    def _send(self, connection: _Connection) -> None:
        """Send what the peer takes now, and keep the rest."""
        was_unsent = bool(connection.unsent)
        tls, replies = connection.tls, bytes(connection.replies)
        connection.replies.clear()
        if tls is not None:
            if replies:
                tls.send(replies)
            replies = tls.outgoing()
        connection.unsent += replies
        if connection.unsent:
            with suppress(BlockingIOError):
                connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
            if connection.unsent and not was_unsent and not connection.is_shaking:
                connection.owes_since = monotonic()
        if connection.has_ended and not connection.waiting and not connection.unsent:
            self._close(connection)
        else:
            self._watch(connection)

    def _accept(self, listener: socket.socket, is_tls: bool, intake: Intake, now: float) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                accepted, (host, port, *_) = listener.accept()
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    self._closed.add("no_descriptor", "", listener.getsockname())
                    self._is_full = True
                    for fd in self._listeners:
                        self._poll.modify(fd, 0)
                return
            client = None if is_tls else intake.client_at(host)
            name = client.name if client else ""
            counted_as = f"handshake {host}" if is_tls else name
            fault = ""
            if client is None and not (is_tls and intake.awaits_certified(host)):
                fault = UNKNOWN_CLIENT
            elif self._is_too_many(counted_as, is_tls):
                fault = "too_many"
            if fault:
                accepted.close()
                self._closed.add(fault, name, (host, port))
                continue
            tls = None
            if is_tls:
                assert self._context is not None
                tls = Session(self._context)
            try:
                bound = _prepared(accepted)
                self._poll.register(bound, select.EPOLLIN)
            except OSError:  # the peer is gone again
                accepted.close()
                continue
            connection = _Connection(self._to_flush, bound, (host, port), next(self._numbers), tls, now)
            connection.client, connection.counted_as = name, counted_as
            self._counts[counted_as] += 1
            self._connections[connection.fd] = connection

    def _is_too_many(self, counted_as: str, is_tls: bool) -> bool:
        if len(self._connections) >= CONNECTIONS_MAX:
            return True
        if not is_tls:
            return self._counts[counted_as] >= CLIENT_CONNECTIONS_MAX
        in_all = sum(connection.is_shaking for connection in self._connections.values())
        return self._counts[counted_as] >= HANDSHAKES_MAX or in_all >= ALL_HANDSHAKES_MAX

    def _serve(self, connection: _Connection, event: int, intake: Intake, now: float) -> None:
        was_shaking = connection.is_shaking
        try:
            if event & select.EPOLLOUT:
                self._send(connection)
            elif event & select.EPOLLIN:
                self._read(connection, intake, now)
            elif event & _GONE:
                self._close(connection)
        except ssl.SSLError as error:
            self._close(connection, "handshake" if was_shaking else "tls", detail=_words(error))
        except OSError:  # the peer is gone
            self._close(connection)

    def _read(self, connection: _Connection, intake: Intake, now: float) -> None:
        if not connection.is_shaking and not intake.has_room(connection.address[0], connection.names):
            connection.is_held = True
            metrics.HELD.labels(connection.client).inc()
            self._watch(connection)
            return
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        self._to_flush[connection.fd] = connection
        connection.empty_bytes += len(data)
        connection.has_ended = connection.has_ended or not data
        if data and (tls := connection.tls) is not None:
            was_shaking = tls.is_shaking
            data = tls.receive(data)
            connection.has_ended = connection.has_ended or tls.has_ended
            if tls.is_shaking or (was_shaking and not self._let_in(connection, tls, intake)):
                return
        if data:
            self._take(connection, data, intake, now)
            if connection.is_proven:
                connection.heard_at = now
        if connection.empty_bytes > EMPTY_BYTES_MAX:
            self._close(connection, "unfinished")
        if connection.fd >= 0:
            self._watch(connection)

    def _let_in(self, connection: _Connection, tls: Session, intake: Intake) -> bool:
        """Find out whose a handshake that is over was; return whether it stays."""
        connection.names = tls.names
        client = intake.client_at(connection.address[0], connection.names) if connection.names else None
        if client is None:
            self._close(connection, UNKNOWN_CLIENT, certificate=" ".join(connection.names)[:255])
            return False
        if self._counts[client.name] >= CLIENT_CONNECTIONS_MAX:
            self._close(connection, "too_many")
            return False
        self._uncount(connection)
        self._counts[client.name] += 1
        connection.client = connection.counted_as = client.name
        connection.is_proven = True
        return True

    def _take(self, connection: _Connection, data: bytes, intake: Intake, now: float) -> None:
        """Give what is whole to the intake; keep the rest."""
        packets, rest = packets_of(connection.rest + data)
        metrics.RECEIVED.inc(len(packets))
        for packet in packets:
            waited = intake.pending
            connection.is_taking = True
            fault = intake.take(packet, connection, connection.address, connection.names, connection.number)
            connection.is_taking = False
            connection.waiting += intake.pending - waited
            if fault in _CLOSING:
                self._close(connection, fault)
                return
            connection.is_proven = connection.is_proven or not fault
        if isinstance(rest, str):
            intake.drops.add(rest, connection.client, connection.address)
            self._close(connection, rest)
            return
        if packets or not connection.rest:
            connection.owes_since = now
        if packets:
            connection.empty_bytes = 0
        connection.rest = rest

    def _watch(self, connection: _Connection) -> None:
        """Wait for what can be done: read while not too much waits, send while something is unsent."""
        interest = (0 if connection.is_paused else select.EPOLLIN) | (select.EPOLLOUT if connection.unsent else 0)
        if interest == connection.interest:
            return
        if interest & select.EPOLLIN and not connection.is_shaking:  # what it owes it could not send until now
            connection.owes_since = monotonic()
        connection.interest = interest
        self._poll.modify(connection.fd, interest)

    def _uncount(self, connection: _Connection) -> None:
        self._counts[connection.counted_as] -= 1
        if not self._counts[connection.counted_as]:
            del self._counts[connection.counted_as]

    def _close(self, connection: _Connection, reason: str = "", **details: str) -> None:
        if connection.fd < 0:
            return
        del self._connections[connection.fd]
        self._uncount(connection)
        self._poll.unregister(connection.fd)
        self._to_flush.pop(connection.fd, None)
        connection.fd = -1
        if connection.tls is not None:
            connection.tls.end()
            with suppress(OSError):  # says goodbye, or what was wrong, and does not wait
                connection.socket.send(connection.unsent + connection.tls.outgoing())
        connection.socket.close()
        if reason:
            self._closed.add(reason, connection.client, connection.address, **details)


def _prepared(accepted: socket.socket) -> socket.socket:
    """Set what a connection needs: it never waits, sends replies at once, and finds out that its peer is dead."""
    accepted.setblocking(False)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        accepted.setsockopt(socket.IPPROTO_TCP, option, value)
    return accepted


def _words(error: ssl.SSLError) -> str:
    return getattr(error, "verify_message", "") or error.reason or str(error)
