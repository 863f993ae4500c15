"""Capture files of the command line: whose the datagrams are by the settings, and what could not be read."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from accounting.base.config import Settings
from accounting.base.errors import TollbookError
from accounting.base.sockets import split_address
from accounting.radius.capture import Datagram, datagrams
from accounting.radius.capture_file import CaptureError, read_frames
from accounting.radius.clients import Client, ClientTable
from accounting.reload import clients_of
from accounting.spool import SourceList

STDIN = Path("-")
WORDS = {
    "cut": "cut short by the capture (tcpdump -s 0 takes them whole)",
    "fragments": "with fragments missing",
    "tcp": "gaps in TCP connections, or octets there that are no RADIUS",
    "torn": "of the files ended within a packet",
    "unknown_link": "frames of a link type that is not read",
}
"""What accounting.radius.capture counts."""


class Known(NamedTuple):
    """The clients of the settings: by address, by name, and how each is read, by its source_id."""

    table: ClientTable
    by_name: Mapping[str, Client]
    sources: SourceList


def known_clients(settings: Settings) -> Known:
    """Return the clients of the settings."""
    sources = SourceList()
    clients = clients_of(settings.clients, sources)
    return Known(ClientTable(clients), {client.name: client for client in clients}, sources)


def capture_ports(settings: Settings, ports: Sequence[int]) -> frozenset[int]:
    """Return the ports that were named, else those that the receiver listens on."""
    listening = (*settings.receiver.listen, *settings.receiver.listen_tcp)
    return frozenset(ports or (split_address(address)[1] for address in listening))


def captured(path: Path, ports: frozenset[int], counts: "Counter[str]") -> Iterator[Datagram]:
    """Yield the datagrams of a capture from or to these ports; `-` is stdin. TollbookError if it cannot be read."""
    try:
        with sys.stdin.buffer if path == STDIN else path.open("rb") as file:
            yield from datagrams(read_frames(file, counts), ports, counts)
    except CaptureError as error:
        raise TollbookError(f"{path}: {error}") from None
    except OSError as error:
        raise TollbookError(f"{path}: cannot be read: {error.strerror}") from None


def words_of(counts: Mapping[str, int]) -> str:
    """Return what could not be read of captures, '' if nothing."""
    return ", ".join(f"{counts[name]} {words}" for name, words in WORDS.items() if counts.get(name))
