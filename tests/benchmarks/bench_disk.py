"""Bytes on disk per call, by table, after the pipeline has processed it; and the memory that took.

`python -m tests.benchmarks.bench_disk [--calls 200000] [--databases sqlite mariadb]`. The calls of bench_pipeline: two
reports of 305 octets, a CDR with a sell and a buy charge. Indexes count with their table, and space that the database
has taken but not filled too.
"""

import argparse
import resource
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from accounting.base.config import load_settings
from accounting.base.log import configure
from accounting.db.engine import Database, open_database, upgrade_database
from cdr.pipeline import Pipeline
from tests.benchmarks.bench_pipeline import DISK, SERVER, T0, _configure, _fill
from tests.support import mariadb

SHOWN_BYTES_MIN = 1.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--databases", nargs="*", default=["sqlite", "mariadb"])
    args = parser.parse_args()
    configure(level="warning")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=DISK)))
        for name in args.databases:
            if name == "sqlite":
                url = f"sqlite:///{folder}/bench.db"
            else:
                url = mariadb.Server(stack.enter_context(mariadb.running_server(DISK, SERVER))).create()
            upgrade_database(url)
            with open_database(url) as database:
                _show(name, _grown(database, url, folder, args.calls), args.calls)


def _show(name: str, grown: Mapping[str, int], calls: int) -> None:
    print(f"{name}: {calls} calls, bytes per call")
    for table, size in sorted(grown.items(), key=lambda item: -item[1]):
        if size / calls >= SHOWN_BYTES_MIN:
            print(f"  {table:20} {size / calls:8.0f}")
    print(f"  {'all':20} {sum(grown.values()) / calls:8.0f}")
    print(f"  most memory of the process so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _grown(database: Database, url: str, folder: Path, calls: int) -> dict[str, int]:
    """Return by how many bytes each table has grown by these calls."""
    config = folder / "bench.toml"
    config.write_text(f'[database]\nurl = "{url}"\n')
    _configure(config, folder)
    before = _sizes(database)
    _fill(database, calls)
    Pipeline(database, load_settings(config)).run(lambda: (T0 + 10 * 86_400) * 1_000_000)
    return {table: size - before.get(table, 0) for table, size in _sizes(database).items()}


def _sizes(database: Database) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for reading in (database.read, database.journal_read):
        with reading() as conn:
            if database.dialect == "sqlite":
                found = conn.exec_driver_sql(
                    "SELECT coalesce(tbl_name, s.name), sum(pgsize) FROM dbstat s LEFT JOIN sqlite_master m"
                    " ON m.name = s.name GROUP BY 1"
                )
            else:
                found = conn.exec_driver_sql(
                    "SELECT substring_index(name, '/', -1), file_size FROM information_schema.innodb_sys_tablespaces"
                    " WHERE name LIKE concat(database(), '/%%')"
                )
            sizes |= {str(table): int(size) for table, size in found}
    return sizes


if __name__ == "__main__":
    main()
