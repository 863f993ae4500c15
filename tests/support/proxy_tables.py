"""The tables that proxies write to, as their own scripts make them, and rows of captured calls put into them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

ID = "id INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL"
OPENSIPS = f"""{ID},
    method CHAR(16) DEFAULT '' NOT NULL, from_tag CHAR(64) DEFAULT '' NOT NULL, to_tag CHAR(64) DEFAULT '' NOT NULL,
    callid CHAR(64) DEFAULT '' NOT NULL, sip_code CHAR(3) DEFAULT '' NOT NULL, sip_reason CHAR(32) DEFAULT '' NOT NULL,
    time DATETIME NOT NULL"""
DURATIONS = "duration INT(11) UNSIGNED DEFAULT 0 NOT NULL, ms_duration INT(11) UNSIGNED DEFAULT 0 NOT NULL"
SETUP = "setuptime INT(11) UNSIGNED DEFAULT 0 NOT NULL, created DATETIME DEFAULT NULL"
KAMAILIO = f"""{ID},
    method VARCHAR(16) DEFAULT '' NOT NULL, from_tag VARCHAR(128) DEFAULT '' NOT NULL,
    to_tag VARCHAR(128) DEFAULT '' NOT NULL, callid VARCHAR(255) DEFAULT '' NOT NULL,
    sip_code VARCHAR(3) DEFAULT '' NOT NULL, sip_reason VARCHAR(128) DEFAULT '' NOT NULL, time DATETIME NOT NULL"""
CDRS = f"""{ID}, start_time DATETIME DEFAULT '2000-01-01 00:00:00' NOT NULL,
    end_time DATETIME DEFAULT '2000-01-01 00:00:00' NOT NULL, duration FLOAT(10,3) DEFAULT 0 NOT NULL"""
RADACCT = """radacctid bigint(21) NOT NULL auto_increment PRIMARY KEY, acctsessionid varchar(64) NOT NULL default '',
    acctuniqueid varchar(32) NOT NULL default '', username varchar(64) NOT NULL default '',
    nasipaddress varchar(15) NOT NULL default '', acctstarttime datetime NULL, acctupdatetime datetime NULL,
    acctstoptime datetime NULL, acctsessiontime int(12) unsigned NULL, calledstationid varchar(50) NOT NULL default '',
    callingstationid varchar(50) NOT NULL default '', acctterminatecause varchar(32) NOT NULL default '',
    servicetype varchar(32) NULL, UNIQUE KEY (acctuniqueid)"""
TABLES = {
    "opensips": {"acc": f"{OPENSIPS}, {DURATIONS}, {SETUP}", "missed_calls": f"{OPENSIPS}, {SETUP}"},
    "kamailio": {"acc": KAMAILIO, "missed_calls": KAMAILIO, "acc_cdrs": CDRS},
    "radacct": {"radacct": RADACCT},
}
"""The proxies' own tables (OpenSIPS 3.x and Kamailio 5.6; FreeRADIUS 3.2)."""
EXTRA = "VARCHAR(255) NULL"
WHOLE = "BIGINT NULL"


def create_tables(conn: Connection, flavour: str, extras: Mapping[str, Sequence[str]] | None = None) -> None:
    """Make the stock tables of a proxy, with these columns added by its operator."""
    for table, columns in TABLES[flavour].items():
        more = "".join(
            f", `{name}` {WHOLE if name in ('time_attr', 'time_exten') else EXTRA}"
            for name in (extras or {}).get(table, ())
        )
        index = ", INDEX callid_idx (callid)" if "callid" in columns else ""
        conn.exec_driver_sql(f"CREATE TABLE {table} ({columns}{more}{index}) ENGINE=InnoDB")


def extras_of(flavour: str, files: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> dict[str, list[str]]:
    """Return the columns that captured rows have beyond the stock ones, by table."""
    found: dict[str, dict[str, None]] = {}
    for tables in files:
        for table, rows in tables.items():
            stock = TABLES[flavour][table]
            for row in rows:
                for name in row:
                    if f"{name} " not in f" {stock} ".replace("\n", " "):
                        found.setdefault(table, {})[name] = None
    return {table: list(names) for table, names in found.items()}


def load_rows(conn: Connection, table: str, rows: Sequence[Mapping[str, Any]], *, keep_ids: bool = False) -> None:
    """Insert captured rows in their order."""
    for row in sorted(rows, key=lambda row: row["id"]):
        kept = {name: value for name, value in row.items() if keep_ids or name != "id"}
        names = ", ".join(f"`{name}`" for name in kept)
        marks = ", ".join(["%s"] * len(kept))
        conn.exec_driver_sql(f"INSERT INTO `{table}` ({names}) VALUES ({marks})", tuple(kept.values()))


def read_sql(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of a scenario's sql.json."""
    return dict(json.loads(path.read_text("utf-8")))
