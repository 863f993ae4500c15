"""What a flood costs the clients that send as they should: the answers they get without and with it, in one run.

`python -m tests.benchmarks.bench_flood [--rate 2000] [--rounds 3] [--databases sqlite mariadb] [--limit 1000]`.
The flood comes as fast as one core sends, before, while and until the good client has its last answer, and goes to the
same listening address as the good client or to another one of the same receiver. A UDP socket has one buffer for all
who send to it, and what it cannot hold the kernel drops, whoever sent it; only strangers can be kept out of it. A
second address has a buffer of its own. "Elsewhere" goes to a socket that nobody reads: what the flood costs on two
cores without being received at all.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import sleep
from typing import NamedTuple

from sqlalchemy import func, select

from accounting.db.engine import open_database, upgrade_database
from accounting.db.tables import journal, source
from tests.benchmarks.bench_receiver import SERVER, python
from tests.support import mariadb
from tests.support.daemon import cpu_s
from tests.support.load import free_port
from tests.support.radload import SECRET, command, load

GOOD, FLOODER, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
FLOODS = {
    "strangers": (STRANGER, "bad"),
    "wrong authenticator": (GOOD, "bad"),  # as one sends who forges the good client's address
    "garbage": (FLOODER, "garbage"),
    "another client's requests": (FLOODER, "good"),
}
WINDOW = 256
OUTSTANDING_MAX = 8192
"""At a rate, more than a flood leaves unanswered: six tries of a second each."""
FLOOD_STARTS_S = 0.5


class Figures(NamedTuple):
    """What the good client got, a second and in shares of its requests; and how much of the flood was sent and read."""

    per_s: float
    p99_ms: float
    first: float
    at_last: float
    sent_s: float = 0.0
    read_s: float = 0.0
    cpu_us: float = 0.0
    """The receiver's, per datagram of the flood; the good client's share is in it."""


class Bench:
    """Where a receiver is measured, and how the good client sends."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.limit = options.limit
        self.sending = ("--bind", GOOD, "--calls", "100000000", "--seconds", str(options.seconds), "--retry-ms", "1000")
        if options.rate:
            self.sending += ("--rate", str(options.rate), "--window", str(OUTSTANDING_MAX))
        else:
            self.sending += ("--window", str(WINDOW))

    def run(self, url: str, flood: str = "", *, is_shared: bool = True, is_read: bool = True) -> Figures:
        """Measure a new receiver on a new database; its journal must hold all that the good client was told it does."""
        upgrade_database(url)
        config = self.folder / "tollbook.toml"
        config.write_text(self._settings(url, second := free_port()))
        with python("-m", "tollbook", "receive", "--config", str(config)) as (server, first), ExitStack() as stack:
            target = first if is_read else stack.enter_context(_unread())
            cpu = cpu_s(server.pid)
            flooding = stack.enter_context(_flooding(target, flood)) if flood else None
            seen = load(first if is_shared else second, *self.sending)
            figures = Figures(seen.per_s, seen.p99_ms, seen.acked_first / seen.sent, seen.acked / seen.sent)
            if flooding:
                flooding.send_signal(signal.SIGTERM)
                said = json.loads(flooding.communicate()[0])
                figures = figures._replace(sent_s=said["rate"])
                if is_read:
                    read = said["sent"] - kernel_drops(target)
                    used_us = (cpu_s(server.pid) - cpu) / read * 1e6
                    figures = figures._replace(read_s=read / said["elapsed_s"], cpu_us=used_us)
            server.send_signal(signal.SIGTERM)
            server.wait()
        stored = count_rows(url, "good")
        assert seen.acked <= stored <= seen.sent, f"{seen.acked} acknowledged, {stored} stored"
        return figures

    def _settings(self, url: str, second: int) -> str:
        limits = {"good": "", "flooder": f"requests_per_s_max = {self.limit}\n" if self.limit else ""}
        clients = "".join(
            f'[[clients]]\nname = "{name}"\naddress = "{address}"\nsecret = "{SECRET}"\ndialect = "opensips"\n'
            f'dictionary = "classic"\n{limits[name]}'
            for name, address in (("good", GOOD), ("flooder", FLOODER))
        )
        listen = f'listen = ["127.0.0.1:0", "127.0.0.1:{second}"]'
        return f'[database]\nurl = "{url}"\n[receiver]\n{listen}\n{clients}'


def kernel_drops(port: int) -> int:
    """Return how many datagrams the kernel has dropped because the buffer of a port's socket was full."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[-1]) for row in rows if row[1].endswith(f":{port:04X}"))


def count_rows(url: str, name: str) -> int:
    """Return how many rows of a source a journal has."""
    wanted = select(func.count()).select_from(journal.join(source, journal.c.source_id == source.c.id))
    with open_database(url) as database, database.journal_read() as conn:
        return int(conn.execute(wanted.where(source.c.name == name)).scalar_one())


@contextmanager
def _flooding(port: int, flood: str) -> Iterator["subprocess.Popen[str]"]:
    address, kind = FLOODS[flood]
    words = command(port, "--flood", kind, "--bind", address, "--calls", "1000000000", "--seed", "2", "--sockets", "8")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as flooder:
        try:
            sleep(FLOOD_STARTS_S)
            yield flooder
        finally:
            flooder.kill()


@contextmanager
def _unread() -> Iterator[int]:
    """Give the port of a socket that nobody reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def main() -> None:
    """Run all rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2000, help="of the good client; 0: 256 outstanding")
    parser.add_argument("--seconds", type=float, default=5, help="that it sends in one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--databases", nargs="*", default=["sqlite", "mariadb"])
    parser.add_argument("--limit", type=int, default=0, help="requests_per_s_max of the other client")
    parser.add_argument("--only", default="", help="the floods whose name holds this")
    options = parser.parse_args()
    disk = Path(os.environ.get("TMPDIR", "/var/tmp"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=disk)))
        bench = Bench(folder, options)
        for name in options.databases:
            if name == "mariadb":
                server = mariadb.Server(stack.enter_context(mariadb.running_server(disk, SERVER)))
                stack.callback(server.dispose)
            cases = _cases(bench, options.only)
            results: dict[str, list[Figures]] = {case: [] for case in cases}
            for number in range(options.rounds):
                for place, (case, run) in enumerate(cases.items()):
                    url = server.create() if name == "mariadb" else f"sqlite:///{folder}/{number}-{place}.db"
                    results[case].append(run(url))
            show(name, options, results)


def _cases(bench: Bench, only: str) -> dict[str, Callable[[str], Figures]]:
    def case(flood: str, is_shared: bool) -> Callable[[str], Figures]:
        return lambda url: bench.run(url, flood, is_shared=is_shared)

    cases: dict[str, Callable[[str], Figures]] = {"no flood": bench.run}
    cases["a flood elsewhere"] = lambda url: bench.run(url, "strangers", is_read=False)
    for flood in (name for name in FLOODS if only in name):
        cases[f"{flood}, same address"] = case(flood, True)
        cases[f"{flood}, another"] = case(flood, False)
    return cases


def show(name: str, options: argparse.Namespace, results: dict[str, list[Figures]]) -> None:
    """Print the medians of one database, and what is left of the rate without a flood."""
    sends = f"{options.rate} a second" if options.rate else f"{WINDOW} outstanding"
    limit = f"the other client's limit {options.limit}, " if options.limit else ""
    print(f"{name}: a good client, {sends} for {options.seconds:g} s; {limit}median of {options.rounds} rounds")
    heads = ("acked/s", "ratio", "p99 ms", "1st try", "at last", "sent/s", "read/s", "CPU us")
    print(f"{'':42}" + "".join(f"{head:>10}" for head in heads))
    middle = {case: Figures(*(median(of) for of in zip(*rounds, strict=True))) for case, rounds in results.items()}
    for case, r in middle.items():
        cells = [f"{r.per_s:.0f}", f"{r.per_s / middle['no flood'].per_s:.2f}", f"{r.p99_ms:.1f}"]
        cells += [f"{r.first:.1%}", f"{r.at_last:.1%}"]
        cells += [f"{r.sent_s:.0f}"] if r.sent_s else []
        cells += [f"{r.read_s:.0f}", f"{r.cpu_us:.1f}"] if r.read_s else []
        print(f"{case:42}" + "".join(f"{cell:>10}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
