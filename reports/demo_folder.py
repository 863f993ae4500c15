"""The folder that the demo leaves behind: its settings and decks, and what of an earlier run may be replaced.

It removes only what a demo made, as the marker file in the folder says; a folder without one is left alone.
"""

import fcntl
import json
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from accounting.base.errors import TollbookError
from accounting.sample import PROXY

MARKER = ".made-by-tollbook-demo"
CONFIG = "tollbook.toml"
SECRET = "a-secret-shared-with-the-proxy"  # noqa: S105 - of the demo
DECKS = ("retail.csv", "business.csv", "northsea.csv", "transatlantic.csv", "satellite.csv")
OURS = (CONFIG, *DECKS, "tollbook.db*", "tollbook-journal.db*", "serve.log", "cdrs.csv", "charges.csv")
"""What every run makes; the marker lists the rest, whose names depend on the day."""

SETTINGS = """\
# Settings of the demo. Every setting: docs/reference/settings.md

[database]
url = "sqlite:///tollbook.db"

[receiver]
listen = ["127.0.0.1:{port}"]

[worker]
interval_s = 1                       # 5 if left out; here something shall be seen to happen

[reports]
out = "reports"
timezone = "UTC"

[[clients]]
name = "proxy-1"
address = "127.0.0.0/8"              # where its requests come from
secret = "{secret}"
dialect = "opensips"
own_addresses = ["{proxy}"]         # the proxy's own: a call that comes from there was forwarded
country = "DE"                       # of numbers like 030...
"""


@contextmanager
def demo_folder(folder: Path) -> Iterator[None]:
    """Hold the folder for this run, emptied of an earlier one's files; in the end list in the marker what was made.

    TollbookError if the folder is somebody else's or in use.
    """
    marker = folder / MARKER
    if folder.exists() and not marker.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TollbookError(f"{folder} is there and was not made by a demo; rename it, or choose another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    with marker.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TollbookError(f"another demo is using {folder}") from None
        _refuse_if_served(folder)
        _remove(folder, _listed(marker))
        foreign = set(_files(folder))
        marker.write_text(json.dumps([]), encoding="utf-8")
        try:
            yield
        finally:
            made = sorted(str(path.relative_to(folder)) for path in _files(folder) if path not in foreign)
            marker.write_text(json.dumps(made, indent=1), encoding="utf-8")


def write_inputs(folder: Path, port: int) -> None:
    """Write settings and rate decks."""
    (folder / CONFIG).write_text(SETTINGS.format(port=port, secret=SECRET, proxy=PROXY), encoding="utf-8")
    for name in DECKS:
        (folder / name).write_bytes((files("reports.demo_data") / name).read_bytes())


def free_port() -> int:
    """Return a UDP port of 127.0.0.1 that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _refuse_if_served(folder: Path) -> None:
    """Refuse to take the database away from a `tollbook serve` that still runs on it."""
    with suppress(OSError, tomllib.TOMLDecodeError, KeyError, IndexError, ValueError):
        [listen, *_] = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))["receiver"]["listen"]
        host, _, port = listen.rpartition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, int(port)))
            except OSError:
                raise TollbookError(
                    f"something listens at {listen}, as {folder / CONFIG} says: stop that tollbook serve first"
                ) from None


def _listed(marker: Path) -> list[str]:
    try:
        listed = json.loads(marker.read_text(encoding="utf-8") or "[]")
    except ValueError:
        return []
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _remove(folder: Path, listed: list[str]) -> None:
    inside = folder.resolve()
    named = [folder / name for name in listed]
    for path in {path for pattern in OURS for path in folder.glob(pattern)} | set(named):
        if path.resolve().is_relative_to(inside) and (path.is_file() or path.is_symlink()):
            path.unlink()
    for parent in sorted({up for path in named for up in path.parents if folder in up.parents}, reverse=True):
        with suppress(OSError):  # something of somebody else's is in it
            parent.rmdir()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir() and path.name != MARKER)
