"""CDRs per second where many gateways give their sessions the same ids, as those do that count from 1.

`python -m tests.benchmarks.bench_shared_ids [--calls 2000] [--ids 10]`. Each id has had so many calls, of 500 gateways
in turn; then one gateway reports one more of each id, in one batch. SQLite.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

from accounting.base.log import configure
from accounting.db.engine import Database, open_database, upgrade_database
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from tests.support.lab import PEER, T0, Lab
from tests.support.radius import SECRET, request

GATEWAYS = 500
APART_S = 3_600
LASTED_S = 60
DECK = "prefix,destination,rate,initial_s,increment_s\n49,Germany,0.60,60,60\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--ids", type=int, default=10)
    args = parser.parse_args()
    configure(level="warning")
    with tempfile.TemporaryDirectory() as name:
        url = f"sqlite:///{name}/bench.db"
        upgrade_database(url)
        with open_database(url) as database:
            _measure(database, Path(name), args.calls, args.ids)


def _measure(database: Database, folder: Path, calls: int, ids: int) -> None:
    lab = Lab(database, folder)
    lab.sell(DECK)
    lab.tollbook("account", "identify", "acme", "--user", "alice@lab.example")
    source = register_source(database, Source(id=0, name="gateway", dialects=("generic",)))
    writer = JournalWriter(database, "receiver", "bench")

    def process(first: int, last: int) -> float:
        for n in range(first, last):
            rows = [row for session_id in range(ids) for row in _reports(n % GATEWAYS, session_id, n * APART_S)]
            writer.append([(at, source, PEER, packet) for at, packet in rows])
        began = perf_counter()
        lab.process(after_s=last * APART_S + 2 * 86_400)
        return perf_counter() - began

    before_s = process(0, calls)
    one_s = process(calls, calls + 1)
    assert lab.differences() == ()
    print(f"{calls * ids:,} calls under {ids} ids at once: {calls * ids / before_s:,.0f} CDR/s")
    print(f"one more of each id: {ids / one_s:,.0f} CDR/s, {one_s / calls / ids * 1e6:.1f} us for each call of its id")
    writer.close()
    lab.close()


def _reports(gateway: int, session_id: int, at: int) -> list[tuple[int, bytes]]:
    said = (
        (44, str(session_id)), (32, f"gw{gateway}"), (4, (0x0A000000 + gateway).to_bytes(4)),
        (1, "alice@lab.example"), (31, f"+4930{gateway}"), (30, "+494012345"),
    )  # fmt: skip
    start = request(SECRET, (40, 1), (55, T0 + at), *said)
    stop = request(SECRET, (40, 2), (55, T0 + at + LASTED_S), (46, LASTED_S), *said)
    return [((T0 + at) * 1_000_000, start), ((T0 + at + LASTED_S) * 1_000_000, stop)]


if __name__ == "__main__":
    main()
