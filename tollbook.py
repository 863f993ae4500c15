"""The front door: the `tollbook` command, which puts the three stages together."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

import accounting.cli
import cdr.cli
import reports.cli
from accounting.base.cli import main_error
from accounting.base.errors import TollbookError
from accounting.db.engine import as_problem

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for stage in (accounting.cli.app, cdr.cli.app, reports.cli.app):
    app.add_typer(stage)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tollbook {version('tollbook')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Accounting and CDRs for VoIP providers."""


def main() -> None:
    """Run the command line; a problem an operator can mend is one line on stderr and exit code 1."""
    try:
        app(standalone_mode=True)
    except (TollbookError, KeyboardInterrupt) as error:
        sys.exit(main_error(error))
    except DBAPIError as error:
        sys.exit(main_error(as_problem(error)))


if __name__ == "__main__":
    main()
