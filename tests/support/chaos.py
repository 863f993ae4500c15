"""A Tollbook under radload while its surroundings break, and what must hold when all is over."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import func, select

from accounting.db.engine import open_database
from accounting.db.tables import journal
from accounting.radius.attributes import Malformed, attributes
from tests.support import radload
from tests.support.daemon import GREETING
from tests.support.load import free_port

LONG_AFTER = "2038-01-01T00:00:00Z"  # every grace time and age has passed
DECK = "prefix,destination,rate\n" + "".join(f"{digit},Zone {digit},0.06\n" for digit in range(1, 10))
PATIENCE_S = 60

Report = tuple[str, int]
"""Call-ID and Acct-Status-Type, as radload's --ack-log has them."""


class Site:
    """One Tollbook: settings, a migrated database, an account that all calls are charged to, and its processes."""

    def __init__(self, folder: Path, url: str, more: str = "") -> None:
        self.folder = folder
        self.url = url
        self.port = free_port()
        self.config = folder / "tollbook.toml"
        self.config.write_text(
            f'[database]\nurl = "{url}"\n[receiver]\nlisten = ["127.0.0.1:{self.port}"]\n[[clients]]\n'
            f'name = "proxy-1"\naddress = "127.0.0.0/8"\nsecret = "{radload.SECRET}"\n'
            f'dialect = "opensips"\ndictionary = "classic"\nidentify_by = ["caller_number"]\n'
            f"{more}"
        )
        self.receivers: list[subprocess.Popen[bytes]] = []
        self._loads: list[tuple[subprocess.Popen[str], Path]] = []

    def sell(self) -> None:
        """Make the account that pays for every call."""
        deck = self.folder / "deck.csv"
        deck.write_text(DECK)
        self.run("rates", "load", str(deck), "--deck", "sell", "--currency", "EUR")
        self.run("account", "add", "acme", "--currency", "EUR", "--deck", "sell")
        self.run("account", "identify", "acme", "--number", "4930")

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command and return what it prints; its exit status must be this."""
        done = subprocess.run(self._command(*words), capture_output=True, text=True, check=False)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def start_receiver(self, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start `tollbook receive` and wait until it is at work; its words are in receive-N.log."""
        log = self.folder / f"receive-{len(self.receivers)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self._command("receive"), stdout=out, stderr=out, env=os.environ | dict(environment or {})
            )
        self.receivers.append(process)
        wait_until(lambda: GREETING in log.read_text() or process.poll() is not None, "the receiver is at work", 30)
        assert process.poll() is None, log.read_text()
        return process

    def said(self) -> str:
        """Return what all receivers said."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("receive-*.log")))

    def load(self, *words: str, port: int | None = None) -> "subprocess.Popen[str]":
        """Start radload, which repeats each request until it is answered, for five minutes."""
        acked = self.folder / f"acked-{len(self._loads)}"
        command = radload.command(
            port or self.port, "--retry-ms", "300", "--retries", "1000", "--ack-log", str(acked),
            "--call-prefix", f"l{len(self._loads)}-", *words,
        )  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._loads.append((process, acked))
        return process

    def finish_load(self) -> radload.Load:
        """Wait until the last load has ended; every request must have been answered."""
        process, _ = self._loads[-1]
        out, _ = process.communicate(timeout=PATIENCE_S)
        seen = radload.read(out)
        assert seen.lost == 0, seen
        return seen

    def acknowledged(self) -> Counter[Report]:
        """Return what was answered to the loads."""
        return Counter(report for load in range(len(self._loads)) for report in self.acknowledged_of(load))

    def acknowledged_of(self, load: int) -> set[Report]:
        """Return what was answered to the so-many-th load."""
        path = self._loads[load][1]
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return {(call_id, int(kind)) for call_id, kind in map(str.split, lines)}

    def journalled(self) -> Counter[Report]:
        """Return what the journal holds."""
        with open_database(self.url) as database, database.journal_read() as conn:
            return Counter(report_of(raw) for raw in conn.execute(select(journal.c.raw)).scalars())

    def received_span_s(self) -> float:
        """Return the seconds between the first and the last arrival, as the journal has them."""
        with open_database(self.url) as database, database.journal_read() as conn:
            at = journal.c.received_us
            [span_us] = conn.execute(select(func.max(at) - func.min(at))).one()
        return float(span_us or 0) / 1e6

    def check_nothing_lost(self) -> None:
        """Acknowledged minus journalled must be empty, once what a slow database left in the spool is moved."""
        acknowledged = self.acknowledged()
        assert len(acknowledged) > 1_000, "there was no load to speak of"
        self.wait_until_journalled(acknowledged.keys())

    def wait_until_journalled(self, reports: AbstractSet[Report]) -> None:
        """Wait until the journal holds all of these."""
        wait_until(lambda: reports <= self.journalled().keys(), "what was acknowledged is in the journal")

    def check_calls(self) -> None:
        """Each call that is journalled is one CDR, charged once if it ended, and the books are right."""
        self.check_charges()
        self.run("verify")

    def check_charges(self) -> None:
        """Each call that is journalled is one CDR, charged once if it ended."""
        self.run("process", "--now", LONG_AFTER)
        calls = {call_id for call_id, kind in self.journalled() if kind == 1}
        rows = self.cdrs()
        assert Counter(row["call_id"] for row in rows) == Counter(calls)
        charges = self._export("charges")
        charged = Counter(row["cdr_id"] for row in charges if row["kind"] == "charge")
        charged.subtract(row["cdr_id"] for row in charges if row["kind"] == "reversal")
        ended = {row["cdr_id"] for row in rows if row["stop_cause"] == "bye"}
        assert {cdr_id for cdr_id, times in charged.items() if times} == ended
        assert set(charged.values()) <= {0, 1}

    def cdrs(self) -> list[dict[str, Any]]:
        """Return the rows of the CSV."""
        return self._export("cdrs")

    def close(self) -> None:
        """Kill what still runs."""
        for process in (*self.receivers, *(load for load, _ in self._loads)):
            process.kill()
            process.wait()

    def _export(self, what: str) -> list[dict[str, Any]]:
        path = self.folder / f"{what}.csv"
        self.run("export", what, "--out", str(path))
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "tollbook", *words, "--config", str(self.config)]


def report_of(raw: bytes) -> Report:
    """Return what one of radload's requests says."""
    found = attributes(raw)
    assert not isinstance(found, Malformed)
    said = dict(found)
    return said[44].decode(), said[40][3]


def wait_until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Look again and again until something is true."""
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, f"waited in vain until {what}"
        signal.sigtimedwait((), 0.05)
