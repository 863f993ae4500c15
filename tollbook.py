"""The front door: the `tollbook` command, which puts the three stages together."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

import accounting.cli
import cdr.cli
import reports.cli
from accounting.base.cli import ConfigOption, give_up_output, main_error, prepare_output
from accounting.base.clock import now_us
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import configure, get_logger
from accounting.base.priority import give_way
from accounting.base.watch import end_with_supervisor
from accounting.db.engine import SchemaState, as_problem, open_database
from accounting.db.failures import is_away
from accounting.processes import command, receive_children, supervise
from accounting.supervisor import Child
from cdr.lease import LEASE, LEASE_TRY_S

NIGHTLY_INTERVAL_S = 60

log = get_logger("serve")

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for stage in (accounting.cli.app, cdr.cli.app, reports.cli.app):
    app.add_typer(stage)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # it takes longer than all that most commands do

        typer.echo(f"tollbook {version('tollbook')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Accounting and CDRs for VoIP providers."""


@app.command()
def schedule(config: ConfigOption = None) -> None:
    """Run the worker: process every few seconds, close what is due, make each nightly report that is missing.

    Example: tollbook schedule --config /etc/tollbook/tollbook.toml
    """
    # late: what other commands need not load
    from cdr.pipeline import Pipeline
    from cdr.scheduler import Job, run_jobs
    from reports.nightly import nightly_job

    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    give_way()
    with open_database(settings.database.url) as database:
        pipeline = Pipeline(database, settings)

        def process(stop: Callable[[], bool]) -> None:
            with database.lease(LEASE, LEASE_TRY_S):
                pipeline.run(now_us, stop=stop)

        jobs = (
            Job("process", settings.worker.interval_s, process),
            Job("nightly", NIGHTLY_INTERVAL_S, nightly_job(database, settings)),
        )
        run_jobs(jobs)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run receiver, collectors and worker as child processes, start again what dies; make an empty database's tables.

    Example: tollbook serve --config /etc/tollbook/tollbook.toml
    """
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    try:
        _prepare(settings.database.url)
    except TollbookError as error:
        if not is_away(error.__cause__):
            raise
        log.warning("starting though the database is away", cause=str(error))
    parts = (("collect", settings.collectors), ("media", settings.media), ("schedule", True))
    others = [Child(name, command(name, settings), essential=False) for name, wanted in parts if wanted]
    with receive_children(settings) as receivers:
        raise typer.Exit(supervise([*receivers, *others], settings))


def _prepare(url: str) -> None:
    """Make an empty database's tables; TollbookError if it cannot be used as it is."""
    with open_database(url, check_schema=False) as database:
        if database.schema_state() is SchemaState.EMPTY:
            database.upgrade()
    open_database(url).dispose()


def main() -> None:
    """Run the command line; a problem an operator can mend is one line on stderr and exit code 1."""
    prepare_output()
    end_with_supervisor()
    try:
        app(standalone_mode=True)
    except (TollbookError, KeyboardInterrupt) as error:
        sys.exit(main_error(error))
    except DBAPIError as error:
        sys.exit(main_error(as_problem(error)))
    except OSError as error:
        give_up_output()
        where = error.filename or "input or output"
        sys.exit(main_error(TollbookError(f"{where}: {error.strerror or error}")))


if __name__ == "__main__":
    main()
