"""A connection to another program's database, to read its tables: values as they are stored, and never a write.

Text comes as the octets of the column, in no character set; on a server all values come as octets. Keeps no position.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from accounting.base.errors import TollbookError
from accounting.db.connect import CONNECT_TIMEOUT_S, NO_DRIVER
from accounting.db.url import parse_url, shown

READ_TIMEOUT_S = 120
BUSY_TIMEOUT_S = 5.0
SESSION = ("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
AS_STORED = "SET SESSION character_set_results = NULL"
DENIED = frozenset({1044, 1045, 1142, 1143, 1698})
"""MariaDB: access denied, to the server, a database, a table or a column."""
MISSING = frozenset({1049, 1054, 1146, 1356})
"""MariaDB: no such database, column, table; a view whose table is gone."""

Value = bytes | int | float | None


class ForeignAway(TollbookError):
    """The database cannot be reached or does not answer now: try again later."""


class ForeignRefused(TollbookError):
    """The database is there but does not let us read, or lacks what is to be read: an operator has to mend it."""


class TableState(NamedTuple):
    """What tells that a table was emptied or made again."""

    next_id: int | None  # its AUTO_INCREMENT counter; None where there is none
    made: str  # when it was made; '' where the database does not tell


class Foreign(Protocol):
    """An open connection; all errors are ForeignAway or ForeignRefused."""

    def columns(self, table: str) -> dict[str, int | None]:
        """Return the columns of a table that may be read, with their widths in characters; {} without such a table."""

    def state(self, table: str) -> TableState:
        """Return what tells a table from its successor of the same name."""

    def rows(self, statement: str) -> list[tuple[Value, ...]]:
        """Return what a SELECT gives."""

    def close(self) -> None: ...


def open_foreign(url: str) -> Foreign:
    """Return a new connection that can only read."""
    parsed = parse_url(url)
    return _Sqlite(Path(parsed.database or "")) if parsed.get_backend_name() == "sqlite" else _Mysql(parsed)


def quoted(name: str) -> str:
    """Return the name of a table or column as both databases take it."""
    assert "`" not in name, "a name from the settings or from the database itself"
    return f"`{name}`"


class _Sqlite:
    def __init__(self, path: Path) -> None:
        self._name = f"sqlite:///{path}"
        if not path.exists():
            raise ForeignAway(f"{self._name}: there is no such file")
        try:
            self._dbapi = sqlite3.connect(
                f"file:{str(path).replace('?', '%3f').replace('#', '%23')}?mode=ro",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._problem(error) from error
        self._dbapi.text_factory = bytes

    def columns(self, table: str) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for row in self.rows(f"PRAGMA table_info({quoted(table)})"):
            name, declared = _text(row[1]), _text(row[2])
            width = declared.rpartition("(")[2].rstrip(")") if "CHAR" in declared.upper() else ""
            found[name] = int(width) if width.isdigit() else None
        return found

    def state(self, table: str) -> TableState:
        if not self.rows("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
            return TableState(None, "")
        found = self.rows(f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'")
        return TableState(int(found[0][0] or 0) + 1 if found else None, "")

    def rows(self, statement: str) -> list[tuple[Value, ...]]:
        try:
            return self._dbapi.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def close(self) -> None:
        self._dbapi.close()

    def _problem(self, error: sqlite3.Error) -> TollbookError:
        words = f"{self._name}: {error}"
        return ForeignRefused(words) if "no such" in str(error) else ForeignAway(words)


class _Mysql:
    def __init__(self, url: URL) -> None:
        self._name = shown(url)
        try:
            dialect = create_engine(url).dialect
        except ModuleNotFoundError as error:
            raise ForeignRefused(NO_DRIVER) from error
        driver: Any = dialect.loaded_dbapi
        self._error = driver.Error
        arguments = dict(dialect.create_connect_args(url)[1])
        arguments |= {"conv": {}, "use_unicode": False, "connect_timeout": CONNECT_TIMEOUT_S}
        arguments |= {"read_timeout": READ_TIMEOUT_S, "autocommit": True, "multi_statements": False}
        try:
            self._dbapi = driver.connect(**arguments)
            for statement in SESSION:
                self._dbapi.query(statement)
        except self._error as error:
            raise self._problem(error) from error
        self._database = url.database or ""

    def columns(self, table: str) -> dict[str, int | None]:
        found = self._about(
            f"SELECT column_name, character_maximum_length FROM information_schema.columns WHERE {self._place(table)}"
            " ORDER BY ordinal_position"
        )
        return {_text(name): None if width is None else int(width) for name, width in found}

    def state(self, table: str) -> TableState:
        found = self._about(
            f"SELECT auto_increment, create_time FROM information_schema.tables WHERE {self._place(table)}"
        )
        if not found:
            raise ForeignRefused(f"{self._name}: there is no table {table}")
        next_id, made = found[0]
        return TableState(None if next_id is None else int(next_id), _text(made))

    def rows(self, statement: str) -> list[tuple[Value, ...]]:
        return self._query(AS_STORED, statement)

    def _about(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a statement about the schema gives: its text in UTF-8."""
        return self._query("SET SESSION character_set_results = utf8mb4", statement)

    def close(self) -> None:
        with suppress(self._error):  # it may be broken already
            self._dbapi.close()

    def _place(self, table: str) -> str:
        name = self._database.replace("\\", "\\\\").replace("'", "''")
        return f"table_schema = '{name}' AND table_name = '{table}'"

    def _query(self, *statements: str) -> list[tuple[Any, ...]]:
        cursor = self._dbapi.cursor()
        try:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())
        except self._error as error:
            raise self._problem(error) from error
        finally:
            cursor.close()

    def _problem(self, error: Exception) -> TollbookError:
        arguments: Sequence[Any] = error.args
        number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
        said = arguments[1] if len(arguments) > 1 else str(error)
        words = f"{self._name}: {' '.join(_text(said).split())} ({number})"
        if number in DENIED:
            return ForeignRefused(f"{words}; grant this user SELECT on the accounting tables")
        return ForeignRefused(words) if number in MISSING else ForeignAway(words)


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value or "")
