"""Bound sockets: made by this process, or for it by the supervisor or a systemd socket unit.

The latter outlive the process: what arrives while it restarts waits in them.
"""

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from accounting.base.errors import TollbookError

BACKLOG = 1024
"""TCP connections that may wait to be accepted; the kernel takes net.core.somaxconn if that is less."""
FIRST_FD = 3
"""sd_listen_fds(3): the descriptors of LISTEN_FDS begin here."""
SUPERVISED_VARIABLE = "SUPERVISED_SOCKETS"
_KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


class Named(Protocol):
    """What has an address."""

    def getsockname(self) -> Any: ...


class Handed(NamedTuple):
    """A bound socket for a child: udp or tcp, the address as the settings have it, the descriptor."""

    kind: str
    address: str
    fd: int


def bind_all(
    kind: str, addresses: Sequence[str], setting: str, processes: int = 1, place: int = 0
) -> list[socket.socket]:
    """Return a bound, non-blocking socket per address like 127.0.0.1:1813 or [::1]:1813; all of them or TollbookError.

    kind: udp, or tcp, whose sockets listen. One that was bound for this process is taken as it is. `[::]` takes IPv4
    too, unless an IPv4 address of the same port is listed. With more than one of processes the address is shared: the
    kernel gives each socket its part of the clients' ports; place says for which process this is, the first is 0.
    setting: where an operator finds the addresses.
    """
    places = [split_address(address) for address in addresses]
    bound: list[socket.socket] = []
    try:
        for address, (host, port) in zip(addresses, places, strict=True):
            only_v6 = any(":" not in other and number == port for other, number in places)
            try:
                one = inherited(kind, address, place) or _bind(
                    kind, host, port, only_v6, is_shared=processes > 1, is_first=place == 0
                )
            except OSError as error:
                raise TollbookError(f"cannot listen on {address}: {_words(error, setting)}") from error
            one.setblocking(False)
            bound.append(one)
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


def name_of(bound: Named) -> str:
    """Return where a socket is bound, as one writes it."""
    return show_address(*bound.getsockname()[:2])


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of an address like 127.0.0.1:1813 or [::1]:1813."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def show_address(host: str, port: int) -> str:
    """Return host and port as one writes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def handed_text(sockets: Iterable[Handed]) -> str:
    """Return the value of the variable that tells a child of its sockets."""
    return ";".join(f"{one.kind} {one.address} {one.fd}" for one in sockets)


def inherited(kind: str, address: str, place: int = 0) -> socket.socket | None:
    """Return the socket bound for this process to that address (like 127.0.0.1:1813), None if there is none.

    place: which of several on the same address, the first is 0. Each call returns another Python object of the same
    socket, with a descriptor of its own.
    """
    found = _by_supervisor(kind, address) or _by_systemd(kind, address)
    return socket.socket(fileno=os.dup(found[place])) if place < len(found) else None


def _by_supervisor(kind: str, address: str) -> list[int]:
    told = [entry.split(" ") for entry in os.environ.get(SUPERVISED_VARIABLE, "").split(";") if entry]
    return [int(fd) for of_kind, at, fd in told if (of_kind, at) == (kind, address)]


def _by_systemd(kind: str, address: str) -> list[int]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    wanted = split_address(address)
    found = []
    for fd in range(FIRST_FD, FIRST_FD + int(os.environ.get("LISTEN_FDS", "0"))):
        os.set_inheritable(fd, False)
        with socket.socket(fileno=os.dup(fd)) as one:
            is_inet = one.family in (socket.AF_INET, socket.AF_INET6)
            if is_inet and one.type == _KINDS[kind] and one.getsockname()[:2] == wanted:
                found.append(fd)
    return found


def _bind(kind: str, host: str, port: int, only_v6: bool, *, is_shared: bool, is_first: bool = False) -> socket.socket:
    if is_shared and is_first:  # seen free without sharing: else a stranger's socket could take a part of what comes
        with _bind(kind, host, port, only_v6, is_shared=False) as free:
            port = free.getsockname()[1]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, _KINDS[kind])
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_v6))
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == "tcp":  # else the connections of the process before keep the address for a minute
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        if kind == "tcp":
            bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _words(error: OSError, setting: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the port is in use; stop what listens there, or change {setting}"
        case errno.EADDRNOTAVAIL:
            return f"this machine has no such address; change {setting}"
        case errno.EACCES:
            return "not allowed; ports below 1024 need more rights"
        case _:
            return error.strerror or str(error)
