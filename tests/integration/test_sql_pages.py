"""SQL accounting as the how-to pages set it up: the pages, the commands and the mends name the same columns."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url

from accounting.db.engine import Database, open_database
from accounting.db.proxy_tables import EXTRAS as MADE
from accounting.proxy_lines import COLUMNS, EXTRAS, KAMAILIO_EXTRA, OPENSIPS_FIELDS
from cdr.source_mends import MENDS
from tests.support import proxy_tables as stock
from tests.support.howto import PAGES, block
from tests.support.lab import Lab

LONG = "c" * 200
ROW: dict[str, Any] = {
    "method": "INVITE", "from_tag": "f", "to_tag": "t", "callid": LONG, "sip_code": "200", "sip_reason": "OK",
    "time": "2026-11-24 07:00:00", "from_uri": "sip:alice@lab.example", "src_ip": "192.0.2.10",
    "dialled": "sip:+4915112345678@lab.example", "sent": "sip:+4915112345678@198.51.100.7", "auth_user": "alice",
}  # fmt: skip
OPENSIPS = {"setuptime": 3, "created": "2026-11-24 06:59:57", "duration": 61, "ms_duration": 60_500}
KAMAILIO = {"time_attr": 1_795_500_000, "time_exten": 500_000}


@pytest.fixture
def database(mariadb_url: str) -> Iterator[Database]:
    with open_database(mariadb_url) as opened:
        yield opened


@pytest.fixture
def proxy(mariadb_server: Any) -> Iterator[tuple[str, Engine]]:
    """A proxy's database, empty."""
    url = mariadb_server.create()
    engine = create_engine(make_url(url).set(drivername="mysql+mysqldb"))
    yield url, engine
    engine.dispose()
    mariadb_server.drop(url)


def alter(engine: Engine, page: str) -> None:
    """Make the stock tables and do to them what the page says, but for its users."""
    with engine.begin() as conn:
        stock.create_tables(conn, page)
        for statement in block(page, "ALTER TABLE missed_calls", {}).split(";"):
            if "ALTER" in statement:
                conn.exec_driver_sql(statement)


def insert(engine: Engine, table: str, row: dict[str, Any]) -> None:
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    with engine.begin() as conn:
        conn.exec_driver_sql("SET SESSION sql_mode = 'STRICT_ALL_TABLES'")
        conn.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def collected(database: Database, tmp_path: Path, page: str, url: str) -> list[Any]:
    """Return the CDRs of the rows, read by the page's own collector from the proxy's database, and charged."""
    shown = tomllib.loads(collector_of(page))["collectors"][0]["url"]
    lab = Lab(database, tmp_path, collector_of(page).replace(shown, url).replace("Europe/Berlin", "UTC"))
    lab.sell("prefix,destination,rate\n4915,Germany mobile,0.12\n")
    lab.tollbook("collect", "--once")
    lab.process(after_s=10 * 86_400)
    assert not lab.differences()
    found = lab.cdrs()
    lab.close()
    return found


def collector_of(page: str) -> str:
    return block(page, f'flavour = "{page}"\n', {})


def test_opensips_rows_that_the_stock_tables_lose_are_charged_as_the_page_sets_them_up(
    database: Database, tmp_path: Path, proxy: tuple[str, Engine]
) -> None:
    url, engine = proxy
    alter(engine, "opensips")
    insert(engine, "acc", ROW | OPENSIPS)
    bare = dict.fromkeys(EXTRAS)
    started = ROW | {"callid": "tx", "setuptime": 1_795_500_000, "created": "1970-01-01 00:00:00"}
    insert(engine, "acc", started)
    insert(engine, "acc", started | bare | {"method": "BYE", "time": "2026-11-24 07:01:30"})
    insert(engine, "missed_calls", ROW | {"callid": "nobody", "to_tag": None, "sip_code": "408"})
    found = {row.call_id: row for row in collected(database, tmp_path, "opensips", url)}
    assert (found[LONG].duration_ms, found[LONG].stop_cause) == (60_500, "complete")
    assert (found["tx"].duration_ms, found["tx"].stop_cause) == (90_000, "bye")
    assert (found["nobody"].disposition, found["nobody"].sip_code) == ("no_answer", 408)
    for row in found.values():
        assert (row.caller, row.called, row.source_ip) == ("alice", "+4915112345678", "192.0.2.10")
    for call_id in (LONG, "tx"):
        assert (found[call_id].rating, found[call_id].destination_ip) == ("rated", "198.51.100.7")


def test_kamailio_rows_are_charged_as_the_page_sets_them_up(
    database: Database, tmp_path: Path, proxy: tuple[str, Engine]
) -> None:
    url, engine = proxy
    alter(engine, "kamailio")
    insert(engine, "acc", ROW | KAMAILIO)
    insert(engine, "acc", ROW | dict.fromkeys(EXTRAS) | KAMAILIO | {"method": "BYE", "time_attr": 1_795_500_060})
    [row] = collected(database, tmp_path, "kamailio", url)
    assert (row.caller, row.called, row.source_ip, row.destination_ip) == (
        "alice", "+4915112345678", "192.0.2.10", "198.51.100.7",
    )  # fmt: skip
    assert (row.duration_ms, row.rating) == (60_000, "rated")


@pytest.mark.parametrize("page", ["opensips", "kamailio"])
def test_pages_tables_and_mends_name_the_same_columns(page: str) -> None:
    told = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    line = {"opensips": OPENSIPS_FIELDS, "kamailio": KAMAILIO_EXTRA}[page]
    assert line.removesuffix('")') in told
    assert COLUMNS in told
    assert COLUMNS in collector_of(page)
    mend = MENDS["nobody_identified"][f"{page}-sql"]
    assert line in mend
    assert COLUMNS in mend
    for statements in (block(page, "ALTER TABLE missed_calls", {}), mend):
        for table in ("acc", "missed_calls"):
            [added] = re.findall(rf"ALTER TABLE {table}\s([^;]*);", statements)
            assert set(EXTRAS) <= set(re.findall(r"ADD (\w+) ", added))
    assert set(EXTRAS) <= set(MADE)


def test_the_opensips_page_fills_every_column_as_the_printed_lines_do() -> None:
    told = (PAGES / "opensips.md").read_text(encoding="utf-8")
    for name, value in EXTRAS.items():
        assert f"$acc_extra({name}) = {value};" in told, name


def test_the_page_of_sql_accounting_names_every_column() -> None:
    told = (PAGES / "sql-accounting.md").read_text(encoding="utf-8")
    assert {name for name in EXTRAS if f"`{name}`" in told} == set(EXTRAS)
