"""Which version of the schema a database has, and how it becomes the current one: two Alembic histories.

On SQLite each history has a file of its own, on MariaDB both share the database.
"""

from enum import StrEnum

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

HISTORIES = {"journal": "alembic_version_journal", "main": "alembic_version"}
"""Each history and the table that says how far it came."""


class SchemaState(StrEnum):
    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"


def history_state(conn: Connection, history: str) -> SchemaState:
    """Return where one history stands in a database."""
    context = MigrationContext.configure(conn, opts={"version_table": HISTORIES[history]})
    revisions = set(context.get_current_heads())
    if not revisions:
        return SchemaState.EMPTY
    scripts = ScriptDirectory.from_config(alembic_config(history))
    if revisions == set(scripts.get_heads()):
        return SchemaState.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
    return SchemaState.OLDER if revisions <= known else SchemaState.NEWER


def combine(states: list[SchemaState]) -> SchemaState:
    """Return the state of a database whose histories are in these states."""
    if SchemaState.NEWER in states:
        return SchemaState.NEWER
    return states[0] if len(set(states)) == 1 else SchemaState.OLDER


def upgrade_history(conn: Connection, history: str) -> None:
    """Run what is missing of one history in the caller's transaction."""
    config = alembic_config(history)
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def alembic_config(history: str) -> Config:
    """Return the configuration that finds a history wherever the package is installed."""
    config = Config()
    config.set_main_option("script_location", f"migrations:{history}")
    return config
