"""How fast a collector reads a table, what a poll costs beside a table of any size, and that writers hide nothing.

`python -m tests.benchmarks.bench_collector [ROWS]` (default 1,000,000): a private MariaDB on disk holds the proxy's
tables and Tollbook's. While the last part is read, writers insert, hold transactions open and roll back.
"""

import platform
import random
import sys
import threading
import time
from pathlib import Path
from statistics import median

from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.engine import make_url

from accounting.base.config import CollectorSettings
from accounting.base.log import configure
from accounting.collector import Collector
from accounting.db.engine import Database, open_database
from accounting.db.tables import journal
from tests.support.mariadb import Server, running_server
from tests.support.proxy_tables import create_tables

ROWS = 1_000_000
POLLS = 50
WRITERS = 4
WRITES_S = 10.0
FILL = (
    "INSERT INTO acc (method, from_tag, to_tag, callid, sip_code, sip_reason, time)"
    " SELECT IF(seq % 2, 'INVITE', 'BYE'),"
    " CONCAT('from', seq DIV 2), CONCAT('to', seq DIV 2), CONCAT('call-', seq DIV 2, '@proxy.example'), '200', 'OK',"
    " '2026-03-02 10:00:00' + INTERVAL seq SECOND FROM seq_{first}_to_{last}"
)
ONE = (
    "INSERT INTO acc (method, from_tag, to_tag, callid, sip_code, time)"
    " VALUES ('INVITE', 'f', 't', '{call}', '200', NOW())"
)


def main(rows: int) -> None:
    """Run all parts and print what was measured."""
    configure(False, "warning")
    print(f"{platform.python_version()} on {platform.machine()}; {rows:,} rows")
    with running_server(Path("/var/tmp")) as url:
        mariadb = Server(url)
        proxy = mariadb.create()
        engine = create_engine(make_url(proxy).set(drivername="mysql+mysqldb"), pool_size=WRITERS + 2)
        with engine.begin() as conn:
            create_tables(conn, "opensips")
        with open_database(mariadb.create_migrated()) as database:
            made = CollectorSettings(name="bench", url=proxy, flavour="opensips", start="all", batch_max=5_000)
            collector = Collector(database, made)
            fill(engine, 1, 1_000)
            read_all(collector)
            print(f"a poll that finds nothing, beside {1_000:>9,} rows: {idle_ms(collector):.2f} ms")
            fill(engine, 1_001, rows)
            began = time.perf_counter()
            read_all(collector)
            took = time.perf_counter() - began
            print(f"read and stored {rows - 1_000:,} rows in {took:.1f} s: {(rows - 1_000) / took:,.0f} rows/s")
            print(f"a poll that finds nothing, beside {rows:>9,} rows: {idle_ms(collector):.2f} ms")
            beside_writers(engine, database, collector, rows)
            collector.close()
        engine.dispose()
        mariadb.dispose()


def fill(engine: Engine, first: int, last: int) -> None:
    """Insert rows."""
    with engine.begin() as conn:
        conn.exec_driver_sql(FILL.format(first=first, last=last), execution_options={"no_parameters": True})


def read_all(collector: Collector) -> None:
    """Poll until there is no more."""
    while collector.collect():
        pass


def idle_ms(collector: Collector) -> float:
    """Return the median time of a poll of both tables."""
    times = []
    for _ in range(POLLS):
        began = time.perf_counter()
        collector.collect()
        times.append((time.perf_counter() - began) * 1000)
    return median(times)


def beside_writers(engine: Engine, database: Database, collector: Collector, before: int) -> None:
    """Poll while writers hold transactions open, and tell what was missed or read twice."""
    committed: list[int] = []
    until = time.monotonic() + WRITES_S

    def write(number: int) -> None:
        dice = random.Random(number)
        done = 0
        with engine.connect() as conn:
            while time.monotonic() < until:
                many = dice.randint(1, 20)
                for n in range(many):
                    conn.exec_driver_sql(ONE.format(call=f"w{number}-{done}-{n}"))
                time.sleep(dice.random() * 0.05)
                if dice.random() < 0.1:
                    conn.rollback()
                else:
                    conn.commit()
                    done += many
        committed.append(done)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    polls = []
    while any(thread.is_alive() for thread in threads):
        began = time.perf_counter()
        collector.collect()
        polls.append((time.perf_counter() - began) * 1000)
    read_all(collector)
    read_all(collector)
    with database.journal_read() as conn:
        stored = conn.execute(select(func.count()).select_from(journal)).scalar_one() - before
    print(
        f"{WRITERS} writers for {WRITES_S:.0f} s: {sum(committed):,} rows committed, {stored:,} stored,"
        f" {len(polls)} polls, median {median(polls):.1f} ms"
    )
    assert stored == sum(committed), "rows were missed or read twice"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
