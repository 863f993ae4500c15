"""Sockets that were bound for this process: by the supervisor, or by a systemd socket unit.

They outlive the process: what arrives while it restarts waits in them.
"""

import os
import socket
from collections.abc import Iterable
from typing import NamedTuple

FIRST_FD = 3
"""sd_listen_fds(3): the descriptors of LISTEN_FDS begin here."""
SUPERVISED_VARIABLE = "SUPERVISED_SOCKETS"
_KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


class Handed(NamedTuple):
    """A bound socket for a child: udp or tcp, the address as the settings have it, the descriptor."""

    kind: str
    address: str
    fd: int


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
    host, _, port = address.rpartition(":")
    wanted = host.removeprefix("[").removesuffix("]"), int(port)
    found = []
    for fd in range(FIRST_FD, FIRST_FD + int(os.environ.get("LISTEN_FDS", "0"))):
        os.set_inheritable(fd, False)
        with socket.socket(fileno=os.dup(fd)) as one:
            is_inet = one.family in (socket.AF_INET, socket.AF_INET6)
            if is_inet and one.type == _KINDS[kind] and one.getsockname()[:2] == wanted:
                found.append(fd)
    return found
