"""Which version of the schema a database has, and how it becomes the current one: two Alembic histories.

On SQLite each history has a file of its own, on MariaDB both share the database.
"""

from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

if TYPE_CHECKING:
    from alembic.config import Config  # Alembic is imported where it is used: most commands need only HEADS

HISTORIES = {"journal": "alembic_version_journal", "main": "alembic_version"}
"""Each history and the table that says how far it came."""
HEADS = {"journal": "0001", "main": "0001"}
"""The newest revision of each, counted from 0001; a test holds them against migrations/."""


class SchemaState(StrEnum):
    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"


def history_state(conn: Connection, history: str, *, next_too: bool = False) -> SchemaState:
    """Return where one history stands in a database; next_too: the revision after ours is as good as ours."""
    if not inspect(conn).has_table(HISTORIES[history]):
        return SchemaState.EMPTY
    revisions = set(conn.exec_driver_sql(f"SELECT version_num FROM {HISTORIES[history]}").scalars())
    if not revisions:
        return SchemaState.EMPTY
    ours = int(HEADS[history])
    if revisions == {f"{ours:04}"} or (next_too and revisions == {f"{ours + 1:04}"}):
        return SchemaState.CURRENT
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(alembic_config(history))
    known = {script.revision for script in scripts.walk_revisions()}
    return SchemaState.OLDER if revisions <= known else SchemaState.NEWER


def combine(states: list[SchemaState]) -> SchemaState:
    """Return the state of a database whose histories are in these states."""
    if SchemaState.NEWER in states:
        return SchemaState.NEWER
    return states[0] if len(set(states)) == 1 else SchemaState.OLDER


def tables_in_the_way(conn: Connection, history: str) -> list[str]:
    """Return the tables that no version speaks for: of another program, or of an upgrade that was cut off.

    A SQLite file must be ours alone; on a server only tables of our names matter.
    """
    if history_state(conn, history) is not SchemaState.EMPTY:
        return []
    found = set(inspect(conn).get_table_names()) - set(HISTORIES.values())
    if conn.dialect.name != "sqlite":
        found &= import_module(f"migrations.{history}").metadata.tables.keys()
    return sorted(found)


def upgrade_history(conn: Connection, history: str) -> None:
    """Run what is missing of one history in the caller's transaction."""
    from alembic import command

    config = alembic_config(history)
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def alembic_config(history: str) -> "Config":
    """Return the configuration that finds a history wherever the package is installed."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", f"migrations:{history}")
    return config
