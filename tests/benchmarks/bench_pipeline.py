"""CDRs per second from the journal to charged CDRs, beside a bulk load of the same finished rows in the same run.

`python -m tests.benchmarks.bench_pipeline [--calls 100000] [--databases sqlite mariadb]`. A deck of 50,000 prefixes on
each side, 1,000 customers, a sell and a buy charge per CDR, one batch per 100,000 events. The peer of MariaDB is LOAD
DATA of the rows that the pipeline wrote into empty copies of the same tables; that of SQLite executemany.
"""

import argparse
import random
import resource
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from accounting.base.config import load_settings
from accounting.base.log import configure
from accounting.db.engine import Database, open_database, upgrade_database
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from cdr.pipeline import Pipeline
from cdr.store.tables import cdr, charge
from cdr.verify import verify
from tests.support import mariadb
from tests.support.lab import PEER
from tests.support.radius import SECRET, request

T0 = 1_795_500_000
CUSTOMERS = 1_000
PREFIXES = 50_000
LAG = 64
SOURCE = Source(id=0, name="proxy-1", dialects=("opensips",), dictionary="classic")
DISK = Path("/var/tmp")
SERVER = ("--innodb-log-file-size=1G", "--innodb-buffer-pool-size=2G", "--local-infile=1")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--databases", nargs="*", default=["sqlite", "mariadb"])
    args = parser.parse_args()
    configure(level="warning")
    print(f"{args.calls} calls, {PREFIXES} prefixes a side, {CUSTOMERS} customers")
    print(f"{'':10} {'CDR/s':>9} {'CPU us/CDR':>11} {'peer rows':>12} {'peer CDR/s':>11} {'ratio':>6}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in args.databases:
            if name == "sqlite":
                url = f"sqlite:///{folder}/bench.db"
            else:
                url = mariadb.Server(stack.enter_context(mariadb.running_server(DISK, SERVER))).create()
            upgrade_database(url)
            with open_database(url) as database:
                _measure(name, url, database, folder, args.calls)


def _measure(name: str, url: str, database: Database, folder: Path, calls: int) -> None:
    config = folder / f"{name}.toml"
    config.write_text(f'[database]\nurl = "{url}"\n')
    _configure(config, folder)
    _fill(database, calls)
    pipeline = Pipeline(database, load_settings(config))
    began, cpu = perf_counter(), _cpu_s()
    pipeline.run(lambda: (T0 + 10 * 86_400) * 1_000_000)
    took_s, cpu_s = perf_counter() - began, _cpu_s() - cpu
    assert verify(database).differences == ()
    peer_s, rows = _load_again(database, folder)
    print(
        f"{name:10} {calls / took_s:9,.0f} {cpu_s / calls * 1e6:11.1f} {rows:12,} {calls / peer_s:11,.0f} "
        f"{peer_s / took_s:6.2f}"
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _configure(config: Path, folder: Path) -> None:
    """Load decks and accounts as an operator does, the many customers in one transaction."""
    from typer.testing import CliRunner

    from accounting.base import clock
    from cdr.rating.directory import Identity
    from cdr.store.accounts import insert_account, insert_identity
    from cdr.store.decks import assign_deck, find_deck
    from tollbook import app

    def tollbook(*words: str) -> None:
        result = CliRunner().invoke(app, [*words, "--config", str(config)])
        assert result.exit_code == 0, (words, result.output, result.exception)

    chance = random.Random(1)
    prefixes = sorted({str(chance.randrange(10, 99)) + str(chance.randrange(0, 99_999)) for _ in range(2 * PREFIXES)})
    for side, rate in (("sell", "0.0612"), ("buy", "0.0413")):
        deck = folder / f"{side}.csv"
        rows = [f"{p},Destination {n % 700},{rate},60,1" for n, p in enumerate(prefixes[:PREFIXES])]
        rows += [f"{n},Country {n},{rate},30,6" for n in range(1, 10)]
        deck.write_text("prefix,destination,rate,initial_s,increment_s\n" + "\n".join(rows) + "\n")
        tollbook("rates", "load", str(deck), "--deck", side, "--currency", "EUR", "--side", side)
    tollbook("carrier", "add", "carrier", "--currency", "EUR", "--deck", "buy")
    tollbook("carrier", "identify", "carrier", "--ip", "127.0.0.9/32")
    with open_database(load_settings(config).database.url) as database, database.write() as conn:
        deck_row = find_deck(conn, "sell")
        assert deck_row is not None
        for n in range(CUSTOMERS):
            account_id = insert_account(
                conn, role="customer", name=f"customer-{n}", currency="EUR", payment="postpaid",
                credit_limit_micros=0, timezone="Europe/Berlin", created_at=clock.now(),
            )  # fmt: skip
            assign_deck(conn, account_id, deck_row.id, None, None, clock.now())
            insert_identity(conn, Identity(account_id, "user", f"u{n:06d}@sip.example.org"), clock.now())


def _fill(database: Database, calls: int) -> None:
    writer = JournalWriter(database, "receiver", "bench")
    source_id = register_source(database, SOURCE)
    rows: list[tuple[int, int, bytes, bytes]] = []
    for n in range(calls + LAG):
        for number, stop in ((n, False), (n - LAG, True)):
            if 0 <= number < calls:
                rows.append(((T0 + number // 50) * 1_000_000, source_id, PEER, _packet(number, stop)))
        if len(rows) >= 10_000:
            writer.append(rows)
            rows.clear()
    if rows:
        writer.append(rows)
    writer.close()


def _packet(n: int, stop: bool) -> bytes:
    """Return a report as a proxy sends it: 18 attributes, about 305 octets."""
    h = n * 2_654_435_761 % 2**32
    at = T0 + n // 50 + (1 + h % 600 if stop else 0)
    number = f"+{10 + h % 89}{h % 10**9:09d}"
    return request(
        SECRET, (40, 2 if stop else 1), (6, 15), (102, 200), (101, 8 if stop else 1), (55, at),
        (105, f"{h:08x}{n:08x}"), (104, f"as{h:08x}{n & 0xFFFF:04x}"), (44, f"{h:08x}{n:012x}{h:08x}@127.0.0.1xx"),
        (1, f"u{h % CUSTOMERS:06d}@sip.example.org"), (31, f"sip:+4930{h % 10**7:07d}@sip.example.org"),
        (30, f"sip:{number}@sip.example.org"), (107, f"sip:{number}@127.0.0.9:5060;transport=udp"),
        (108, "127.0.0.1"), (109, "5060"), (5, 5060), (41, 0), (4, b"\x7f\x00\x00\x01"), (32, "bench"),
    )  # fmt: skip


def _load_again(database: Database, folder: Path) -> tuple[float, int]:
    """Return the seconds that a bulk load of the same rows into copies of the tables takes, and their number."""
    total_s, count = 0.0, 0
    for table in (cdr, charge):
        if database.dialect == "sqlite":
            with database.write() as conn:
                made = conn.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE name = '{table.name}'").scalar_one()
                conn.exec_driver_sql(
                    made.replace(f"TABLE {table.name}", f"TABLE {table.name}_copy").replace("pk_", "pk2_")
                )
                for index in table.indexes:
                    names = ", ".join(column.name for column in index.columns)
                    conn.exec_driver_sql(f"CREATE INDEX {index.name}_copy ON {table.name}_copy ({names})")
                rows = [tuple(row) for row in conn.exec_driver_sql(f"SELECT * FROM {table.name}")]
            began = perf_counter()
            with database.write() as conn:
                marks = ", ".join("?" * len(table.columns))
                conn.exec_driver_sql(f"INSERT INTO {table.name}_copy VALUES ({marks})", rows)
            total_s += perf_counter() - began
            count += len(rows)
            continue
        with database.write() as conn:
            conn.exec_driver_sql(f"CREATE TABLE {table.name}_copy LIKE {table.name}")
            path = folder / f"{table.name}.tsv"
            columns = ", ".join(f"HEX({c.name})" if c.name == "events" else c.name for c in table.columns)
            with path.open("w") as file:
                for row in conn.exec_driver_sql(f"SELECT {columns} FROM {table.name}"):
                    file.write("\t".join("\\N" if v is None else str(v) for v in row) + "\n")
                    count += 1
            names = ", ".join("@events" if c.name == "events" else c.name for c in table.columns)
            unhex = " SET events = UNHEX(@events)" if "events" in table.columns else ""
            began = perf_counter()
            conn.exec_driver_sql(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {table.name}_copy ({names}){unhex}")
        total_s += perf_counter() - began
    return total_s, count


if __name__ == "__main__":
    main()
