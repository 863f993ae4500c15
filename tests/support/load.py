"""Sends accounting requests as a proxy does: many outstanding, each repeated until it is answered."""

import select
import socket
import threading
import time
from collections.abc import Iterator

from tests.support.radius import SECRET, is_answer, sign

WINDOW = 128  # identifiers in use at a time, of one socket
RETRY_S = 0.3
_given: set[int] = set()  # ports


class Sender(threading.Thread):
    """Sends bodies (attributes without a head) to one address; acked holds the numbers of those that were answered."""

    def __init__(self, address: tuple[str, int], bodies: Iterator[bytes], *, window: int = WINDOW) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._bodies = bodies
        self._window = window
        self._enough = threading.Event()
        self.sent: list[bytes] = []
        self.acked: set[int] = set()

    def finish(self, timeout_s: float) -> None:
        """Send nothing new any more, wait until everything sent is answered or the time is up."""
        self._enough.set()
        self.join(timeout_s)

    def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            free = list(range(self._window))
            waiting: dict[int, tuple[int, bytes, float]] = {}  # identifier -> number, datagram, when sent
            while True:
                while free and not self._enough.is_set():
                    body = next(self._bodies, None)
                    if body is None:
                        self._enough.set()
                        break
                    identifier = free.pop(0)
                    datagram = sign(body, SECRET, identifier=identifier)
                    waiting[identifier] = (len(self.sent), datagram, 0.0)
                    self.sent.append(body)
                if not waiting and self._enough.is_set():
                    return
                now = time.monotonic()
                for identifier, (number, datagram, last) in waiting.items():
                    if now - last > RETRY_S:
                        waiting[identifier] = (number, datagram, now)
                        _send(sock, datagram, self._address)
                if select.select([sock], [], [], 0.02)[0]:
                    self._collect(sock, waiting, free)

    def _collect(self, sock: socket.socket, waiting: dict[int, tuple[int, bytes, float]], free: list[int]) -> None:
        while True:
            try:
                reply = sock.recv(4096)
            except (BlockingIOError, ConnectionRefusedError):
                return
            number, datagram, _ = waiting.get(reply[1], (-1, b"", 0.0))
            if number >= 0 and is_answer(reply, datagram, SECRET):
                del waiting[reply[1]]
                free.append(reply[1])
                self.acked.add(number)


def _send(sock: socket.socket, datagram: bytes, address: tuple[str, int]) -> None:
    try:
        sock.sendto(datagram, address)
    except (BlockingIOError, ConnectionRefusedError):
        return  # it is sent again later


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port of 127.0.0.1 that is free now, for UDP or of another kind, and that was not given before."""
    while True:
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
