"""A MariaDB server that a test can kill and start again on the same data and port."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from socket import SOCK_STREAM
from subprocess import run

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from tests.support import mariadb
from tests.support.load import free_port


class RestartableServer:
    """Runs from start(); kill() is a crash, not a shutdown."""

    def __init__(self, data: Path) -> None:
        mariadb._install(data)
        self._data = data
        self._backup = data.with_name(data.name + "-backup")
        self._port = free_port(SOCK_STREAM)
        self.start()
        engine = create_engine(self._server_url.set(drivername="mysql+mysqldb"))
        with engine.connect() as conn:
            conn.execute(text("CREATE DATABASE tollbook CHARACTER SET utf8mb4"))
        engine.dispose()

    @property
    def url(self) -> str:
        """The URL of its database, which is empty at first."""
        return self._server_url.set(database="tollbook").render_as_string(hide_password=False)

    @property
    def _server_url(self) -> URL:
        return URL.create("mysql", username="root", host="127.0.0.1", port=self._port, database="")

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = mariadb._start(self._data, self._port, ())
        mariadb._wait_until_ready(self._server_url, self._process, self._data)

    def back_up(self) -> None:
        """Keep a copy of its data, for restore(); it must be down."""
        rmtree(self._backup, ignore_errors=True)
        run(["cp", "-a", self._data, self._backup], check=True)

    def restore(self) -> None:
        """Put the copy in the place of its data; it must be down."""
        rmtree(self._data)
        run(["cp", "-a", self._backup, self._data], check=True)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it and wait until it is gone."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def restartable_server() -> Iterator[RestartableServer]:
    """Give a server of this test's own."""
    data = Path(tempfile.mkdtemp(prefix="tollbook-restart-"))
    try:
        server = RestartableServer(data)
        try:
            yield server
        finally:
            server.kill()
    finally:
        for folder in (data, data.with_name(data.name + "-backup")):
            rmtree(folder, ignore_errors=True)
