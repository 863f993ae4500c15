"""Fixtures of all tests: freshly migrated databases of both kinds."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from accounting.db.engine import Database, open_database, upgrade_database
from tests.support import mariadb

settings.register_profile("tollbook", deadline=None)  # a machine may stop for a moment
settings.load_profile("tollbook")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so would our children


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep TOLLBOOK_* variables of whoever runs the tests out of them."""
    import os

    for name in list(os.environ):
        if name.startswith("TOLLBOOK_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def own_priority() -> Iterator[None]:
    """Let commands that a test runs in its own process not slow the tests after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.setpriority", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a migrated SQLite database, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    upgrade_database(f"sqlite:///{folder}/tollbook.db")
    return folder


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a fresh migrated SQLite database."""
    for name in ("tollbook.db", "tollbook-journal.db"):
        shutil.copy(sqlite_template / name, tmp_path / name)
    return f"sqlite:///{tmp_path}/tollbook.db"


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[mariadb.Server]:
    """A MariaDB server of this test run's own."""
    with mariadb.server() as server:
        yield server


@pytest.fixture
def empty_mariadb_url(mariadb_server: mariadb.Server) -> Iterator[str]:
    """The URL of a MariaDB database without tables."""
    url = mariadb_server.create()
    yield url
    mariadb_server.drop(url)


@pytest.fixture
def mariadb_url(mariadb_server: mariadb.Server) -> Iterator[str]:
    """The URL of a fresh migrated MariaDB database."""
    url = mariadb_server.create_migrated()
    yield url
    mariadb_server.drop(url)


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh migrated database, once of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "mariadb"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    url: str = request.getfixturevalue("empty_mariadb_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh migrated database, opened, once of each kind."""
    with open_database(database_url) as opened:
        yield opened
