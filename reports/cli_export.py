"""Commands that write CSV files of CDRs and charges."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from sqlalchemy import Connection

from accounting.base.cli import ConfigOption
from accounting.base.clock import parse_instant
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.db.engine import open_database
from reports.files import STDOUT, replacing

app = typer.Typer(no_args_is_help=True, help="CSV files of CDRs and charges.")

OutOption = Annotated[
    Path, typer.Option("--out", metavar="FILE.csv", help="The file; it is replaced when all is written. - is stdout.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="ISO", help="Calls that ended then or later.", show_default=False)
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="ISO", help="Calls that ended before.", show_default=False)
]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Of this account only.", show_default=False)
]
ChangedOption = Annotated[
    str | None,
    typer.Option(
        "--changed-since", metavar="ISO", help="Only what was made or corrected then or later.", show_default=False
    ),
]


@app.command()
def cdrs(
    out: OutOption,
    since: FromOption = None,
    until: ToOption = None,
    account: AccountOption = None,
    changed_since: ChangedOption = None,
    config: ConfigOption = None,
) -> None:
    """Write one row for each call that ended, its latest revision; docs/reference/csv.md lists the columns.

    Example: tollbook export cdrs --out november.csv --from 2026-11-01T00:00:00+01:00 --to 2026-12-01T00:00:00+01:00
    """
    from reports.export import Choice, export_cdrs  # late: pandas and pyarrow take half a second

    choice = Choice(*_period(since, until), _instant(changed_since), account)
    _write(config, out, "CDRs", lambda conn, file: export_cdrs(conn, choice, file))


@app.command()
def charges(
    out: OutOption,
    since: FromOption = None,
    until: ToOption = None,
    account: AccountOption = None,
    changed_since: ChangedOption = None,
    config: ConfigOption = None,
) -> None:
    """Write one row for each charge and each reversal, in the order of their calls' ends.

    Example: tollbook export charges --out charges.csv --account acme --changed-since 2026-11-24T00:00:00Z
    """
    from reports.export import Choice, export_charges

    choice = Choice(*_period(since, until), _instant(changed_since), account)
    _write(config, out, "charges", lambda conn, file: export_charges(conn, choice, file))


def _period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    start, end = _instant(since), _instant(until)
    if start is not None and end is not None and end < start:
        raise TollbookError(f"--to {until} is before --from {since}; exchange them")
    return start, end


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)


def _write(config: Path | None, out: Path, what: str, export: Callable[[Connection, BinaryIO], int]) -> None:
    settings = load_settings(config)
    with open_database(settings.database.url) as database, replacing(out) as file, database.read() as conn:
        count = export(conn, file)
    if out != STDOUT:
        sys.stderr.write(f"{count} {what} written to {out}\n")
