"""`tollbook spool`: what receivers keep on this machine while the database is away."""

from pathlib import Path
from typing import Any

import typer

from accounting.base.cli import ConfigOption, JsonOption, as_json, print_table
from accounting.base.clock import from_us, iso_ms
from accounting.base.config import load_settings
from accounting.db.spool_file import Depth, look_into

app = typer.Typer(no_args_is_help=True, help="Requests that wait on this machine for the database.")


@app.callback()
def spool() -> None:
    """Requests that wait on this machine for the database."""


@app.command()
def status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the spools of [spool] directory and what waits in them; changes nothing.

    Example: tollbook spool status --json
    """
    folder = load_settings(config).spool.directory
    rows = [_row(path, found) for path, found in look_into(folder)]
    if json:
        as_json(rows)
    elif rows:
        print_table(tuple(rows[0]), rows)
    else:
        typer.echo(f"{folder}: no spool; nothing waits")


def _row(path: Path, found: Depth | str) -> dict[str, Any]:
    depth = found if isinstance(found, Depth) else Depth(0, 0, 0, None)
    return {
        "file": str(path),
        "requests": depth.rows + depth.doubtful,
        "bytes": depth.bytes,
        "oldest_at": iso_ms(from_us(depth.oldest_us)) if depth.oldest_us is not None else "",
        "problem": found if isinstance(found, str) else "",
    }
