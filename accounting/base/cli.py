"""What all commands share: options, printing, and how a problem becomes one line and an exit code."""

import getpass
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from accounting.base.errors import TollbookError
from accounting.base.log import get_logger, is_json

EXIT_PROBLEM = 1
EXIT_INTERRUPTED = 130
CELL_CHARS_MIN = 8
"""So wide a column of a table stays on a narrow terminal."""
TABLE_CHARS_MAX = 100_000

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        readable=False,  # that it cannot be read is told with the other problems of settings
        help="Settings; default $TOLLBOOK_CONFIG, else ./tollbook.toml, else built-in ones.",
        show_default=False,
    ),
]
ID_MAX = 2**63 - 1
"""What a database id can be; typer refuses more as wrong usage."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def as_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not is_unicode, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table on stdout: a terminal gets long cells folded, a pipe or file whole lines; nothing is cut."""
    from rich.console import Console  # late: most commands print no table
    from rich.table import Table

    table = Table()
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0, min_width=min(len(column), CELL_CHARS_MIN))
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    console = Console(markup=False, highlight=False)
    needed = console.measure(table, options=console.options.update(max_width=TABLE_CHARS_MAX))
    console.width = max(console.width, needed.minimum if console.is_terminal else needed.maximum)
    console.print(table, crop=False)


def prepare_output() -> None:
    """Let text that the terminal's encoding lacks come out escaped instead of stopping a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Let what stdout still holds go nowhere, for it could not be written and the interpreter would try again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main_error(error: BaseException) -> int:
    """Print a problem as `tollbook: ...` on stderr, or as the log's JSON, and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("tollbook: interrupted\n")
        return EXIT_INTERRUPTED
    lines = str(error).splitlines() if isinstance(error, TollbookError) else [str(error)]
    for line in lines or [type(error).__name__]:
        if is_json():
            get_logger("main").critical(line)
        else:
            sys.stderr.write(f"tollbook: {line}\n")
    return EXIT_PROBLEM


def actor_name() -> str:
    """Return who is at the keyboard, for the records: the login name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return f"uid {os.getuid()}"
