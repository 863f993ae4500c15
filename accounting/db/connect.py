"""Engines whose connections behave alike: how a session is set up and how its transactions begin.

With the execution option `tollbook_mode` "read" a connection sees one snapshot and refuses to write; else it may write.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from accounting.base.errors import TollbookError

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
POOL_RECYCLE_S = 1800
WAL_BYTES_KEPT = 64 * 1024 * 1024
SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
MYSQL_SESSION = (
    "SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin",
    f"SET SESSION sql_mode = '{SQL_MODE}'",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
NO_DRIVER = "MariaDB needs the package mysqlclient, which is not installed; run: pip install 'tollbook[mysql]'"

MODE = "tollbook_mode"
BULK = "tollbook_bulk"
"""Execution option: the bytes to send in place of the statement's text (accounting.db.bulk)."""


def sqlite_engine(path: Path, answer_s: int | None = None) -> Engine:
    """Return an engine on one SQLite file: WAL, durable commits, transactions begun by us and not by the driver.

    answer_s: how long a lock of another process is waited for.
    """
    busy_s = BUSY_TIMEOUT_S if answer_s is None else answer_s

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)

    engine = create_engine(
        URL.create("sqlite", database=str(path)), creator=connect, hide_parameters=True, insertmanyvalues_page_size=500
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def mysql_engine(url: URL, answer_s: int | None = None) -> Engine:
    """Return an engine on a MariaDB server: strict, UTC, utf8mb4, READ COMMITTED.

    answer_s: a server that takes longer to connect or to answer is given up, with the driver's error.
    """
    limits = {"connect_timeout": CONNECT_TIMEOUT_S}
    if answer_s is not None:
        limits = {"connect_timeout": answer_s, "read_timeout": answer_s, "write_timeout": answer_s}
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_recycle=POOL_RECYCLE_S,
            connect_args={"multi_statements": False, **limits},
        )
    except ModuleNotFoundError as error:
        raise TollbookError(NO_DRIVER) from error
    event.listen(engine, "connect", _set_up_mysql)
    event.listen(engine, "begin", _begin_mysql)
    event.listen(engine, "do_execute_no_params", _execute_bulk)
    return engine


def _set_up_sqlite(dbapi: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    if dbapi.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        dbapi.execute("PRAGMA journal_mode=WAL")
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        f"journal_size_limit={WAL_BYTES_KEPT}",
    ):
        dbapi.execute(f"PRAGMA {pragma}")


def _begin_sqlite(conn: Connection) -> None:
    if conn.get_execution_options().get(MODE) == "read":
        conn.exec_driver_sql("PRAGMA query_only=1")
        conn.exec_driver_sql("BEGIN")
        conn.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").close()  # the snapshot is taken by the first read
    else:
        conn.exec_driver_sql("PRAGMA query_only=0")
        conn.exec_driver_sql("BEGIN IMMEDIATE")


def _set_up_mysql(dbapi: Any, record: ConnectionPoolEntry) -> None:  # MySQLdb ships no types
    cursor = dbapi.cursor()
    for statement in MYSQL_SESSION:
        cursor.execute(statement)
    cursor.execute("SELECT @@max_allowed_packet")
    record.info["max_allowed_packet"] = int(cursor.fetchone()[0])
    cursor.close()


def _begin_mysql(conn: Connection) -> None:
    if conn.get_execution_options().get(MODE) == "read":
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def _execute_bulk(cursor: Any, _statement: str, context: Any) -> bool | None:
    """Send a statement of bytes through SQLAlchemy, so that its errors are SQLAlchemy's."""
    statement = context.execution_options.get(BULK)
    if statement is None:
        return None
    cursor.execute(statement)
    return True
