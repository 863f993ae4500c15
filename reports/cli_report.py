"""Commands that make reports."""

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from accounting.base.cli import ConfigOption
from accounting.base.clock import now
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.db.engine import open_database
from reports.days import day_of
from reports.nightly import make_report

app = typer.Typer(no_args_is_help=True, help="Reports for people.")


@app.callback()
def reports() -> None:
    """Reports for people."""


@app.command()
def nightly(
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the day's folder goes; default: [reports] out.", show_default=False),
    ] = None,
    day: Annotated[
        str | None,
        typer.Option(
            "--date",
            metavar="YYYY-MM-DD",
            help="The day; default: yesterday in [reports] timezone.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a billing day's report: DIR/YYYY-MM-DD/index.html and CSV files; made again, it replaces the folder.

    Example: tollbook report nightly --date 2026-11-23 --out /var/www/reports
    """
    settings = load_settings(config)
    at = now()
    wanted = day_of(at, settings.reports.timezone) - timedelta(days=1) if day is None else _date(day)
    with open_database(settings.database.url) as database:
        page, missing = make_report(database, settings, wanted, out or settings.reports.out, at)
    for what in missing:
        sys.stderr.write(f"preliminary: {what}\n")
    sys.stdout.write(f"{page}\n")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise TollbookError(f"--date {text!r} is not a day; write it like 2026-11-23") from None
