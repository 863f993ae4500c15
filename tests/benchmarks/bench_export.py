"""CDRs per second of `export cdrs`, beside `mariadb --quick --batch` of the same columns and rows in the same run.

`python -m tests.benchmarks.bench_export [--cdrs 1000000] [--rounds 3]`. The peer writes bare values: ids for names,
micros for amounts, no quoting; the same order, along the same index. Rounds are interleaved; medians are printed.
"""

import argparse
import random
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from sqlalchemy.engine import make_url

from accounting.db.bulk import insert_rows
from accounting.db.engine import Database, open_database, upgrade_database
from cdr.store.tables import cdr
from reports.export import Choice, export_cdrs
from reports.files import replacing
from tests.support import mariadb
from tests.support.cdrs import add_accounts, cdr_values

START = datetime(2026, 11, 1, tzinfo=UTC)
SPAN_S = 3 * 86_400
CHUNK = 50_000
DESTINATIONS = ("Germany", "Germany mobile", "Austria", "Poland mobile O2, T-Mobile", "United States")
DISK = Path("/var/tmp")
SERVER = ("--innodb-log-file-size=1G", "--innodb-buffer-pool-size=2G")
PEER_COLUMNS = (
    "id,revision,call_id,from_tag,to_tag,source,direction,account_id,caller,called,caller_number,called_number,"
    "source_ip,destination_ip,started_at,answered_at,ended_at,setup_ms,duration_ms,billed_s,disposition,sip_code,"
    "stop_cause,released_by,forwarded_by,rating,destination,prefix,price_micros,price_decimals,currency,carrier_id,"
    "cost_micros,cost_decimals,cost_currency,exception,flags"
)
PEER_QUERY = (
    f"SELECT {PEER_COLUMNS} FROM cdr FORCE INDEX (ix_cdr_closed_at) "
    "WHERE superseded_at IS NULL AND disposition <> 'void' ORDER BY closed_at, id"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cdrs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=DISK)))
        server = mariadb.Server(stack.enter_context(mariadb.running_server(DISK, SERVER)))
        for name, url in (("mariadb", server.create()), ("sqlite", f"sqlite:///{folder}/bench.db")):
            upgrade_database(url)
            with open_database(url) as database:
                _fill(database, args.cdrs)
                _measure(name, url, database, folder, args)


def _measure(name: str, url: str, database: Database, folder: Path, args: argparse.Namespace) -> None:
    ours, cpu, peer = [], [], []
    for _ in range(args.rounds):
        began, used = perf_counter(), _cpu_s()
        with replacing(folder / "cdrs.csv") as file, database.read() as conn:
            assert export_cdrs(conn, Choice(), file) == args.cdrs
        ours.append(perf_counter() - began)
        cpu.append(_cpu_s() - used)
        if name == "mariadb":
            began = perf_counter()
            _peer(url, folder / "peer.tsv")
            peer.append(perf_counter() - began)
    line = f"{name}: {args.cdrs / median(ours):,.0f} CDR/s, {median(cpu) / args.cdrs * 1e6:.1f} us CPU each"
    if peer:
        line += f"; mariadb --batch {args.cdrs / median(peer):,.0f} rows/s; ratio {median(peer) / median(ours):.2f}"
    print(line, flush=True)


def _peer(url: str, out: Path) -> None:
    at = make_url(url)
    command = ["mariadb", "--quick", "--batch", "-h", str(at.host), "-P", str(at.port), "-u", str(at.username)]
    with out.open("wb") as file:
        subprocess.run([*command, str(at.database), "-e", PEER_QUERY], stdout=file, check=True)


def _fill(database: Database, cdrs: int) -> None:
    with database.write() as conn:
        add_accounts(conn)
    rows = list[tuple[Any, ...]]()
    for row in _rows(cdrs):
        rows.append(row)
        if len(rows) == CHUNK or row[0] == cdrs:
            with database.write() as conn:
                insert_rows(conn, cdr, rows)
            rows.clear()


def _rows(cdrs: int) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(1)
    names = cdr.columns.keys()
    for number in range(1, cdrs + 1):
        started_at = START + timedelta(seconds=SPAN_S * number / cdrs)
        answered_at = started_at + timedelta(milliseconds=chance.randint(500, 9_000))
        duration_ms = chance.randint(1_000, 400_000)
        caller, called = f"+4930{chance.randint(0, 9_999_999):07}", f"+49151{chance.randint(0, 9_999_999):07}"
        call_id = f"{chance.getrandbits(100):x}@10.0.0.1"
        values = cdr_values(
            number, answered_at + timedelta(milliseconds=duration_ms), call_key=call_id, call_id=call_id,
            from_tag=f"{chance.getrandbits(60):x}", to_tag=f"{chance.getrandbits(60):x}-1", caller=caller,
            caller_number=caller, called=called, called_number=called, started_at=started_at, answered_at=answered_at,
            duration_ms=duration_ms, billed_s=duration_ms // 1000, destination=chance.choice(DESTINATIONS),
            price_micros=chance.randint(1, 9_000) * 100, cost_micros=chance.randint(1, 6_000) * 100, cost_decimals=4,
            cost_currency="EUR",
        )  # fmt: skip
        yield tuple(values[name] for name in names)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
