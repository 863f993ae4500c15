"""`tollbook db`: the schema of the database."""

from enum import StrEnum
from typing import Annotated

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


class Flavour(StrEnum):
    """A proxy that writes SQL accounting."""

    OPENSIPS = "opensips"
    KAMAILIO = "kamailio"


@app.command()
def accounting_tables(
    flavour: Annotated[Flavour, typer.Option("--flavour", help="The proxy that is to write them.")],
    config: ConfigOption = None,
) -> None:
    """Make acc and missed_calls in Tollbook's own MariaDB, wide enough to lose no row, for a proxy to write into.

    Prints the grants for the proxy's user and the lines for its configuration and Tollbook's; see
    docs/howto/sql-accounting.md. Safe to repeat.

    Example: tollbook db accounting-tables --flavour opensips --config /etc/tollbook/tollbook.toml
    """
    from accounting.db.proxy_tables import make_proxy_tables
    from accounting.proxy_lines import lines_for

    settings = load_settings(config)
    with open_database(settings.database.url) as database:
        made = make_proxy_tables(database, flavour)
        for words, tables in (("created", made.new), ("already there:", made.kept)):
            if tables:
                typer.echo(f"{database}: {words} {', '.join(tables)}", err=True)
        url = database.url
        port = f":{url.port}" if url.port else ""
        typer.echo(lines_for(flavour, str(url.database), f"{url.host or 'localhost'}{port}"))
