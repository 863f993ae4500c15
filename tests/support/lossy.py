"""A UDP path between a client and a server that loses, doubles, delays and reorders, the same way for the same seed."""

import heapq
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

BUFFER_BYTES = 4 * 1024 * 1024


class Harm(NamedTuple):
    """Shares of datagrams, in each direction, and the longest delay of one that is late."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_s: float = 0.2


class LossyPath(threading.Thread):
    """Listens on a port of its own and passes on; each client's socket has one of its own towards the server."""

    def __init__(self, server: tuple[str, int], harm: Harm, seed: int) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._harm = harm
        self._chance = random.Random(seed)
        self._front = _bound()
        self._backs: dict[tuple[str, int], socket.socket] = {}
        self._clients: dict[socket.socket, tuple[str, int]] = {}
        self._due: list[tuple[float, int, bytes, socket.socket, tuple[str, int]]] = []
        self._count = 0
        self._enough = threading.Event()
        self.lost = self.doubled = self.late = 0

    @property
    def port(self) -> int:
        """Where the client sends to."""
        port: int = self._front.getsockname()[1]
        return port

    def run(self) -> None:
        while not self._enough.is_set():
            wait_s = min(0.05, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.05
            for sock in select.select([self._front, *self._clients], [], [], wait_s)[0]:
                self._read(sock)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, data, out, to = heapq.heappop(self._due)
                _send(out, data, to)
        for sock in (self._front, *self._clients):
            sock.close()

    def stop(self) -> None:
        """Stop passing on."""
        self._enough.set()
        self.join()

    def _read(self, sock: socket.socket) -> None:
        while True:
            try:
                data, address = sock.recvfrom(4096)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if sock is self._front:
                back = self._backs.get(address)
                if back is None:
                    back = self._backs[address] = _bound()
                    self._clients[back] = address
                self._pass(data, back, self._server)
            else:
                self._pass(data, self._front, self._clients[sock])

    def _pass(self, data: bytes, out: socket.socket, to: tuple[str, int]) -> None:
        if self._chance.random() < self._harm.lost:
            self.lost += 1
            return
        copies = 1
        if self._chance.random() < self._harm.doubled:
            self.doubled += 1
            copies = 2
        for _ in range(copies):
            if self._chance.random() < self._harm.late:
                self.late += 1
                self._count += 1
                due = time.monotonic() + self._chance.uniform(0, self._harm.late_s)
                heapq.heappush(self._due, (due, self._count, data, out, to))
            else:
                _send(out, data, to)


@contextmanager
def lossy_path(server: tuple[str, int], harm: Harm, seed: int) -> Iterator[LossyPath]:
    """Run a path until the block ends."""
    path = LossyPath(server, harm, seed)
    path.start()
    try:
        yield path
    finally:
        path.stop()


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def _send(out: socket.socket, data: bytes, to: tuple[str, int]) -> None:
    try:
        out.sendto(data, to)
    except (BlockingIOError, ConnectionRefusedError):
        return  # lost like others
