"""Acknowledged and committed requests per second, beside two peers in the same run that store nothing.

`python -m tests.benchmarks.bench_receiver [--requests 40000] [--rounds 3]`. The load generator shares the machine with
all of them. Rounds are interleaved and medians printed: only ratios of one run tell anything. "Beside it":
while the pipeline works.
"""

import argparse
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import md5
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import NamedTuple

from accounting.base.clock import now_us
from accounting.db.engine import open_database, upgrade_database
from accounting.event import Source
from accounting.journal import JournalWriter, gaps, register_source, seq_counts
from tests.support import mariadb
from tests.support.radius import SECRET, request

WINDOW = 256
SOCKETS = 2
IDS = WINDOW // SOCKETS
REPEAT_S = 1.0
PIPELINE_STARTS_S = 2.0
BUFFER_BYTES = 4 * 1024 * 1024
PEERS = ("echo", "pyrad")
SERVER = ("--innodb-log-file-size=512M", "--innodb-buffer-pool-size=512M")
"""A redo log of the tests' size makes the server wait for its own checkpoints."""


class Load(NamedTuple):
    """Requests and the only right answer to each; request n is sent by slot n % WINDOW."""

    requests: list[bytes]
    answers: list[bytes]


class Result(NamedTuple):
    """One round against one server."""

    per_s: float
    p50_ms: float
    p99_ms: float
    repeats: int
    server_us: float  # CPU per request


def make_load(number: int) -> Load:
    """Return requests as a SIP proxy sends them: 18 attributes, about 300 octets."""
    requests = [_proxy_request(n, n % WINDOW // SOCKETS) for n in range(number)]
    answers = []
    for asked in requests:
        head = bytes((5, asked[1], 0, 20))
        answers.append(head + md5(head + asked[4:20] + SECRET, usedforsecurity=False).digest())
    return Load(requests, answers)


class LoadRun:
    """Sends a load with WINDOW requests outstanding and takes the time of each answer."""

    def __init__(self, load: Load, port: int) -> None:
        self.load = load
        self.latencies_ms: list[float] = []
        self.repeats = 0
        self._clients = [_client(port) for _ in range(SOCKETS)]
        self._at = list(range(WINDOW))  # which request a slot has outstanding
        self._sent_at = [0.0] * WINDOW

    def run(self) -> float:
        """Send everything, wait for every answer, and return the seconds it took."""
        poll = select.epoll()
        places = {client.fileno(): place for place, client in enumerate(self._clients)}
        for fd in places:
            poll.register(fd, select.EPOLLIN)
        began = perf_counter()
        for slot in range(WINDOW):
            self._sent_at[slot] = perf_counter()
            self._send(slot)
        while len(self.latencies_ms) < len(self.load.requests):
            ready = poll.poll(REPEAT_S)
            for fd, _ in ready:
                self._receive(places[fd])
            if not ready:
                self._repeat()
        seconds = perf_counter() - began
        for client in self._clients:
            client.close()
        return seconds

    def _receive(self, place: int) -> None:
        recv, at, answers, total = self._clients[place].recv, self._at, self.load.answers, len(self.load.answers)
        while True:
            try:
                reply = recv(4096)
            except BlockingIOError:
                return
            slot = reply[1] * SOCKETS + place
            if at[slot] >= total or reply != answers[at[slot]]:
                continue  # the answer to a repeat
            now = perf_counter()
            self.latencies_ms.append((now - self._sent_at[slot]) * 1000)
            self._sent_at[slot] = now
            at[slot] += WINDOW
            self._send(slot)

    def _send(self, slot: int) -> None:
        if self._at[slot] < len(self.load.requests):
            self._clients[slot % SOCKETS].send(self.load.requests[self._at[slot]])

    def _repeat(self) -> None:
        waiting = [slot for slot in range(WINDOW) if self._at[slot] < len(self.load.requests)]
        self.repeats += len(waiting)
        for slot in waiting:
            self._send(slot)


def measure(load: Load, server: "subprocess.Popen[str]", port: int) -> Result:
    """Return one round's figures; stops the server."""
    before = _cpu_s(server.pid)
    run = LoadRun(load, port)
    seconds = run.run()
    cpu_s = _cpu_s(server.pid) - before
    latencies = sorted(run.latencies_ms)
    server.send_signal(signal.SIGTERM)
    server.wait()
    total = len(latencies)
    return Result(
        total / seconds, latencies[total // 2], latencies[total * 99 // 100], run.repeats, cpu_s / total * 1e6
    )


def measure_tollbook(load: Load, url: str, folder: Path, *, beside_pipeline: bool = False) -> Result:
    """Return one round's figures of `tollbook receive`, once its journal holds every request it acknowledged.

    beside_pipeline: while `tollbook process` is at work on as many requests again, on the same two cores.
    """
    upgrade_database(url)
    config = folder / "tollbook.toml"
    config.write_text(
        f'[database]\nurl = "{url}"\n[receiver]\nlisten = ["127.0.0.1:0"]\n[[clients]]\nname = "proxy"\n'
        f'address = "127.0.0.0/8"\nsecret = "{SECRET.decode()}"\n'
    )
    expected = len(load.requests) * (2 if beside_pipeline else 1)
    if beside_pipeline:
        _fill(load, url)
    with _server("-m", "tollbook", "receive", "--config", str(config)) as (server, port):
        if beside_pipeline:
            command = [sys.executable, "-m", "tollbook", "process", "--config", str(config)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as pipeline:
                sleep(PIPELINE_STARTS_S)
                result = measure(load, server, port)
                assert pipeline.poll() is None, "the pipeline had ended before the receiver was measured"
                pipeline.kill()
        else:
            result = measure(load, server, port)
    with open_database(url) as database, database.journal_read() as conn:
        stored = sum(count.rows for count in seq_counts(conn))
        assert stored == expected, f"{expected} acknowledged, {stored} stored"
        assert gaps(conn) == []
    return result


def _fill(load: Load, url: str) -> None:
    with open_database(url) as database:
        source_id = register_source(database, Source(id=0, name="before"))
        writer = JournalWriter(database, "receiver", "before")
        for at in range(0, len(load.requests), 5_000):
            writer.append([(now_us(), source_id, bytes(18), asked) for asked in load.requests[at : at + 5_000]])
        writer.close()


def measure_peer(load: Load, name: str) -> Result:
    """Return one round's figures of a peer."""
    with _server("-m", __spec__.name, "--peer", name) as (server, port):
        return measure(load, server, port)


def echo_peer() -> None:
    """Answer everything with a correct Response Authenticator, and do nothing else."""
    with _listening() as bound:
        poll = select.epoll()
        poll.register(bound.fileno(), select.EPOLLIN)
        while True:
            poll.poll()
            for _ in range(WINDOW):
                try:
                    asked, address = bound.recvfrom(4096)
                except BlockingIOError:
                    break
                head = bytes((5, asked[1], 0, 20))
                bound.sendto(head + md5(head + asked[4:20] + SECRET, usedforsecurity=False).digest(), address)


def pyrad_peer() -> None:
    """Serve by pyrad's own server, which verifies, decodes and answers."""
    from pyrad.dictionary import Dictionary
    from pyrad.packet import Packet
    from pyrad.server import RemoteHost, Server

    class Answering(Server):
        def HandleAcctPacket(self, pkt: Packet) -> None:  # noqa: N802 - pyrad's name
            self.SendReplyPacket(pkt.fd, self.CreateReplyPacket(pkt))

    family = Path(__file__).parents[2] / "accounting/dictionaries/dictionary.classic"
    with _listening() as bound:
        bound.setblocking(True)
        server = Answering(
            addresses=[],
            dict=Dictionary(str(family)) if family.exists() else Dictionary(),
            hosts={"127.0.0.1": RemoteHost("127.0.0.1", SECRET, "load")},
            auth_enabled=False,
        )
        server.acctfds.append(bound)
        server.Run()


def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        {"echo": echo_peer, "pyrad": pyrad_peer}[options.peer]()
        return
    load = make_load(options.requests)
    disk = Path(os.environ.get("TMPDIR", "/var/tmp"))
    with ExitStack() as stack:
        server = mariadb.Server(stack.enter_context(mariadb.running_server(disk, SERVER)))
        stack.callback(server.dispose)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=disk)))
        rivals: dict[str, Callable[[int], Result]] = {
            "tollbook, MariaDB": lambda _: measure_tollbook(load, server.create(), folder),
            "tollbook, SQLite": lambda n: measure_tollbook(load, f"sqlite:///{folder}/bench-{n}.db", folder),
            "tollbook, MariaDB, beside it": lambda _: measure_tollbook(
                load, server.create(), folder, beside_pipeline=True
            ),
            "tollbook, SQLite, beside it": lambda n: measure_tollbook(
                load, f"sqlite:///{folder}/beside-{n}.db", folder, beside_pipeline=True
            ),
            "pyrad server, stores nothing": lambda _: measure_peer(load, "pyrad"),
            "echo, verifies nothing": lambda _: measure_peer(load, "echo"),
        }
        results: dict[str, list[Result]] = {name: [] for name in rivals}
        for n in range(options.rounds):
            for name, rival in rivals.items():
                results[name].append(rival(n))
    _show(options, results)


def _show(options: argparse.Namespace, results: dict[str, list[Result]]) -> None:
    packet = len(_proxy_request(0, 0))
    print(f"{options.requests} requests of {packet} octets, {WINDOW} outstanding, median of {options.rounds} rounds")
    print(f"{'':30}{'acked/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>8}{'repeats':>9}{'of echo':>9}{'of pyrad':>10}")
    middle = {
        name: Result(*(median(column) for column in zip(*rounds, strict=True))) for name, rounds in results.items()
    }
    pyrad, echo = list(middle.values())[-2:]
    for name, r in middle.items():
        print(
            f"{name:30}{r.per_s:10.0f}{r.p50_ms:9.1f}{r.p99_ms:9.1f}{r.server_us:8.1f}{r.repeats:9.0f}"
            f"{r.per_s / echo.per_s:9.2f}{r.per_s / pyrad.per_s:10.2f}"
        )


def _proxy_request(n: int, identifier: int) -> bytes:
    kind = 1 + n % 2
    return request(
        SECRET,
        *((40, kind), (6, 15), (102, 200), (101, 8 if kind == 2 else 1), (55, 1_764_000_000 + n // 100)),
        *((105, f"{n:08x}feedbeef"), (104, f"as{n:08x}cafe"), (44, f"{n:020x}@proxy.example.org")),
        *((1, f"u{n % 10_000:06}@sip.example.org"), (31, f"sip:+4930{n % 10_000:07}@sip.example.org")),
        *((30, f"sip:+4420{n:08}@sip.example.org"), (107, f"sip:4420{n:08}@127.0.0.9:5060;transport=udp")),
        *((103, "1"), (108, "127.0.0.1"), (109, "5060"), (5, 5060), (41, 0), (4, 0x7F000001)),
        identifier=identifier,
    )


@contextmanager
def _server(*words: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Give a process that says `listening on 127.0.0.1:PORT` on stderr, and its port."""
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if found:
                yield process, int(found.group(1))
                return
        raise RuntimeError(f"it did not start: {''.join(said)}")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        print(f"listening on 127.0.0.1:{bound.getsockname()[1]}", file=sys.stderr, flush=True)
        yield bound


def _client(port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
