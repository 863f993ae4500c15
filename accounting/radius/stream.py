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
from time import monotonic
from typing import Any

from accounting.radius import metrics
from accounting.radius.drops import DropLog
from accounting.radius.intake import Intake
from accounting.radius.packet import packets_of
from accounting.radius.tls import ServerContext, names_of

CONNECTIONS_MAX = 500
"""Connections at a time, so that with a limit of 1024 descriptors the journal and the spool have theirs."""
CLIENT_CONNECTIONS_MAX = 100
HANDSHAKES_MAX = 16
"""Connections of one address that have not ended their TLS handshake."""
READ_BYTES = 16384
"""What is read at once: one TLS record (RFC 8446 section 5.1), so that none is left where epoll does not see it."""
EVENTS_MAX = 8
"""Sockets looked after before a finished commit is: eight reads or handshakes, some milliseconds."""
WAITING_MAX = 256
"""Requests of a connection that wait; more are not read. It has no more identifiers (RFC 6613 section 2.6.5)."""
UNSENT_BYTES_MAX = 65536
HANDSHAKE_S = 10.0
UNFINISHED_S = 10.0
"""How long the rest of a packet, or the reading of a reply, may take."""
IDLE_S = 3600.0
"""How long a connection may be silent."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))  # a dead peer: 2 minutes
_CLOSING = frozenset(
    (
        "unknown_client",
        "malformed",
        "oversized",
        "bad_authenticator",
        "bad_message_authenticator",
        "no_message_authenticator",
    )
)
"""Faults of a packet that end its connection (RFC 6613 section 2.6.4)."""
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_GONE = select.EPOLLHUP | select.EPOLLERR


class _Connection:
    """One peer: the way its replies go back. names: those of its certificate, over TLS."""

    def __init__(
        self, to_flush: "dict[int, _Connection]", bound: socket.socket, address: tuple[str, int], now: float
    ) -> None:
        self.socket = bound
        self.fd = bound.fileno()
        self.address = address
        self.names: tuple[str, ...] = ()
        self.client = ""
        self.counted_as = ""
        self.is_shaking = False
        self.has_ended = False  # the peer sends no more, but may read
        self.is_held = False  # its client has had its share
        self.waiting = 0
        self.rest = b""
        self.replies: list[bytes] = []
        self.unsent = b""
        self.heard_at = now
        self.owes_since = now  # a handshake, the rest of a packet, the reading of replies
        self.interest = select.EPOLLIN
        self.is_taking = False
        self._to_flush = to_flush

    def sendto(self, data: bytes, _address: Any, /) -> int:
        """Keep a reply until all of this commit are there: one call, and over TLS one record, sends them."""
        if self.fd < 0:
            raise BrokenPipeError
        if not self.is_taking:  # it waited for its commit
            self.waiting -= 1
        self.replies.append(data)
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
        """Look after some of the sockets that have something to do."""
        now = monotonic()
        for fd, events in self._poll.poll(0, EVENTS_MAX):
            if fd in self._listeners:
                self._accept(*self._listeners[fd], intake, now)
            elif connection := self._connections.get(fd):
                self._serve(connection, events, intake, now)
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
        for connection in list(self._connections.values()):
            owed_s, is_paused = now - connection.owes_since, connection.is_held or connection.waiting >= WAITING_MAX
            if connection.is_shaking:
                if owed_s > HANDSHAKE_S:
                    self._close(connection, "handshake", detail="it took too long")
            elif connection.unsent:
                if owed_s > UNFINISHED_S:
                    self._close(connection, "slow_reader")
            elif connection.rest and not is_paused:
                if owed_s > UNFINISHED_S:
                    self._close(connection, "unfinished")
            elif not connection.waiting and now - connection.heard_at > IDLE_S:
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
        """Send what the peer takes now; keep the rest, within bounds."""
        was_unsent = bool(connection.unsent)
        connection.unsent += b"".join(connection.replies)
        connection.replies.clear()
        if connection.unsent:
            with suppress(*_LATER):
                connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
            if connection.unsent and not was_unsent:
                connection.owes_since = monotonic()
        if len(connection.unsent) > UNSENT_BYTES_MAX:
            self._close(connection, "slow_reader")
        elif connection.has_ended and not connection.waiting and not connection.unsent:
            self._close(connection)
        else:
            self._watch(connection)

    def _accept(self, listener: socket.socket, is_tls: bool, intake: Intake, now: float) -> None:
        try:
            accepted, (host, port, *_) = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._closed.add("no_descriptor", "", listener.getsockname())
                self._is_full = True
                for fd in self._listeners:
                    self._poll.modify(fd, 0)
            return
        client = None if is_tls else intake.client_at(host)
        name = client.name if client else ""
        counted_as, at_most = (f"handshake {host}", HANDSHAKES_MAX) if is_tls else (name, CLIENT_CONNECTIONS_MAX)
        fault = ""
        if client is None and not (is_tls and intake.awaits_certified(host)):
            fault = "unknown_client"
        elif len(self._connections) >= CONNECTIONS_MAX or self._counts[counted_as] >= at_most:
            fault = "too_many"
        if fault:
            accepted.close()
            self._closed.add(fault, name, (host, port))
            return
        try:
            if is_tls:
                assert self._context is not None
                accepted = self._context.wrap_socket(accepted, True, do_handshake_on_connect=False)
            connection = _Connection(self._to_flush, _prepared(accepted), (host, port), now)
        except OSError:  # the peer is gone again
            accepted.close()
            return
        connection.client, connection.counted_as, connection.is_shaking = name, counted_as, is_tls
        self._counts[counted_as] += 1
        self._connections[connection.fd] = connection
        self._poll.register(connection.fd, connection.interest)

    def _serve(self, connection: _Connection, events: int, intake: Intake, now: float) -> None:
        try:
            if connection.is_shaking:
                self._shake_hands(connection, intake)
            elif events & select.EPOLLOUT:
                self._send(connection)
            elif events & select.EPOLLIN:
                self._read(connection, intake, now)
            elif events & _GONE:
                self._close(connection)
        except ssl.SSLError as error:
            self._close(connection, "tls", detail=_words(error))
        except OSError:  # the peer is gone
            self._close(connection)

    def _shake_hands(self, connection: _Connection, intake: Intake) -> None:
        assert isinstance(connection.socket, ssl.SSLSocket)
        try:
            connection.socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            is_read = isinstance(wanted, ssl.SSLWantReadError)
            self._want(connection, select.EPOLLIN if is_read else select.EPOLLOUT)
            return
        except ssl.SSLError as error:
            self._close(connection, "handshake", detail=_words(error))
            return
        connection.is_shaking = False
        connection.names = names_of(connection.socket.getpeercert())
        client = intake.client_at(connection.address[0], connection.names) if connection.names else None
        if client is None:
            self._close(connection, "unknown_client", certificate=" ".join(connection.names)[:255])
        elif self._counts[client.name] >= CLIENT_CONNECTIONS_MAX:
            self._close(connection, "too_many")
        else:
            self._uncount(connection)
            self._counts[client.name] += 1
            connection.client = connection.counted_as = client.name
            self._watch(connection)

    def _read(self, connection: _Connection, intake: Intake, now: float) -> None:
        if not intake.has_room(connection.client):
            connection.is_held = True
            metrics.HELD.labels(connection.client).inc()
            self._watch(connection)
            return
        try:
            data = connection.socket.recv(READ_BYTES)
        except _LATER:
            return
        if not data:
            connection.has_ended = True
            self._send(connection)
            return
        connection.heard_at = now
        packets, rest = packets_of(connection.rest + data)
        metrics.RECEIVED.inc(len(packets))
        for packet in packets:
            waited = intake.pending
            connection.is_taking = True
            fault = intake.take(packet, connection, connection.address, connection.names, is_held=True)
            connection.is_taking = False
            connection.waiting += intake.pending - waited
            if fault in _CLOSING:
                self._close(connection, fault)
            if connection.fd < 0:
                return
        if isinstance(rest, str):
            intake.drops.add(rest, connection.client, connection.address)
            self._close(connection, rest)
            return
        if packets or not connection.rest:
            connection.owes_since = now
        connection.rest = rest
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        """Wait for what can be done: read while not too much waits, send while something is unsent."""
        is_paused = (
            connection.has_ended or connection.is_held or connection.waiting >= WAITING_MAX or bool(connection.unsent)
        )
        self._want(connection, (0 if is_paused else select.EPOLLIN) | (select.EPOLLOUT if connection.unsent else 0))

    def _want(self, connection: _Connection, interest: int) -> None:
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
        if isinstance(connection.socket, ssl.SSLSocket) and not connection.is_shaking:
            with suppress(OSError):
                connection.socket.unwrap()  # says goodbye, and does not wait for an answer
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
