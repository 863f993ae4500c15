"""`tollbook collect` as a process: killed at any instant, under serve, and beside databases that are away."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from accounting.base.errors import TollbookError
from accounting.db.engine import Database, open_database, upgrade_database
from accounting.db.tables import journal
from accounting.journal import gaps
from tests.support.lab import settings
from tests.support.load import free_port
from tests.support.mariadb import Server
from tests.support.proxy import Proxy, calls_of, read_all
from tests.support.proxy_tables import create_tables
from tests.support.restart import restartable_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def proxy(mariadb_server: Server) -> Iterator[Proxy]:
    """A MariaDB database with OpenSIPS' own tables."""
    given = Proxy(mariadb_server.create())
    with given.engine.begin() as conn:
        create_tables(conn, "opensips")
    yield given
    given.engine.dispose()
    mariadb_server.drop(given.url)


def test_kill_9_at_any_time_loses_and_repeats_nothing(proxy: Proxy, database: Database, tmp_path: Path) -> None:
    calls = [f"c{n}" for n in range(400)]
    more = f'[[collectors]]\nname = "lab"\nurl = "{proxy.url}"\nflavour = "opensips"\nstart = "all"\nbatch_max = 3\n'
    config = str(settings(database, tmp_path, more).path)
    command = [sys.executable, "-m", "tollbook", "collect", "--config", config]
    proxy.add(*calls[:200])
    seen = 0
    for turn in range(4):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
            while process.poll() is None and _stored(database) <= seen + 20:
                os.sched_yield()
            process.send_signal(signal.SIGKILL)
        seen = _stored(database)
        proxy.add(*calls[200 + turn * 50 : 250 + turn * 50])
    done = subprocess.run([*command, "--once"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert Counter(calls_of(database)) == Counter(calls)
    with database.journal_read() as conn:
        assert gaps(conn) == []


def _stored(database: Database) -> int:
    with database.journal_read() as conn:
        return len(conn.execute(select(journal.c.seq)).all())


def test_once_tells_every_problem_in_one_line_each(database: Database, tmp_path: Path) -> None:
    more = f'[[collectors]]\nname = "gone"\nurl = "sqlite:///{tmp_path}/none.db"\nflavour = "opensips"\nstart = "all"\n'
    from accounting.cli_collect import collect

    with pytest.raises(TollbookError, match=r"^collector gone: .*there is no such file$"):
        collect(settings(database, tmp_path, more).path, once=True)


def test_rows_in_doubt_are_stored_once_when_our_database_comes_back(proxy: Proxy) -> None:
    with restartable_server() as server:
        upgrade_database(server.url)
        with open_database(server.url) as database:
            collector = proxy.collector(database)
            proxy.add("a", "b")
            read_all(collector)
            proxy.add("c")
            server.kill()
            assert collector.step() > 0
            proxy.add("d")
            server.start()
            collector.step()
            read_all(collector)
            collector.close()
            assert calls_of(database) == ["a", "b", "c", "d"]


def test_serve_runs_the_collectors_and_stops_them(proxy: Proxy, database: Database, tmp_path: Path) -> None:
    more = f'[receiver]\nlisten = ["127.0.0.1:{free_port()}"]\n'
    more += f'[[collectors]]\nname = "lab"\nurl = "{proxy.url}"\nflavour = "opensips"\nstart = "all"\n'
    proxy.add("a")
    command = [sys.executable, "-m", "tollbook", "serve", "--config", str(settings(database, tmp_path, more).path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while process.poll() is None and not _stored(database):
            os.sched_yield()
        process.terminate()
        assert process.wait(30) == 0
    assert calls_of(database) == ["a"]
