"""Acknowledged and committed requests per second, beside FreeRADIUS and two peers that store nothing, in one run.

`make bench-receiver`, or `python -m tests.benchmarks.bench_receiver [--calls 30000] [--rounds 3] [--stored 10000000]`.
The load generator, the servers and MariaDB share the machine. Rounds are interleaved and medians printed: only ratios
of one run tell anything. "Beside it": while the pipeline works on what came before. Nothing is shown of a round in
which a request that was acknowledged is not in the journal. Below the table: the project's bars, met or not.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import md5
from pathlib import Path
from select import epoll
from statistics import median
from time import sleep
from typing import NamedTuple

from accounting.base.clock import now_us
from accounting.db.engine import open_database, upgrade_database
from accounting.event import Source
from accounting.journal import JournalWriter, gaps, register_source, seq_counts
from tests.benchmarks import freeradius
from tests.support import mariadb
from tests.support.daemon import cpu_s
from tests.support.radload import EVENTS_PER_CALL, PACKET_BYTES, SECRET, load

WINDOW = 256
PIPELINE_STARTS_S = 2.0
BACKLOG_CALLS = 100_000
"""Beside twice as many as are measured: what keeps the pipeline at work until the receiver is measured."""
BUFFER_BYTES = 4 * 1024 * 1024
PEERS = ("echo", "pyrad")
SERVER = ("--innodb-log-file-size=512M", "--innodb-buffer-pool-size=1G")
"""A redo log of the tests' size makes the server wait for its own checkpoints."""
FILL_ROWS = 100_000
STORED = "tollbook, rows stored before"
FREERADIUS = {"stock": "FreeRADIUS, stock", "lean": "FreeRADIUS, lean", "detail": "FreeRADIUS, detail"}
P99_MS_BAR = 15.0
STORED_BAR = 0.9
"""With so many rows stored, of the rate on an empty journal."""
BARS = {
    "tollbook, MariaDB": {"stock": 5.0, "lean": 3.5, "detail": 1.3},
    "tollbook, MariaDB, beside it": {"stock": 5.0, "lean": 3.5, "detail": 1.3},
    "tollbook, SQLite": {"stock": 6.0},
}
"""The least of each, as a multiple of the peer, which has the machine for itself."""


class Figures(NamedTuple):
    """One round against one server; CPU per request, of the server's own processes and of the database's."""

    per_s: float
    p50_ms: float
    p99_ms: float
    repeats: float
    server_us: float
    database_us: float


class Bench:
    """The machine's disk, one MariaDB, and what is to be measured on them."""

    def __init__(self, calls: int, server: mariadb.Server, folder: Path) -> None:
        self.calls = calls
        self.server = server
        self.folder = folder
        self._names = iter(range(1_000_000))

    def sqlite(self) -> str:
        """Return the URL of a new SQLite database."""
        return f"sqlite:///{self.folder}/bench-{next(self._names)}.db"

    def tollbook(self, url: str, *, beside_pipeline: bool = False) -> Figures:
        """Measure `tollbook receive`, once its journal is found to hold every request that was acknowledged.

        beside_pipeline: while `tollbook process` is at work on a backlog, on the same two cores.
        """
        upgrade_database(url)
        before = count_rows(url)
        config = self.folder / "tollbook.toml"
        config.write_text(
            f'[database]\nurl = "{url}"\n[receiver]\nlisten = ["127.0.0.1:0"]\n[[clients]]\nname = "proxy"\n'
            f'address = "127.0.0.0/8"\nsecret = "{SECRET}"\ndialect = "opensips"\ndictionary = "classic"\n'
        )
        backlog = BACKLOG_CALLS + 2 * self.calls if beside_pipeline else 0
        acknowledged = (self.calls + backlog) * EVENTS_PER_CALL
        with python("-m", "tollbook", "receive", "--config", str(config)) as (server, port), ExitStack() as stack:
            if beside_pipeline:
                load(port, "--calls", str(backlog), "--seed", "2")
                pipeline = stack.enter_context(_processing(config))
                sleep(PIPELINE_STARTS_S)
            figures = self.measure(server.pid, port)
            if beside_pipeline:
                assert pipeline.poll() is None, "the pipeline had ended before the receiver was measured"
            server.send_signal(signal.SIGTERM)
            server.wait()
        stored = count_rows(url) - before
        assert stored == acknowledged, f"{acknowledged} acknowledged, {stored} stored"
        return figures

    def freeradius(self, kind: str) -> Figures:
        """Measure FreeRADIUS, once it is found to have kept every request that it acknowledged."""
        folder, url = self.folder / "freeradius", self.server.create()
        with freeradius.freeradius(kind, folder, url) as (server, port):
            figures = self.measure(server.pid, port)
            found = freeradius.stored(kind, folder, url)
        assert found == self.calls * EVENTS_PER_CALL, f"FreeRADIUS, {kind}: {found} stored"
        self.server.drop(url)
        return figures

    def peer(self, name: str) -> Figures:
        """Measure a peer that stores nothing."""
        with python("-m", __spec__.name, "--peer", name) as (server, port):
            return self.measure(server.pid, port)

    def measure(self, pid: int, port: int) -> Figures:
        """Send all calls; every request must be answered."""
        database = self.server.pid
        server_s, database_s = cpu_s(pid), cpu_s(database)
        seen = load(port, "--calls", str(self.calls), "--window", str(WINDOW))
        assert not seen.lost, f"{seen.lost} requests were never answered"
        cpu = ((cpu_s(pid) - server_s), (cpu_s(database) - database_s))
        return Figures(
            seen.per_s, seen.p50_ms, seen.p99_ms, seen.retransmits, *(second / seen.acked * 1e6 for second in cpu)
        )


def count_rows(url: str) -> int:
    """Return how many rows a journal has, and see that there is no gap in them."""
    with open_database(url) as database, database.journal_read() as conn:
        assert gaps(conn) == []
        return sum(count.rows for count in seq_counts(conn))


def fill(url: str, rows: int) -> None:
    """Bring so many rows of another writer into a new journal, each as long as a request's."""
    upgrade_database(url)
    with open_database(url) as database:
        source_id = register_source(database, Source(id=0, name="before"))
        writer = JournalWriter(database, "receiver", "before")
        while rows:
            part = min(FILL_ROWS, rows)
            writer.append([(now_us(), source_id, bytes(18), os.urandom(PACKET_BYTES)) for _ in range(part)])
            rows -= part
        writer.close()


@contextmanager
def _processing(config: Path) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", "tollbook", "process", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as pipeline:
        yield pipeline
        pipeline.kill()


def echo_peer() -> None:
    """Answer everything with a correct Response Authenticator, and do nothing else."""
    secret = SECRET.encode()
    with _listening() as bound:
        poll = epoll()
        poll.register(bound.fileno())
        while True:
            poll.poll()
            for _ in range(WINDOW):
                try:
                    asked, address = bound.recvfrom(4096)
                except BlockingIOError:
                    break
                head = bytes((5, asked[1], 0, 20))
                bound.sendto(head + md5(head + asked[4:20] + secret, usedforsecurity=False).digest(), address)


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
            dict=Dictionary(str(family)),
            hosts={"127.0.0.1": RemoteHost("127.0.0.1", SECRET.encode(), "load")},
            auth_enabled=False,
        )
        server.acctfds.append(bound)
        server.Run()


def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=30_000, help="of one round; each is two requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stored", type=int, default=0, help="measure with so many rows in the journal too")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        {"echo": echo_peer, "pyrad": pyrad_peer}[options.peer]()
        return
    disk = Path(os.environ.get("TMPDIR", "/var/tmp"))
    with ExitStack() as stack:
        server = mariadb.Server(stack.enter_context(mariadb.running_server(disk, SERVER)))
        stack.callback(server.dispose)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=disk)))
        bench = Bench(options.calls, server, folder)
        rivals: dict[str, Callable[[], Figures]] = {
            "tollbook, MariaDB": lambda: bench.tollbook(server.create()),
            "tollbook, SQLite": lambda: bench.tollbook(bench.sqlite()),
            "tollbook, MariaDB, beside it": lambda: bench.tollbook(server.create(), beside_pipeline=True),
            "tollbook, SQLite, beside it": lambda: bench.tollbook(bench.sqlite(), beside_pipeline=True),
            "FreeRADIUS, stock": lambda: bench.freeradius("stock"),
            "FreeRADIUS, lean": lambda: bench.freeradius("lean"),
            "FreeRADIUS, detail": lambda: bench.freeradius("detail"),
            "pyrad server, stores nothing": lambda: bench.peer("pyrad"),
            "echo, verifies nothing": lambda: bench.peer("echo"),
        }
        if options.stored:
            full = server.create()
            fill(full, options.stored)
            rivals = {STORED: lambda: bench.tollbook(full)} | rivals
        results: dict[str, list[Figures]] = {name: [] for name in rivals}
        for _ in range(options.rounds):
            for name, rival in rivals.items():
                results[name].append(rival())
        middle = {name: Figures(*(median(of) for of in zip(*rounds, strict=True))) for name, rounds in results.items()}
        show(options.calls, options.rounds, middle)
        judge(middle)


def show(calls: int, rounds: int, middle: dict[str, Figures]) -> None:
    """Print the table, and each rate as a multiple of the peers'."""
    print(
        f"{calls * EVENTS_PER_CALL} requests of {PACKET_BYTES} octets, {WINDOW} outstanding, median of {rounds} rounds"
    )
    peers = FREERADIUS | {"echo": "echo, verifies nothing"}
    heads = ("acked/s", "p50 ms", "p99 ms", "repeats", "CPU us", "database", *(f"x {peer}" for peer in peers))
    print(f"{'':30}" + "".join(f"{head:>10}" for head in heads))
    for name, r in middle.items():
        cells = [f"{r.per_s:.0f}", *(f"{figure:.1f}" for figure in r[1:3]), f"{r.repeats:.0f}"]
        cells += [f"{figure:.1f}" for figure in r[4:]]
        cells += [f"{r.per_s / middle[peer].per_s:.2f}" for peer in peers.values()]
        print(f"{name:30}" + "".join(f"{cell:>10}" for cell in cells))


def judge(middle: dict[str, Figures]) -> None:
    """Print each bar beside what was measured."""
    for name, bars in BARS.items():
        for peer, bar in bars.items():
            ratio = middle[name].per_s / middle[FREERADIUS[peer]].per_s
            print(f"{name}: times {peer}, bar {bar:.1f}, measured {ratio:.2f}: {_verdict(ratio >= bar)}")
    for name in ("tollbook, MariaDB", "tollbook, MariaDB, beside it"):
        p99_ms = middle[name].p99_ms
        print(f"{name}: p99 ms, bar {P99_MS_BAR:.0f}, measured {p99_ms:.1f}: {_verdict(p99_ms < P99_MS_BAR)}")
    if STORED in middle:
        ratio = middle[STORED].per_s / middle["tollbook, MariaDB"].per_s
        verdict = _verdict(ratio >= STORED_BAR)
        print(f"{STORED}: of the rate on an empty journal, bar {STORED_BAR}, measured {ratio:.2f}: {verdict}")


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


@contextmanager
def python(*words: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Give a Python process that says `listening on 127.0.0.1:PORT` on stderr, and its port."""
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


if __name__ == "__main__":
    main()
