"""A flood from addresses that are nobody's, kept out of a socket's buffer: the kernel drops it before it takes room.

A classic BPF program (socket(7), SO_ATTACH_FILTER) lets the clients' networks through, and of all others one in SAMPLE,
so that it is still seen, told and counted. It is there only while the flood lasts: a stranger who sends a packet now
and then is a client that nobody entered into the settings, and each of his packets is to be told.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Network
from typing import Protocol

from accounting.base.log import get_logger
from accounting.base.sockets import Named, name_of
from accounting.radius import metrics
from accounting.radius.clients import ClientTable, Network

FLOOD_PER_S = 1000
"""Datagrams of strangers in a second: some milliseconds of work, a fraction of a socket's buffer."""
SAMPLE = 64
CALM_S = 10
"""So long must no second be a flood before all are let in again."""
INSTRUCTIONS_MAX = 4096
"""BPF_MAXINSNS; some 1,000 networks of IPv4, 300 of IPv6."""

# Linux's numbers that Python's socket module does not name: linux/filter.h
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_LOAD_WORD, _LOAD_BYTE, _AND, _SHIFT_RIGHT, _JUMP, _IF_EQUAL, _IF_ABOVE, _RETURN = (
    0x20, 0x30, 0x54, 0x74, 0x05, 0x15, 0x25, 0x06,
)  # fmt: skip
_NET, _RANDOM = 0x100000000 - 0x100000, 0x100000000 - 0x1000 + 56  # the IP header; a random number
_WORD = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""

log = get_logger("receiver")


class Filtered(Named, Protocol):
    """What a filter needs of a socket."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...


class Gate:
    """Lets all into a UDP socket until strangers flood it, and then the clients and a sample of the others."""

    def __init__(self, bound: Filtered) -> None:
        self._bound = bound
        self._metric = metrics.FILTERED.labels(name_of(bound))
        self._clients: ClientTable | None = None  # whom the filter lets in; None: there is no filter
        self._refused: ClientTable | None = None  # for these there can be none
        self._seen = 0
        self._calm_s = 0
        self._open()  # a socket that outlived a process may have that one's

    def meet(self, strangers: int, clients: ClientTable) -> None:
        """Take note of so many datagrams of strangers; shut them out if it is a flood, all but the clients of now."""
        self._seen += strangers
        is_shut = self._clients is not None
        if (is_shut or self._seen > FLOOD_PER_S) and clients is not self._clients and clients is not self._refused:
            self._shut_out(clients)
            if self._clients is not None and not is_shut:
                log.warning("unknown addresses flood: the kernel drops what they send, but for a sample", one_in=SAMPLE)
                self._metric.set(1)

    def tidy(self) -> None:
        """Let all in again after the flood; once a second."""
        seen, self._seen = self._seen, 0
        if self._clients is not None:
            self._calm_s = 0 if seen * SAMPLE > FLOOD_PER_S else self._calm_s + 1
            if self._calm_s >= CALM_S:
                self._open()
                log.info("the flood from unknown addresses is over: all that they send is read again")

    def _shut_out(self, clients: ClientTable) -> None:
        program = program_of(clients.networks)
        octets = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
        try:
            if len(program) > INSTRUCTIONS_MAX:
                raise OSError(f"{len(clients)} clients are more than it can tell from others")
            given = struct.pack("@HP", len(program), ctypes.addressof(octets))  # struct sock_fprog
            self._bound.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, given)
        except OSError as error:
            log.warning("unknown addresses flood, and the kernel cannot drop what they send", cause=str(error))
            self._open()
            self._refused = clients
        else:
            self._clients = clients
            self._calm_s = 0

    def _open(self) -> None:
        with suppress(FileNotFoundError):
            self._bound.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, bytes(4))
        self._clients = None
        self._metric.set(0)


def program_of(networks: Iterable[Network]) -> list[Instruction]:
    """Return the program that takes all datagrams from the networks and one in SAMPLE of the others."""
    v4: list[Instruction] = []
    v6: list[Instruction] = []
    for network in networks:
        (v6 if isinstance(network, IPv6Network) else v4).extend(_accept(network))
    v4.append((_JUMP, 0, 0, len(v6)))
    return [
        (_LOAD_BYTE, 0, 0, _NET),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_IF_EQUAL, 1, 0, 4),
        (_JUMP, 0, 0, len(v4)),
        *v4,
        *v6,
        (_LOAD_WORD, 0, 0, _RANDOM),
        (_IF_ABOVE, 0, 1, _WORD // SAMPLE),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _WORD),
    ]


def _accept(network: Network) -> list[Instruction]:
    """Return what takes a datagram whose source address is in the network, and goes on for others."""
    octets, mask = network.network_address.packed, network.netmask.packed
    source = _NET + (8 if network.version == 6 else 12)
    parts = []
    for place in range(0, len(octets), 4):
        value, bits = (int.from_bytes(of[place : place + 4]) for of in (octets, mask))
        if bits:
            narrow = [(_AND, 0, 0, bits)] if bits != _WORD else []
            parts.append([(_LOAD_WORD, 0, 0, source + place), *narrow, (_IF_EQUAL, 0, 0, value)])
    made: list[Instruction] = [(_RETURN, 0, 0, _WORD)]
    for part in reversed(parts):
        code, true, _, value = part[-1]
        made = [*part[:-1], (code, true, len(made), value), *made]
    return made
