"""The tables that a SIP proxy writes its accounting into, in Tollbook's own MariaDB: wide enough to lose no row.

The proxies' own scripts make columns that are too narrow or may not be NULL, and a row that does not fit is lost
without a trace. Nothing here reads or writes a row; Tollbook reads the tables by a collector like any others.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from accounting.base.errors import TollbookError
from accounting.db.engine import Database

TEXT = "VARBINARY(1024) NULL"  # octets as they came: text that is not in the table's character set would lose the row
TAG = "VARBINARY(512) NULL"
CODE = "VARBINARY(32) NULL"
NUMBER = "BIGINT NULL"  # OpenSIPS writes unix times into durations, and wraps below zero
LOCAL = "DATETIME NULL"

CORE = {
    "id": "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT", "method": CODE, "from_tag": TAG, "to_tag": TAG, "callid": TEXT,
    "sip_code": CODE, "sip_reason": TEXT, "time": LOCAL,
}  # fmt: skip
EXTRAS = (
    "src_user", "src_domain", "src_ip", "dst_ouser", "dst_user", "dst_domain",  # as Kamailio's default script has them
    "from_uri", "dialled", "sent", "auth_user", "divert_reason",  # with src_ip those of accounting/proxy_lines.py
)  # fmt: skip
DURATIONS = {"duration": NUMBER, "ms_duration": NUMBER}
SETUP = {"setuptime": NUMBER, "created": LOCAL}
UTC = {"time_attr": NUMBER, "time_exten": NUMBER}  # Kamailio, time_mode = 1
BESIDE = dict.fromkeys(EXTRAS, TEXT)
TABLES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "opensips": {"acc": {**CORE, **DURATIONS, **SETUP, **BESIDE}, "missed_calls": {**CORE, **SETUP, **BESIDE}},
    "kamailio": {"acc": {**CORE, **UTC, **BESIDE}, "missed_calls": {**CORE, **UTC, **BESIDE}},
}
VERSIONS = {"opensips": {"acc": 7, "missed_calls": 5}}
"""What the table `version` must say, where the proxy asks it before it starts."""
VERSION_TABLE = """CREATE TABLE IF NOT EXISTS version (
    table_name CHAR(32) NOT NULL, table_version INT UNSIGNED NOT NULL DEFAULT 0, UNIQUE KEY t_name_idx (table_name)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii"""


class Made(NamedTuple):
    """What there is now: the tables that were made, and those that were there."""

    new: tuple[str, ...]
    kept: tuple[str, ...]


def make_proxy_tables(database: Database, flavour: str) -> Made:
    """Make the tables of a proxy where they are not there yet; TollbookError if what is there would lose rows."""
    if database.dialect != "mysql":
        raise TollbookError(
            f"database {database} is SQLite, and proxies write to a server; the tables need MariaDB, see"
            " docs/howto/mariadb.md. To read a table that your proxy writes already, add a [[collectors]]"
        )
    new: list[str] = []
    kept: list[str] = []
    with database.write() as conn:
        found = {table: _widths(conn, table) for table in TABLES[flavour]}
        mistakes = [words for table, there in found.items() for words in _mistakes(flavour, table, there)]
        if mistakes:
            raise TollbookError(
                f"database {database} has tables of other columns: {'; '.join(mistakes)}. Alter or rename them;"
                " each proxy flavour needs a database of its own"
            )
        for table, there in found.items():
            (kept if there else new).append(table)
            conn.exec_driver_sql(_create(table, TABLES[flavour][table]))
        if flavour in VERSIONS:
            conn.exec_driver_sql(VERSION_TABLE)
            for table, version in VERSIONS[flavour].items():
                conn.exec_driver_sql(
                    "REPLACE INTO version (table_name, table_version) VALUES (%s, %s)", (table, version)
                )
    return Made(tuple(new), tuple(kept))


def _create(table: str, columns: Mapping[str, str]) -> str:
    parts = [f"`{name}` {kind}" for name, kind in columns.items()]
    parts += ["PRIMARY KEY (id)", "KEY callid_idx (callid(64))"]
    return f"CREATE TABLE IF NOT EXISTS `{table}` (\n    {', '.join(parts)}\n) ENGINE=InnoDB"


def _widths(conn: Connection, table: str) -> dict[str, tuple[int | None, bool]]:
    """Return width and nullability of each column of a table, {} if it is not there."""
    found = conn.exec_driver_sql(
        "SELECT column_name, character_octet_length, is_nullable FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = %s",
        (table,),
    )
    return {name.lower(): (width, nullable == "YES") for name, width, nullable in found}


def _mistakes(flavour: str, table: str, there: Mapping[str, tuple[int | None, bool]]) -> Iterator[str]:
    """Tell what an existing table lacks; nothing of a table that is not there."""
    if not there:
        return
    for name, kind in TABLES[flavour][table].items():
        if name not in there:
            yield f"{table}.{name} is missing"
            continue
        width, is_nullable = there[name]
        if "VARBINARY" in kind and width is not None and width < int(kind.split("(")[1].split(")")[0]):
            yield f"{table}.{name} is not {kind}"
        elif not is_nullable and name != "id":
            yield f"{table}.{name} may not be NULL"
