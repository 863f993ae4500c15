"""An opened database: its transactions and leases, the same on SQLite and MariaDB.

On SQLite the journal is a file of its own; no transaction writes both files.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from accounting.base.errors import TollbookError
from accounting.db.connect import MODE, mysql_engine, sqlite_engine
from accounting.db.lease import LeaseHeld, file_lease, server_lease
from accounting.db.schema import SchemaState, combine, history_state, tables_in_the_way, upgrade_history
from accounting.db.url import journal_path, parse_url, shown

__all__ = ["Database", "LeaseHeld", "SchemaState", "open_database", "schema_state", "upgrade_database"]

UPGRADE_WAIT_S = 60.0
TABLES_SHOWN_MAX = 3
REFUSALS = {
    SchemaState.EMPTY: "has no tables yet; run: tollbook db upgrade",
    SchemaState.OLDER: "has an older schema; stop Tollbook, back it up and run: tollbook db upgrade",
    SchemaState.NEWER: "has a newer schema than this Tollbook knows; install the newer Tollbook, if it is Tollbook's",
}


class Database:
    """The main database and the journal."""

    def __init__(self, url: URL, answer_s: int | None = None) -> None:
        self.url = url
        self.answer_s = answer_s
        self.dialect = url.get_backend_name()
        if self.dialect == "sqlite":
            path = Path(url.database or "")
            self.path: Path | None = path
            self.engine = sqlite_engine(path, answer_s)
            self.journal_engine = sqlite_engine(journal_path(path), answer_s)
        else:
            self.path = None
            self.engine = self.journal_engine = mysql_engine(url, answer_s)

    def __str__(self) -> str:
        return shown(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()

    def read(self) -> AbstractContextManager[Connection]:
        """Give a connection that sees one snapshot of the main database and cannot write."""
        return _transaction(self.engine, "read")

    def write(self) -> AbstractContextManager[Connection]:
        """Give a connection in a transaction: committed at the end, rolled back on an exception."""
        return _transaction(self.engine, "write")

    def journal_read(self) -> AbstractContextManager[Connection]:
        """Give a connection that sees one snapshot of the journal and cannot write."""
        return _transaction(self.journal_engine, "read")

    def journal_write(self) -> AbstractContextManager[Connection]:
        """Give a connection in a transaction on the journal."""
        return _transaction(self.journal_engine, "write")

    def lease(self, name: str, timeout_s: float = 0.0) -> AbstractContextManager[None]:
        """Hold a named lease, waiting up to timeout_s for it; LeaseHeld names who has it."""
        if self.path is not None:
            return file_lease(self.path, name, timeout_s)
        return server_lease(self.engine, name, timeout_s)

    def dispose(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()
        self.journal_engine.dispose()

    def schema_state(self) -> SchemaState:
        """Return how this database's schema compares with this program's."""
        if self.path is not None:
            _check_folder(self, self.path)
            if not self.path.exists():
                return SchemaState.EMPTY
        with self.read() as conn:
            main = history_state(conn, "main")
        if self.path is not None and not journal_path(self.path).exists():  # to open it would be to create it
            if main is SchemaState.EMPTY:
                return main
            raise TollbookError(
                f"database {self} is there, but its journal {journal_path(self.path)} is not; put that file back"
            )
        with self.journal_read() as conn:
            return combine([history_state(conn, "journal"), main])

    def refuse_journal(self) -> None:
        """Raise a TollbookError if the journal is not of this program's schema or the next, whatever the main one is.

        So a receiver goes on while the database is migrated. DBAPIError if it does not answer.
        """
        if self.path is not None:
            _check_folder(self, self.path)
            if not journal_path(self.path).exists():
                raise TollbookError(f"database {self} {REFUSALS[self.schema_state()]}")
        with self.journal_read() as conn:
            state = history_state(conn, "journal", next_too=True)
        if state is not SchemaState.CURRENT:
            raise TollbookError(f"database {self} {REFUSALS[state]}")

    def upgrade(self) -> SchemaState:
        """Bring the schema up to date, one process at a time; return the state found."""
        with self.lease("upgrade", UPGRADE_WAIT_S):
            found = self.schema_state()
            if found is SchemaState.NEWER:
                raise TollbookError(f"database {self} {REFUSALS[found]}")
            if found is not SchemaState.CURRENT:
                self._refuse_foreign_tables()
                with self.journal_write() as conn:
                    upgrade_history(conn, "journal")
                with self.write() as conn:
                    upgrade_history(conn, "main")
            return found

    def _refuse_foreign_tables(self) -> None:
        for history, path, engine in (
            ("main", self.path, self.engine),
            ("journal", self.path and journal_path(self.path), self.journal_engine),
        ):
            if path is not None and not path.exists():
                continue
            with _transaction(engine, "read") as conn:
                names = tables_in_the_way(conn, history)
            if names:
                shown_names = ", ".join(names[:TABLES_SHOWN_MAX])
                raise TollbookError(
                    f"{path or f'database {self}'} has tables without a schema version ({shown_names}): another"
                    " program's, or left by an upgrade that was cut off; give Tollbook an empty database"
                )


def open_database(url: str, *, check_schema: bool = True) -> Database:
    """Return the opened database; unreachable or of another schema version is a TollbookError of one line."""
    database = Database(parse_url(url))
    try:
        if check_schema:
            state = database.schema_state()
            if state is not SchemaState.CURRENT:
                raise TollbookError(f"database {database} {REFUSALS[state]}")
        else:
            _reach(database)
    except DBAPIError as error:
        database.dispose()
        raise TollbookError(f"database {database} cannot be opened: {driver_words(error)}") from error
    except TollbookError:
        database.dispose()
        raise
    return database


def schema_state(url: str) -> SchemaState:
    """Return how the schema of the database at this URL compares with this program's."""
    with open_database(url, check_schema=False) as database:
        return database.schema_state()


def upgrade_database(url: str) -> SchemaState:
    """Create or migrate the schema of the database at this URL; return the state found."""
    with open_database(url, check_schema=False) as database:
        return database.upgrade()


DISK_FULL_CODES = frozenset({1021, 1114})
"""MariaDB: disk full, table full."""
READ_ONLY = "this user needs the right to write the file and its folder"
ENGINE_ERROR = 1030
"""MariaDB: error of the storage engine, named by its number: 28 is no space left."""


def as_problem(error: DBAPIError) -> TollbookError:
    """Return a database error that nobody handled as one line for the operator."""
    arguments: tuple[Any, ...] = getattr(error.orig, "args", ())
    words = driver_words(error)
    code = arguments[0] if arguments else None
    if "disk is full" in words or code in DISK_FULL_CODES or (code == ENGINE_ERROR and "error 28" in words):
        return TollbookError(f"the database's disk is full; make room and run this again ({words})")
    return TollbookError(f"database error: {words}")


def driver_words(error: DBAPIError) -> str:
    """Return the driver's own words on one line; a MariaDB error's number stands behind them."""
    arguments: tuple[Any, ...] = getattr(error.orig, "args", ())
    if len(arguments) == 2 and isinstance(arguments[0], int):
        return " ".join(f"{arguments[1]} ({arguments[0]})".split())
    words = " ".join(str(error.orig).split())
    return f"{words}; {READ_ONLY}" if "readonly database" in words else words


@contextmanager
def _transaction(engine: Engine, mode: str) -> Iterator[Connection]:
    with engine.connect().execution_options(**{MODE: mode}) as conn, conn.begin():
        yield conn


def _check_folder(database: Database, path: Path) -> None:
    if not path.parent.is_dir():
        raise TollbookError(f"database {database} cannot be opened: there is no folder {path.parent}")


def _reach(database: Database) -> None:
    """Find out whether the database answers; a SQLite file that is not there yet is fine if its folder is."""
    if database.path is not None:
        _check_folder(database, database.path)
        if not database.path.exists():
            return
    with database.read() as conn:
        conn.exec_driver_sql("SELECT 1").close()
