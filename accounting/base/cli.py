"""What all commands share: options, printing, and how a problem becomes one line and an exit code."""

import getpass
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from accounting.base.errors import TollbookError

EXIT_PROBLEM = 1
EXIT_INTERRUPTED = 130

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings; default $TOLLBOOK_CONFIG, else ./tollbook.toml, else built-in ones.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def as_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def main_error(error: BaseException) -> int:
    """Print a problem as `tollbook: ...` on stderr and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("tollbook: interrupted\n")
        return EXIT_INTERRUPTED
    lines = str(error).splitlines() if isinstance(error, TollbookError) else [str(error)]
    for line in lines or [type(error).__name__]:
        sys.stderr.write(f"tollbook: {line}\n")
    return EXIT_PROBLEM


def actor_name() -> str:
    """Return who is at the keyboard, for the records: the login name."""
    return getpass.getuser()
