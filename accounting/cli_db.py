"""`tollbook db`: the schema of the database."""

import typer

from accounting.base.cli import ConfigOption
from accounting.base.config import load_settings
from accounting.db.engine import SchemaState, open_database

app = typer.Typer(no_args_is_help=True, help="Create and migrate the database.")

DONE = {
    SchemaState.EMPTY: "created the schema",
    SchemaState.OLDER: "migrated the schema",
    SchemaState.CURRENT: "the schema is current",
}


@app.callback()
def db() -> None:
    """Create and migrate the database."""


@app.command()
def upgrade(config: ConfigOption = None) -> None:
    """Create the schema, or migrate it to this version. Safe to repeat.

    Example: tollbook db upgrade --config /etc/tollbook.toml
    """
    settings = load_settings(config)
    with open_database(settings.database.url, check_schema=False) as database:
        found = database.upgrade()
        typer.echo(f"{database}: {DONE[found]}")
