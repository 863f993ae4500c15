"""Peers of TCP and TLS that do what they like: nothing that was acknowledged is lost, and a good one has its answers.

Real processes; what each peer does is drawn from a seed.
"""

import os
import random
import signal
import socket
import ssl
import struct
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from accounting.db.engine import open_database
from accounting.journal import read_after
from tests.integration.test_radsec_command import Streams, authority
from tests.support.certificates import CLIENT
from tests.support.daemon import cpu_s
from tests.support.radius import SECRET, is_answer, request

__all__ = ["authority"]
ANSWER_BYTES = 20
PEERS = 24
KILLS = 2
LASTS_S = 4.0
ENOUGH = 1_000
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets
QUIET_CPU = 0.1


class Peer(threading.Thread):
    """One peer that connects again and again; acknowledged: the packets whose answer it has read, whole."""

    def __init__(self, service: Streams, authority: Path, number: int, end: threading.Event) -> None:
        super().__init__()
        self._service = service
        self._number = number
        self._chance = random.Random(number)
        self._end = end
        self._sent = 0
        self.is_over_tls = number % 2 == 0
        self.acknowledged: set[bytes] = set()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.load_cert_chain(authority / f"{CLIENT}.pem", authority / f"{CLIENT}.key")

    def run(self) -> None:
        while not self._end.is_set():
            with suppress(OSError):
                self._visit()

    def _visit(self) -> None:
        chance, port = self._chance, self._service.tls if self.is_over_tls else self._service.tcp
        with socket.create_connection(("127.0.0.1", port), 2) as plain:
            if chance.random() < 0.1:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if self.is_over_tls and chance.random() < 0.15:
                plain.send(os.urandom(chance.randrange(1, 200)))
                return
            with self._context.wrap_socket(plain) if self.is_over_tls else plain as connection:
                for _ in range(chance.randrange(1, 6)):
                    self._exchange(connection)

    def _exchange(self, connection: socket.socket) -> None:
        """Send some requests in pieces, and perhaps a broken one; read all answers, some, or none."""
        chance = self._chance
        secret = b"radsec" if self.is_over_tls else SECRET
        asked = {}
        for identifier in range(chance.choice((1, 10, 250))):
            self._sent += 1
            call = f"peer-{self._number}-{self._sent}"
            asked[identifier] = request(secret, (40, 1), (44, call), identifier=identifier)
        octets = b"".join(asked.values())
        match chance.randrange(12):
            case 0:
                octets += os.urandom(chance.randrange(1, 100))
            case 1:
                octets = octets[: -chance.randrange(1, 20)]
            case 2:
                octets += request(b"another", (40, 1), (44, "never"))
        cut = chance.randrange(len(octets))
        for part in (octets[:cut], octets[cut:]):
            connection.sendall(part)
            if chance.random() < 0.2:
                pause(chance.random() / 10)
        match chance.randrange(6):
            case 0:
                raise ConnectionAbortedError
            case 1 if not self.is_over_tls:
                connection.shutdown(socket.SHUT_WR)
        self._hear(connection, asked, secret)

    def _hear(self, connection: socket.socket, asked: dict[int, bytes], secret: bytes) -> None:
        for _ in asked:
            answer = b""
            while len(answer) < ANSWER_BYTES:
                if not (read := connection.recv(ANSWER_BYTES - len(answer))):
                    return
                answer += read
            if is_answer(answer, asked[answer[1]], secret):
                self.acknowledged.add(asked[answer[1]])


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@pytest.mark.parametrize("is_killed", [False, True])
def test_peers_that_do_what_they_like(sqlite_url: str, authority: Path, tmp_path: Path, is_killed: bool) -> None:
    service = Streams(tmp_path, sqlite_url, authority)
    end = threading.Event()
    with service.running("receive"), ExitStack() as stack:
        stack.callback(end.set)
        peers = [Peer(service, authority, number, end) for number in range(PEERS)]
        for peer in peers:
            peer.start()
        for _ in range(KILLS if is_killed else 0):
            pause(1)
            pid = service.pid("receive")
            os.kill(pid, signal.SIGKILL)
            service.wait(lambda pid=pid: service.pid("receive") not in (0, pid), "the next one is there")
        with service.over_tcp() as client:  # among all these, one that behaves
            for number in range(20):
                asked = request(SECRET, (40, 1), (44, f"good-{number}"), identifier=number)
                client.sendall(asked)
                assert client.recv(ANSWER_BYTES)[1] == number
        pause(LASTS_S)
        service.wait(lambda: sum(len(peer.acknowledged) for peer in peers) > ENOUGH, "there was load to speak of")
        end.set()
        for peer in peers:
            peer.join()
        service.wait(lambda: service.metric("tollbook_receiver_connections") == 0, "all connections are forgotten")
        pid = service.pid("receive")
        before = cpu_s(pid)
        pause(2)
        assert cpu_s(pid) - before < QUIET_CPU, "it does something though nobody is there"
        assert "Traceback" not in service.said()
    with open_database(sqlite_url) as database, database.journal_read() as conn:
        stored = [row.raw for row in read_after(conn, {}, 10_000_000)]
    acknowledged = set[bytes]().union(*(peer.acknowledged for peer in peers))
    assert len(acknowledged) > ENOUGH
    assert acknowledged <= set(stored)
