"""A private MariaDB server for tests and benchmarks, and cheap databases on it.

It ends with the process that started it, however that ends. `python -m tests.support.mariadb` runs one until Ctrl-C.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from socket import SOCK_STREAM

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from accounting.db.engine import upgrade_database
from tests.support.load import free_port

START_TIMEOUT_S = 60
MISSING = "MariaDB's server is not installed; run: apt-get install mariadb-server"
SERVER_VARIABLE = "TEST_MARIADB_URL"
"""Names a running server to use, like mysql://root@127.0.0.1:3307/; else a private one is started."""


def find_program(name: str) -> str:
    """Return a program's path; /usr/sbin is searched too."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(MISSING)
    return found


@contextmanager
def running_server(folder: Path | None = None, options: tuple[str, ...] = ()) -> Iterator[URL]:
    """Run a server, its data under `folder` (default: a temporary one, in memory where that exists); give its URL."""
    parent = folder or (Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None)
    data = Path(tempfile.mkdtemp(prefix="tollbook-mariadb-", dir=parent))
    try:
        _install(data)
        port = free_port(SOCK_STREAM)
        process = _start(data, port, options)
        watcher = _watch(process, data)
        try:
            url = URL.create("mysql", username="root", host="127.0.0.1", port=port, database="")
            _wait_until_ready(url, process, data)
            yield url
        finally:
            watcher.communicate()
            process.wait()
    finally:
        shutil.rmtree(data, ignore_errors=True)


class Server:
    """A running server that makes databases: empty ones, and migrated ones by replay of a template's tables."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = create_engine(url.set(drivername="mysql+mysqldb"), pool_pre_ping=True)
        self._names = (f"tollbook_{os.getpid()}_{number}" for number in count())
        self._template: list[str] = []

    @property
    def pid(self) -> int:
        """The server's process id."""
        with self._engine.connect() as conn:
            return int(Path(conn.exec_driver_sql("SELECT @@pid_file").scalar_one()).read_text())

    def create(self) -> str:
        """Return the URL of a new, empty database."""
        name = next(self._names)
        with self._engine.connect() as conn:
            conn.execute(text(f"DROP DATABASE IF EXISTS {name}"))
            conn.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
        return self.url.set(database=name).render_as_string(hide_password=False)

    def create_migrated(self) -> str:
        """Return the URL of a new database with the current schema."""
        if not self._template:
            self._template = self._read_template()
        url = self.create()
        with self._engine.connect() as conn:
            conn.exec_driver_sql(f"USE {make_url(url).database}")
            conn.exec_driver_sql("SET foreign_key_checks = 0")
            for statement in self._template:
                conn.exec_driver_sql(statement, execution_options={"no_parameters": True})
            conn.commit()
            conn.invalidate()  # its session is not like a new one's
        return url

    def drop(self, url: str) -> None:
        """Remove a database."""
        with self._engine.connect() as conn:
            conn.execute(text(f"DROP DATABASE IF EXISTS {make_url(url).database}"))

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _read_template(self) -> list[str]:
        url = self.create()
        upgrade_database(url)
        statements: list[str] = []
        with self._engine.connect() as conn:
            conn.exec_driver_sql(f"USE {make_url(url).database}")
            for (table,) in conn.exec_driver_sql("SHOW TABLES").all():
                statements.append(conn.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1])
                if table.startswith("alembic_version"):
                    revision = conn.exec_driver_sql(f"SELECT version_num FROM {table}").scalar_one()
                    statements.append(f"INSERT INTO {table} VALUES ('{revision}')")
            conn.invalidate()
        self.drop(url)
        return statements


@contextmanager
def server() -> Iterator[Server]:
    """Give the server named by TEST_MARIADB_URL, or a private one."""
    named = os.environ.get(SERVER_VARIABLE)
    if named:
        yield from _on(make_url(named))
        return
    with running_server() as url:
        yield from _on(url)


def _on(url: URL) -> Iterator[Server]:
    result = Server(url)
    try:
        yield result
    finally:
        result.dispose()


def _install(data: Path) -> None:
    command = [
        find_program("mariadb-install-db"), f"--datadir={data}", "--auth-root-authentication-method=normal",
        "--skip-test-db", "--no-defaults", "--innodb-log-file-size=16M", *_user(),
    ]  # fmt: skip
    if os.geteuid() == 0:
        shutil.chown(data, "mysql", "mysql")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mariadb-install-db failed: {done.stdout}{done.stderr}")


def _start(data: Path, port: int, options: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    command = [
        find_program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
        f"--socket={data}/s", f"--pid-file={data}/pid", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=1",
        "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=128M", f"--log-error={data}/error.log",
        *_user(), *options,
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for us, not for it
    )  # fmt: skip


def _watch(process: "subprocess.Popen[bytes]", data: Path) -> "subprocess.Popen[bytes]":
    """Start a watcher: when our end of its pipe closes, by our doing or our death, it ends the server.

    PR_SET_PDEATHSIG does not do: the kernel forgets it when mariadbd changes its user.
    """
    script = 'cat; kill -9 "$1"; rm -rf "$2"'  # nothing on the server is kept
    return subprocess.Popen(
        ["sh", "-c", script, "watcher", str(process.pid), str(data)], stdin=subprocess.PIPE, process_group=0
    )


def _user() -> list[str]:
    return ["--user=mysql"] if os.geteuid() == 0 else []


def _wait_until_ready(url: URL, process: "subprocess.Popen[bytes]", data: Path) -> None:
    import MySQLdb

    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            MySQLdb.connect(host="127.0.0.1", port=url.port or 0, user="root").close()
            return
        except MySQLdb.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                log = data / "error.log"
                raise RuntimeError(f"mariadbd did not start: {log.read_text() if log.exists() else ''}") from None
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)


def main() -> None:
    """Run a server on a real disk until a signal comes; print the variable that makes tests use it."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with running_server(Path(os.environ.get("TMPDIR", "/var/tmp"))) as url:
        print(f"{SERVER_VARIABLE}={url.render_as_string(hide_password=False)}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
