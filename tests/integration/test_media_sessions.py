"""MediaProxy's own table, followed by a collector: a lost BYE gets its end, a BYE after dead media is corrected."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url

from accounting.base.config import load_settings
from accounting.base.errors import SettingsError
from accounting.db.engine import open_database
from tests.support.lab import T0, Lab, bye, invite
from tests.support.mariadb import Server

DECK = "prefix,destination,rate\n4915,Germany mobile,0.60\n"
TABLE = """CREATE TABLE media_sessions (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, call_id VARCHAR(255) NOT NULL,
    from_tag VARCHAR(64) NOT NULL, to_tag VARCHAR(64), info MEDIUMBLOB,
    UNIQUE KEY callid_idx (call_id, from_tag, to_tag)) ENGINE=MyISAM CHARACTER SET latin1"""
COLLECTOR = '[[collectors]]\nname = "relay-1"\nurl = "{url}"\nflavour = "mediaproxy"\nstart = "{start}"\nrank = 2\n'


@pytest.fixture
def relay(mariadb_server: Server) -> Iterator[Engine]:
    url = mariadb_server.create()
    engine = create_engine(make_url(url).set(drivername="mysql+mysqldb"))
    with engine.begin() as conn:
        conn.exec_driver_sql(TABLE)
    yield engine
    engine.dispose()
    mariadb_server.drop(url)


def collector(relay: Engine, start: str = "all") -> str:
    url = relay.url.set(drivername="mysql").render_as_string(hide_password=False)
    return COLLECTOR.format(url=url, start=start)


def report(relay: Engine, call_id: str, began: int, lasted: int, wait: int = 180) -> None:
    """Insert the row of a session whose media timed out."""
    stream = {"status": "conntrack timeout", "timeout_wait": wait, "start_time": 0, "end_time": lasted + wait}
    info = {"start_time": T0 + began + 0.25, "duration": lasted + wait, "timed_out": True, "streams": [stream]}
    with relay.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO media_sessions (call_id, from_tag, to_tag, info) VALUES (%s, %s, %s, %s)",
            (call_id, "a", "b", json.dumps(info)),
        )


def test_rows_end_and_correct_calls(relay: Engine, sqlite_url: str, tmp_path: Path) -> None:
    with open_database(sqlite_url) as database:
        lab = Lab(database, tmp_path, collector(relay))
        lab.sell(DECK)
        lab.journal(invite("c1", 0), invite("c2", 0), bye("c2", 7_200))
        lab.process(after_s=7_300)
        assert [(charge.kind, charge.billed_s) for charge in lab.charges()] == [("charge", 7_200)]
        report(relay, "c1", 0, 61)
        report(relay, "c2", 0, 90)
        lab.tollbook("collect", "--once")
        lab.process(after_s=7_400)
        found = [(cdr.call_id, cdr.revision, cdr.stop_cause, cdr.duration_ms) for cdr in lab.cdrs()]
        assert found == [("c1", 1, "media", 61_000), ("c2", 2, "media", 90_000)]
        kinds = sorted((charge.kind, charge.billed_s) for charge in lab.charges())
        assert kinds == [("charge", 61), ("charge", 90), ("charge", 7_200), ("reversal", 7_200)]
        report(relay, "c3", 0, 5)
        lab.tollbook("collect", "--once")
        lab.tollbook("collect", "--once")
        assert not lab.differences()
        with database.journal_read() as conn:
            rows = conn.exec_driver_sql("SELECT count(*) FROM journal WHERE peer = x''").scalar_one()
        assert rows == 3
        lab.close()


def test_start_now_leaves_what_is_there(relay: Engine, sqlite_url: str, tmp_path: Path) -> None:
    report(relay, "old", 0, 61)
    with open_database(sqlite_url) as database:
        lab = Lab(database, tmp_path, collector(relay, "now"))
        lab.tollbook("collect", "--once")
        report(relay, "new", 0, 61)
        lab.tollbook("collect", "--once")
        with database.journal_read() as conn:
            [raw] = conn.exec_driver_sql("SELECT raw FROM journal").scalars()
        assert json.loads(raw)["row"]["call_id"] == "new"
        lab.close()


def test_start_at_an_instant_is_refused(relay: Engine, tmp_path: Path) -> None:
    path = tmp_path / "tollbook.toml"
    path.write_text(collector(relay, "2026-01-01T00:00:00Z"))
    with pytest.raises(SettingsError, match="media_sessions has no time"):
        load_settings(path)
