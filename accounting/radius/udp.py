"""The receiver's UDP sockets: bound, non-blocking, with as much receive buffer as the kernel gives.

Knows nothing of what goes through them.
"""

import socket
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from accounting.base.sockets import bind_all, name_of
from accounting.radius import metrics
from accounting.radius.intake import UNKNOWN_CLIENT, Intake
from accounting.radius.packet import PACKET_BYTES_MAX
from accounting.radius.strangers import Filtered, Gate

# Linux's numbers that Python's socket module does not name
_SO_RCVBUFFORCE = 33
_IP_PKTINFO = 8
_ANCILLARY_BYTES = 64
DRAIN_MAX = 128
"""Datagrams read before commits are looked after: about 1.2 ms, and a commit runs while the next ones are read."""
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


class Bound(Filtered, Protocol):
    """What the receiver needs of a socket. An address is opaque but for its first two parts, host and port."""

    def fileno(self) -> int: ...
    def recvfrom(self, size: int, /) -> tuple[bytes, Any]: ...
    def sendto(self, data: bytes, address: Any, /) -> int: ...
    def close(self) -> None: ...


class AnyAddressSocket:
    """A socket bound to all of a machine's addresses, which answers from the one that was asked.

    The kernel's own choice is another one for a virtual address or a second interface, and clients drop that answer.
    Costs 2 us per datagram more than a plain socket.
    """

    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self.fileno = bound.fileno
        self.close = bound.close
        self.getsockname = bound.getsockname
        self.setsockopt = bound.setsockopt

    def recvfrom(self, size: int, /) -> tuple[bytes, Any]:
        """Return a datagram and (host, port, where to, how to answer)."""
        data, ancillary, _, address = self._socket.recvmsg(size, _ANCILLARY_BYTES)
        return data, (address[0], address[1], address, ancillary)

    def sendto(self, data: bytes, address: Any, /) -> int:
        """Answer from the address that was asked."""
        _, _, back, ancillary = address
        return self._socket.sendmsg([data], [_answering(*part) for part in ancillary], 0, back)


class UdpPort:
    """A bound UDP socket as a port of the receiver."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._gate = Gate(bound)
        self.fileno = bound.fileno

    def ready(self, intake: Intake) -> None:
        """Read what is there, at most DRAIN_MAX datagrams."""
        bound, recvfrom, take = self._bound, self._bound.recvfrom, intake.take
        received = strangers = 0
        for _ in range(DRAIN_MAX):
            try:
                datagram, address = recvfrom(PACKET_BYTES_MAX)  # octets beyond are padding, or it is oversized
            except BlockingIOError:
                break
            except OSError:  # an ICMP error of an earlier reply
                continue
            received += 1
            if take(datagram, bound, address) == UNKNOWN_CLIENT:
                strangers += 1
        metrics.RECEIVED.inc(received)
        if strangers:
            self._gate.meet(strangers, intake.clients)

    def flush(self) -> None:
        """Nothing: each datagram goes at once."""

    def tidy(self, now: float) -> None:
        """Let all in again once a flood is over."""
        self._gate.tidy()


class Listener(NamedTuple):
    """A bound socket, what people call it, and the receive buffer it got."""

    socket: Bound
    name: str
    buffer_bytes: int


def listen(addresses: Sequence[str], buffer_bytes: int, processes: int = 1, place: int = 0) -> list[Listener]:
    """Return a bound socket per address, see bind_all; one that cannot be had is a TollbookError."""
    return [_listener(one, buffer_bytes) for one in bind_all("udp", addresses, "[receiver] listen", processes, place)]


def _listener(bound: socket.socket, buffer_bytes: int) -> Listener:
    given = _ask_buffer(bound, buffer_bytes)
    is_any = bound.getsockname()[0] in _ANY
    return Listener(AnyAddressSocket(bound) if is_any else bound, name_of(bound), given)


def _answering(level: int, kind: int, info: bytes) -> tuple[int, int, bytes]:
    """Return the ancillary data that sends from where a datagram came to, by whatever interface the routes say."""
    if level == socket.IPPROTO_IPV6:
        return level, kind, info[:16] + bytes(4)  # struct in6_pktinfo: address, interface
    return level, kind, bytes(4) + info[4:8] + bytes(4)  # struct in_pktinfo: interface, local address, header's address


def _ask_buffer(bound: socket.socket, buffer_bytes: int) -> int:
    """Ask for a receive buffer, beyond net.core.rmem_max where we may, and return what was given."""
    try:
        bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
    except OSError:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    return bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel tells the double, socket(7)
