"""The tables that proxies write into: every row that the stock schema loses fits, and the proxy's user only inserts."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from typer.testing import CliRunner

from accounting.base.errors import TollbookError
from accounting.db.engine import Database, open_database
from accounting.db.proxy_tables import EXTRAS, TABLES, make_proxy_tables
from accounting.proxy_lines import lines_for
from tests.support import proxy_tables as stock
from tests.support.lab import Lab
from tollbook import app

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
LONG = "c" * 255
# as the modules write them, in their order
TRANSACTION = ("method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time")
COLUMNS = {
    "opensips": {
        "acc": [
            (*TRANSACTION, "setuptime", "created"),
            (*TRANSACTION, "setuptime", "created", "duration", "ms_duration"),
        ],
        "missed_calls": [(*TRANSACTION, "setuptime", "created")],
    },
    "kamailio": {
        "acc": [TRANSACTION, (*TRANSACTION, "time_attr", "time_exten")],
        "missed_calls": [TRANSACTION, (*TRANSACTION, "time_attr", "time_exten")],
    },
}
USUAL: dict[str, Any] = {
    "method": "INVITE", "from_tag": "f", "to_tag": "t", "callid": "c1", "sip_code": "200", "sip_reason": "OK",
    "time": "2026-11-24 07:25:12", "setuptime": 3, "created": "2026-11-24 07:25:09", "duration": 4, "ms_duration": 3004,
    "time_attr": 1_795_505_112, "time_exten": 443_000,
}  # fmt: skip
LOST: list[dict[str, Any]] = [
    {},
    {"to_tag": None},  # 408, and the proxy's own 404
    {"from_tag": None},
    {"callid": LONG},
    {"from_tag": "f" * 255, "to_tag": "t" * 255},
    {"sip_reason": "r" * 300},
    {"sip_reason": b"Besch\xe4ftigt"},  # ISO-8859-1
    {"callid": "\N{SNOWMAN}\N{PILE OF POO}'\"\\"},
    {"setuptime": 1_795_505_112, "created": "1970-01-01 00:00:00"},  # transaction mode
    {"duration": 4_294_967, "ms_duration": 4_294_967_295, "setuptime": -1},  # a clock that stepped back
    {"created": None},
]


@pytest.fixture
def database(mariadb_url: str) -> Iterator[Database]:
    with open_database(mariadb_url) as opened:
        yield opened


@pytest.fixture
def inserter(database: Database, flavour: str) -> Iterator[Engine]:
    """A connection as the user that the printed grants make, with the server's own strict mode."""
    make_proxy_tables(database, flavour)
    name = str(database.url.database)
    printed = lines_for(flavour, name, "127.0.0.1").split("\n\n")[0].replace("192.0.2.10", "127.0.0.1")
    with database.write() as conn:
        conn.exec_driver_sql("DROP USER IF EXISTS proxy_acc@'127.0.0.1'")
        for line in printed.splitlines():
            if not line.startswith("--"):
                conn.exec_driver_sql(line.partition(" --")[0])
    url = database.url.set(username="proxy_acc", password="PASSWORD", query={})
    engine = create_engine(url.set(drivername="mysql+mysqldb"))
    yield engine
    engine.dispose()
    with database.write() as conn:
        conn.exec_driver_sql("DROP USER proxy_acc@'127.0.0.1'")


BOTH = pytest.mark.parametrize("flavour", ["opensips", "kamailio"])


def insert(engine: Engine, table: str, values: dict[str, Any]) -> None:
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    with engine.begin() as conn:
        conn.exec_driver_sql("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE'")
        conn.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


@BOTH
def test_every_row_that_the_stock_schema_loses_is_taken(database: Database, inserter: Engine, flavour: str) -> None:
    sent = 0
    for table, shapes in COLUMNS[flavour].items():
        for columns in shapes:
            for odd in LOST:
                row = {name: {**USUAL, **odd}[name] for name in columns}
                insert(inserter, table, row)
                insert(inserter, table, row | dict.fromkeys(EXTRAS, "x" * 1000))
                insert(inserter, table, row | dict.fromkeys(EXTRAS))
                sent += 3
    with database.read() as conn:
        kept = [conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in TABLES[flavour]]
        longest = conn.exec_driver_sql("SELECT max(length(callid)) FROM acc").scalar_one()
        reasons = set(conn.exec_driver_sql("SELECT sip_reason FROM acc").scalars())
    assert (sum(kept), longest) == (sent, 255)
    assert b"Besch\xe4ftigt" in reasons


def test_stock_schema_loses_such_rows(mariadb_server: Any) -> None:
    """What the tables are for; the same rows as above, in OpenSIPS' own."""
    url = mariadb_server.create()
    engine = create_engine(make_url(url).set(drivername="mysql+mysqldb"))
    with engine.begin() as conn:
        stock.create_tables(conn, "opensips")
    for odd in ({"to_tag": None}, {"callid": LONG}):
        with pytest.raises(DBAPIError, match=r"1048|1406"):
            insert(engine, "acc", {name: {**USUAL, **odd}[name] for name in TRANSACTION})
    engine.dispose()
    mariadb_server.drop(url)


@BOTH
def test_the_proxys_user_may_only_insert(database: Database, inserter: Engine, flavour: str) -> None:
    insert(inserter, "acc", {name: USUAL[name] for name in TRANSACTION})
    refused = (
        "SELECT * FROM acc", "UPDATE acc SET callid = 'x'", "DELETE FROM acc", "TRUNCATE TABLE acc", "DROP TABLE acc",
        "ALTER TABLE acc ADD x INT", "SELECT * FROM cdr", "INSERT INTO journal VALUES (1, 1, 1, 1, '', '')",
        "CREATE TABLE x (id INT)", "UPDATE version SET table_version = 1",
    )  # fmt: skip
    for statement in refused:
        with pytest.raises((OperationalError, ProgrammingError), match="denied"), inserter.begin() as conn:
            conn.exec_driver_sql(statement)
    if flavour == "opensips":
        with inserter.begin() as conn:  # db_check_table_version
            found = conn.exec_driver_sql("SELECT table_version FROM version WHERE table_name = 'acc'").scalar_one()
        assert found == 7


@BOTH
def test_command_is_safe_to_repeat_and_prints_what_to_configure(mariadb_url: str, tmp_path: Path, flavour: str) -> None:
    config = tmp_path / "tollbook.toml"
    config.write_text(f'[database]\nurl = "{mariadb_url}"\n')
    words = ["db", "accounting-tables", "--flavour", flavour, "--config", str(config)]
    first, second = CliRunner().invoke(app, words), CliRunner().invoke(app, words)
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert "created acc, missed_calls" in first.stderr
    assert "already there: acc, missed_calls" in second.stderr
    assert first.stdout == second.stdout
    name = make_url(mariadb_url).database
    assert f"GRANT INSERT ON `{name}`.`acc` TO proxy_acc@'192.0.2.10';" in first.stdout
    assert 'modparam("acc", "db_url", "mysql://proxy_acc:PASSWORD@127.0.0.1:' in first.stdout
    settings = tomllib.loads(first.stdout[first.stdout.index("# In tollbook.toml") :])
    [collector] = settings["collectors"]
    assert set(collector["columns"].values()) <= set(EXTRAS)


def test_sqlite_is_refused_in_one_line(sqlite_url: str, tmp_path: Path) -> None:
    with open_database(sqlite_url) as database, pytest.raises(TollbookError, match="need MariaDB") as told:
        make_proxy_tables(database, "opensips")
    assert "\n" not in str(told.value)


def test_tables_that_would_lose_rows_are_refused(database: Database) -> None:
    with database.write() as conn:
        conn.exec_driver_sql(
            "CREATE TABLE acc (id INT AUTO_INCREMENT PRIMARY KEY, method VARBINARY(255), callid CHAR(64),"
            " from_tag VARBINARY(512) NOT NULL DEFAULT '')"
        )
    with pytest.raises(TollbookError) as told:
        make_proxy_tables(database, "kamailio")
    for words in ("acc.callid is not VARBINARY(1024)", "acc.from_tag may not be NULL", "acc.to_tag is missing"):
        assert words in str(told.value)
    with database.read() as conn:
        assert conn.exec_driver_sql("SHOW TABLES LIKE 'missed_calls'").all() == []


@pytest.mark.parametrize(
    ("flavour", "corpus"), [("opensips", "opensips-tx"), ("opensips", "opensips-cdr"), ("kamailio", "kamailio")]
)
def test_captured_rows_become_cdrs_through_these_tables(
    database: Database, tmp_path: Path, flavour: str, corpus: str
) -> None:
    printed = lines_for(flavour, "db", "host")
    collector = printed[printed.index("[[collectors]]") :].replace(
        'url_file = "..." ', f'url = "{database.url.render_as_string(hide_password=False)}" '
    )
    lab = Lab(database, tmp_path, collector)
    make_proxy_tables(database, flavour)
    answered: set[str] = set()
    with database.write() as conn:
        for path in sorted(CORPUS.glob(f"{corpus}/*/sql.json")):
            for table, rows in json.loads(path.read_text("utf-8")).items():
                if table not in TABLES[flavour]:
                    continue
                kept = [{k: v for k, v in row.items() if k in TABLES[flavour][table]} for row in rows]
                stock.load_rows(conn, table, kept)
                answered |= {row["callid"] for row in rows if row["method"] == "INVITE" and row["sip_code"] == "200"}
    lab.tollbook("collect", "--once")
    lab.process(after_s=10 * 86_400)
    found = lab.cdrs()
    assert answered
    assert answered <= {cdr.call_id for cdr in found if cdr.disposition == "answered"}
    assert {cdr.caller for cdr in found if cdr.call_id in answered} - {""}
    assert not lab.differences()
    lab.close()
