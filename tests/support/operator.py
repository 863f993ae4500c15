"""A Tollbook as an operator runs it: its own settings and SQLite database, its commands as processes."""

import csv
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copy

from tests.support.daemon import GREETING, running
from tests.support.load import free_port

AFTERWARDS = "2038-01-01T00:00:00Z"  # every grace time and age has passed
DECK = "prefix,destination,rate\n49,Germany,0.06\n"
PRICE_PER_S = 0.001


class Operator:
    """One Tollbook in a folder."""

    def __init__(self, folder: Path, template: Path, settings: str) -> None:
        """Take a copy of the migrated database in the folder `template`, and settings beside [database], [receiver]."""
        folder.mkdir(exist_ok=True)
        for name in ("tollbook.db", "tollbook-journal.db"):
            copy(template / name, folder / name)
        self.folder = folder
        self.address = ("127.0.0.1", free_port())
        (folder / "tollbook.toml").write_text(
            '[database]\nurl = "sqlite:///tollbook.db"\n'
            f'[receiver]\nlisten = ["127.0.0.1:{self.address[1]}"]\n{settings}'
        )

    def run(self, *words: str) -> str:
        """Run a command and return what it prints; fail if it fails."""
        command = self._command(*words)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Run the receiver until the block ends."""
        log = self.folder / "receive.log"
        with running(self._command("receive"), log, lambda: GREETING in log.read_text()):
            yield

    @contextmanager
    def following_media(self) -> Iterator[None]:
        """Run the reader of rtpengine's lines until the block ends."""
        log = self.folder / "media.log"
        with running(self._command("media"), log, lambda: "following" in log.read_text()):
            yield

    def stored(self, words: str = "") -> int:
        """Return how many reports the journal holds, of those that contain these words."""
        with closing(sqlite3.connect(self.folder / "tollbook-journal.db")) as conn:
            [(count,)] = conn.execute("SELECT count(*) FROM journal WHERE instr(raw, ?)", (words.encode(),))
        return int(count)

    def sell(self, *, to: dict[str, tuple[str, str]], buy_of: tuple[str, str]) -> None:
        """Make accounts, each with an identity, and a carrier; all at the prices of one deck for Germany."""
        deck = self.folder / "deck.csv"
        deck.write_text(DECK)
        for side in ("sell", "buy"):
            self.run("rates", "load", str(deck), "--deck", side, "--side", side, "--currency", "EUR")
        for account, identity in to.items():
            self.run("account", "add", account, "--currency", "EUR", "--deck", "sell")
            self.run("account", "identify", account, *identity)
        self.run("carrier", "add", "trunk", "--currency", "EUR", "--deck", "buy")
        self.run("carrier", "identify", "trunk", *buy_of)

    def cdrs(self) -> list[dict[str, str]]:
        """Process all there is as of long afterwards, verify, and return the rows of the CSV."""
        self.run("process", "--now", AFTERWARDS)
        self.run("verify")
        path = self.folder / "cdrs.csv"
        self.run("export", "cdrs", "--out", str(path))
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "tollbook", *words, "--config", str(self.folder / "tollbook.toml")]
