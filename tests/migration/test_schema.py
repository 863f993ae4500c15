"""The migrations make what the metadata says, on both databases, and a schema of another version is refused."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect

from accounting.base.errors import TollbookError
from accounting.db.engine import Database, open_database, schema_state, upgrade_database
from accounting.db.schema import HEADS, HISTORIES
from accounting.db.tables import journal_metadata
from cdr.store.tables import main_metadata

ROOT = Path(__file__).parent.parent.parent
METADATA = {"journal": journal_metadata, "main": main_metadata}
TABLES = {name for metadata in METADATA.values() for name in metadata.tables}
NOT_A_COLUMN = re.compile(r"(CONSTRAINT|PRIMARY|UNIQUE|FOREIGN|CHECK|KEY|CREATE|\))\b|\)")
UPGRADE = "import sys; from accounting.db.engine import upgrade_database; print(upgrade_database(sys.argv[1]))"


def texts(conn: Connection) -> dict[str, tuple[list[str], list[str]]]:
    """Return each table's and index's own text as the database keeps it: columns in order, and all else sorted."""
    if conn.dialect.name == "sqlite":
        rows = conn.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    else:
        names = conn.exec_driver_sql("SHOW TABLES").scalars().all()
        rows = [conn.exec_driver_sql(f"SHOW CREATE TABLE {name}").one() for name in names]
    return {name: parts(sql) for name, sql in rows if not name.startswith(("alembic_", "sqlite_"))}


def parts(sql: str) -> tuple[list[str], list[str]]:
    """Return (lines of columns, sorted other lines): Alembic and create_all order constraints differently."""
    lines = [line.strip(" \t,") for line in sql.splitlines()]
    columns = [line for line in lines if line and not NOT_A_COLUMN.match(line)]
    return columns, sorted(line for line in lines if line and line not in columns)


def all_texts(database: Database) -> dict[str, tuple[list[str], list[str]]]:
    with database.journal_read() as conn, database.read() as main:
        return texts(conn) | texts(main)


@pytest.fixture
def empty_twin(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database of the same kind as `database`."""
    sqlite = database.dialect == "sqlite"
    url = f"sqlite:///{tmp_path}/twin.db" if sqlite else request.getfixturevalue("empty_mariadb_url")
    with open_database(url, check_schema=False) as opened:
        yield opened


def test_migrations_make_what_the_metadata_makes(database: Database, empty_twin: Database) -> None:
    with empty_twin.journal_write() as conn:
        journal_metadata.create_all(conn)
    with empty_twin.write() as conn:
        main_metadata.create_all(conn)
    migrated = all_texts(database)
    assert set(migrated) >= TABLES
    assert migrated == all_texts(empty_twin)


@pytest.mark.parametrize("history", HISTORIES)
def test_alembic_sees_no_difference(database: Database, history: str) -> None:
    metadata: MetaData = METADATA[history]
    with database.journal_read() if history == "journal" else database.read() as conn:
        known = set(inspect(conn).get_table_names())
        assert known <= TABLES | set(HISTORIES.values())
        context = MigrationContext.configure(
            conn,
            opts={
                "version_table": HISTORIES[history],
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_upgrade_twice_changes_nothing(empty_database_url: str) -> None:
    assert schema_state(empty_database_url) == "empty"
    assert upgrade_database(empty_database_url) == "empty"
    with open_database(empty_database_url) as database:
        before = all_texts(database)
    assert upgrade_database(empty_database_url) == "current"
    with open_database(empty_database_url) as database:
        assert all_texts(database) == before


def test_upgrades_of_two_processes_at_once_are_safe(empty_database_url: str) -> None:
    command = [sys.executable, "-c", UPGRADE, empty_database_url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(process.communicate()[0] for process in running)
    assert [process.returncode for process in running] == [0, 0, 0]
    assert said == ["current\n", "current\n", "empty\n"]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ("UPDATE {} SET version_num = '9999'", "newer", "newer schema"),
        ("DELETE FROM {}", "older", "tollbook db upgrade"),
    ],
)
def test_another_version_of_the_schema_is_refused(
    database_url: str, history: str, change: str, state: str, words: str
) -> None:
    with (
        open_database(database_url) as database,
        database.journal_write() if history == "journal" else database.write() as conn,
    ):
        conn.exec_driver_sql(change.format(HISTORIES[history]))
    assert schema_state(database_url) == state
    with pytest.raises(TollbookError, match=words) as caught:
        open_database(database_url)
    assert "\n" not in str(caught.value)
    if state == "newer":
        with pytest.raises(TollbookError, match="newer schema"):
            upgrade_database(database_url)


def test_an_empty_database_is_refused_and_not_created(empty_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(TollbookError, match="tollbook db upgrade"):
        open_database(empty_database_url)
    assert not list(tmp_path.glob("empty*"))


@pytest.mark.parametrize("history", HISTORIES)
def test_developers_find_the_histories_by_alembic_ini(history: str) -> None:
    scripts = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini"), ini_section=history))
    assert scripts.get_heads() == [HEADS[history]]


def test_the_histories_are_found_from_any_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UPGRADE, "sqlite:///here.db"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "empty\n"
    assert (tmp_path / "here.db").exists()
    assert (tmp_path / "here-journal.db").exists()
