"""A receiver's memory over millions of datagrams: it grows until its caches are full, and then no more.

`python -m tests.benchmarks.bench_memory [--datagrams 20000000] [--others 9]`. Many ports and addresses of
clients, and beside each new request `--others` datagrams that make no row: repeats, wrong authenticators, garbage,
Status-Server, strangers each from another address. `--others 0`: all new, 20 million are 8 GB on disk. Once the caches
are full, the rest is halved: exits with 1 if the most memory of its second half is GROWTH_MAX_MB above the first's.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from accounting.db.engine import upgrade_database
from accounting.radius.intake import REPLIES_MAX
from tests.benchmarks.bench_flood import kernel_drops
from tests.benchmarks.bench_receiver import count_rows, python
from tests.support.radload import EVENTS_PER_CALL, SECRET, load

PART = 100_000
"""Datagrams between two looks at the memory, from SOCKETS new ports."""
SOCKETS = 200
FULL_AFTER = 2 * REPLIES_MAX
"""New requests until the reply cache has been full; the remembered addresses are full by then too."""
GROWTH_MAX_MB = 8.0
"""The heap may place one more dictionary of 100,000 replies, 5 MB; of 8 million datagrams each may leave one octet."""
LINES = 20
NETWORKS = ("127.0.1.0/24", "127.0.2.0/24", "127.1.0.0/16")


class Look(NamedTuple):
    """After so many datagrams: rows stored, the process's memory in MB, all of it and what no file backs."""

    datagrams: int
    rows: int
    rss_mb: float
    anon_mb: float
    per_s: float


def main() -> int:
    """Send, look, print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datagrams", type=int, default=20_000_000)
    parser.add_argument("--others", type=int, default=9, help="datagrams without a row, beside each new request")
    options = parser.parse_args()
    full_after = FULL_AFTER * (1 + options.others)
    if options.datagrams < 2 * full_after:
        parser.error(f"the caches are full after {full_after} datagrams: send twice as many or more, or fewer others")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        looks = run(Path(folder), options.datagrams, options.others)
    print(f"{'datagrams':>12}{'rows':>12}{'RSS MB':>10}{'anon MB':>10}{'datagrams/s':>13}")
    for look in looks[:: max(1, len(looks) // LINES)]:
        print(f"{look.datagrams:12}{look.rows:12}{look.rss_mb:10.1f}{look.anon_mb:10.1f}{look.per_s:13.0f}")
    full = [look.anon_mb for look in looks if look.datagrams >= full_after]
    half = len(full) // 2
    first, second = max(full[:half]), max(full[half:])
    print(
        f"caches full after {full_after} datagrams; most anonymous memory in the two halves after that: {first:.1f} and"
        f" {second:.1f} MB, growth {second - first:.1f}, at most {GROWTH_MAX_MB}"
    )
    return int(second - first > GROWTH_MAX_MB)


def run(folder: Path, datagrams: int, others: int) -> list[Look]:
    """Return the looks at one receiver; every request must be answered and be in the journal."""
    url = f"sqlite:///{folder}/bench.db"
    upgrade_database(url)
    config = folder / "tollbook.toml"
    config.write_text(_settings(url))
    looks: list[Look] = []
    rows = sent = 0
    with python("-m", "tollbook", "receive", "--config", str(config)) as (server, port):
        for part in range(datagrams // PART):
            began = perf_counter()
            seen = load(
                port, "--calls", str(PART // (1 + others) // EVENTS_PER_CALL), "--seed", str(part + 1),
                "--chaff", str(others), "--sockets", str(SOCKETS), "--bind", _addresses(part),
            )  # fmt: skip
            assert not seen.lost, f"{seen.lost} requests were never answered"
            rows += seen.acked
            sent += seen.sent * (1 + others)
            looks.append(Look(sent, rows, *memory_mb(server.pid), seen.sent * (1 + others) / (perf_counter() - began)))
        dropped = kernel_drops(port)
        server.send_signal(signal.SIGTERM)
        server.wait()
    stored = count_rows(url)
    assert stored == rows, f"{rows} acknowledged, {stored} stored"
    print(f"{sent} datagrams, {dropped} of them dropped by the kernel; all {rows} requests answered and stored")
    return looks


def memory_mb(pid: int) -> tuple[float, float]:
    """Return a process's resident memory in MB, and the anonymous part of it, where its own objects are."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = dict(re.findall(r"^(VmRSS|RssAnon):\s+(\d+) kB", status, re.MULTILINE))
    return int(kilobytes["VmRSS"]) / 1024, int(kilobytes["RssAnon"]) / 1024


def _settings(url: str) -> str:
    clients = "".join(
        f'[[clients]]\nname = "client-{network}"\naddress = "{network}"\nsecret = "{SECRET}"\ndialect = "opensips"\n'
        'dictionary = "classic"\n'
        for network in NETWORKS
    )
    # the number of replies is to be the limit, not their age
    return f'[database]\nurl = "{url}"\n[receiver]\nlisten = ["127.0.0.1:0"]\nreply_cache_s = 3600\n{clients}'


def _addresses(part: int) -> str:
    last = 1 + part % 250
    return f"127.0.1.{last},127.0.2.{last},127.1.{part % 200}.{last},127.1.{part % 200}.{last + 1}"


if __name__ == "__main__":
    sys.exit(main())
