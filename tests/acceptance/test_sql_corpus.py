"""The SQL rows of captured calls, in the proxies' own tables on MariaDB, become CDRs of what the calls really did."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from accounting.db.engine import Database
from accounting.journal import JournalWriter, register_source
from cdr.store.tables import cdr
from tests.support.mariadb import Server
from tests.support.sql_corpus import (
    Scenario,
    cdrs_of,
    check_proxy,
    collector,
    latest,
    load_proxy,
    problems,
    scenarios,
    tollbook,
    zone_of,
)
from tests.unit.sources.rows import CORPUS, captures

PROXIES = scenarios(CORPUS)


@pytest.mark.parametrize("proxy", PROXIES)
def test_rows_become_the_calls_that_were_made(
    proxy: str, mariadb_server: Server, sqlite_url: str, tmp_path: Path
) -> None:
    assert check_proxy(mariadb_server, PROXIES[proxy], tmp_path, sqlite_url, twice=False) == []


def test_captures_are_of_proxies_in_two_time_zones() -> None:
    assert {zone_of(some) for some in PROXIES.values()} == {"UTC", "Asia/Kolkata"}


def test_tables_read_twice_change_nothing(mariadb_server: Server, database: Database, tmp_path: Path) -> None:
    url = database.url.render_as_string(hide_password=False)
    assert check_proxy(mariadb_server, PROXIES["opensips-tx"], tmp_path, url, twice=True) == []


@pytest.fixture
def both(mariadb_server: Server, database: Database, tmp_path: Path) -> Iterator["Both"]:
    given = Both(mariadb_server, database, tmp_path)
    yield given
    given.close()


class Both:
    """All scenarios of one proxy as RADIUS and as SQL, on one database."""

    def __init__(self, mariadb: Server, database: Database, folder: Path) -> None:
        self.database = database
        self.config = folder / "tollbook.toml"
        self._mariadb = mariadb
        self._urls: list[str] = []
        self._writer = JournalWriter(database, "receiver", "test")

    def close(self) -> None:
        self._writer.close()
        for url in self._urls:
            self._mariadb.drop(url)

    def configure(self, some: list[Scenario], name: str) -> None:
        url = load_proxy(self._mariadb, some)
        self._urls.append(url)
        own = self.database.url.render_as_string(hide_password=False)
        self.config.write_text(f'[database]\nurl = "{own}"\n' + collector(name, url, some[0].flavour, zone_of(some)))

    def radius(self, proxy: str) -> None:
        for capture in captures():
            if capture.proxy == proxy and capture.calls and capture.rows:
                source = register_source(self.database, capture.source)
                self._writer.append([(row.received_us, source, row.peer, row.raw) for row in capture.rows])

    def revised(self) -> list[str]:
        """Return the Call-IDs that have more than one revision."""
        with self.database.read() as conn:
            return list(conn.execute(select(cdr.c.call_id).where(cdr.c.revision > 1)).scalars())


@pytest.mark.parametrize("name", ["a-sql", "z-sql"])  # where ranks are equal the name decides whose word counts
@pytest.mark.parametrize("sql_first", [True, False], ids=["sql-first", "radius-first"])
@pytest.mark.parametrize("proxy", ["kamailio", "kamailio-dd1", "opensips-tx", "opensips-cdr"])
def test_radius_and_sql_are_one_cdr_without_a_revision(proxy: str, sql_first: bool, name: str, both: Both) -> None:
    some = [one for one in PROXIES[proxy] if _both_tell(one)]
    both.configure(some, name)
    for is_sql in (sql_first, not sql_first):
        if is_sql:
            tollbook(both.config, "collect", "--once")
        else:
            both.radius(proxy)
        rows = cdrs_of(both.config, latest(some))
    known = {call["call_id"] for one in some for call in one.calls}
    counted = [row["call_id"] for row in rows if row["call_id"] in known]
    assert len(counted) == len(set(counted))
    assert both.revised() == []
    assert problems(some, [row for row in rows if row["call_id"] in known]) == []


def _both_tell(scenario: Scenario) -> bool:
    """Return whether RADIUS was not made to lose packets: then what one source lacks is news from the other."""
    return not scenario.name.startswith(("radius_", "lost_bye_proxy"))
