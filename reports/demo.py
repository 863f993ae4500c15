"""`tollbook demo`: the whole way on sample traffic, from settings to reports, over a real socket.

It uses nothing but the commands that an operator types, and shows them. Its figures are what those commands said.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from accounting.base.cli import EXIT_INTERRUPTED
from accounting.base.clock import now, to_us
from accounting.base.config import ENV_PREFIX
from accounting.base.errors import TollbookError
from accounting.base.watch import PARENT_VARIABLE
from accounting.sample import (
    CALLS_MIN,
    CUSTOMERS,
    DOMAIN,
    NORTHSEA,
    NUMBERS,
    TRANSATLANTIC,
    Customer,
    Report,
    day_of_calls,
)
from accounting.supervisor import tollbook_command
from reports.demo_client import Sent, send
from reports.demo_folder import CONFIG, SECRET, demo_folder, free_port, write_inputs
from reports.demo_summary import Outcome, print_next_steps, print_summary, read_csv

SEED = 1
CALLS = 2000
CALLS_MAX = 100_000
START_S = 30.0
STOP_S = 30.0
TICK_S = 0.1
LOG = "serve.log"
LISTENING = "listening on"
BATCH = re.compile(r"committed a batch .*\bcdrs=(\d+) .*\bevents=(\d+)")
WORKER_S = 10.0  # that it may take to read what was sent; the rest is done by hand

TERMS: Mapping[str, tuple[str, ...]] = {
    "acme": ("--postpaid", "--credit-limit", "500", "--deck", "business"),
    "grand-hotel": ("--postpaid", "--credit-limit", "200", "--deck", "retail"),
    "bakery": ("--prepaid", "--deck", "retail"),
    "callshop": ("--prepaid", "--deck", "retail"),
}
TOPUPS = {"bakery": "50", "callshop": "25"}
CARRIERS = (("northsea", "EUR", NORTHSEA), ("transatlantic", "USD", TRANSATLANTIC))

app = typer.Typer()


class Shell(NamedTuple):
    """Runs tollbook commands on the demo's settings: `serve` as a process, the others right here.

    The command line parses and runs them as ever; a process for each would cost a second of imports a time.
    """

    command: Any  # tollbook, as the command line knows it
    config: Path
    console: Console

    def run(self, *words: str) -> str:
        """Show a command as it is typed, but for --config, and return what it prints on stdout.

        TollbookError, with its own words, if it fails.
        """
        self.console.print(f"  $ tollbook {shlex.join(words)}", style="cyan", markup=False)
        return self.ask(*words)

    def ask(self, *words: str) -> str:
        """Return what a command prints on stdout, without showing it."""
        said, complaints = StringIO(), StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(complaints):
                status = self.command.main(
                    [*words, "--config", str(self.config)], prog_name="tollbook", standalone_mode=False
                )
        except TollbookError as error:
            raise TollbookError(f"tollbook {shlex.join(words)}: {error}") from error
        if status == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            raise TollbookError(
                f"tollbook {shlex.join(words)}: exit {status}\n{said.getvalue()}{complaints.getvalue()}"
            )
        return said.getvalue()

    def serve(self, log: Path) -> "subprocess.Popen[bytes]":
        """Start `tollbook serve`, out of reach of the terminal's Ctrl-C: the demo itself stops it."""
        with log.open("wb") as output:
            return subprocess.Popen(  # noqa: S603
                tollbook_command("serve", "--config", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=os.environ | {PARENT_VARIABLE: str(os.getpid())},
            )


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="The folder that is left behind; one that a demo made is redone."),
    ] = Path("demo-output"),
    calls: Annotated[int, typer.Option(metavar="N", min=CALLS_MIN, max=CALLS_MAX, help="Calls of the day.")] = CALLS,
) -> None:
    """Show the whole way on a day of sample calls: receive, pair, rate, charge, report. It has settings of its own.

    Example: tollbook demo --calls 5000
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    _forget_settings()
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    with demo_folder(out):
        port = free_port()
        write_inputs(out, port)
        shell = Shell(context.find_root().command, out / CONFIG, console)
        console.print(f"Tollbook demo: a small provider's calls of yesterday, into {out}/", style="bold")
        console.print(f"Each command below is called with --config {shell.config}\n")
        console.print(f"1. Start the receiver, on 127.0.0.1:{port}, and the worker", style="bold")
        with _serving(shell, out / LOG):
            console.print("2. Say who pays, and what", style="bold")
            for words in set_up(out):
                shell.run(*words)
            outcome = _play(shell, out, port, calls)
        print_summary(console, outcome)
        print_next_steps(console, outcome, out, _command_name())
        console.print(f"\nDone in {time.monotonic() - began:.0f} s.")


def set_up(out: Path) -> list[tuple[str, ...]]:
    """Return the commands that load the decks and tell who pays."""
    decks = [("retail", "EUR", "sell"), ("business", "EUR", "sell")]
    decks += [(carrier, currency, "buy") for carrier, currency, _ in CARRIERS]
    commands: list[tuple[str, ...]] = [
        ("rates", "load", str(out / f"{deck}.csv"), "--deck", deck, "--currency", currency, "--side", side)
        for deck, currency, side in decks
    ]
    for customer in CUSTOMERS:
        commands += _account(customer)
    for name, currency, gateway in CARRIERS:
        commands.append(("carrier", "add", name, "--currency", currency, "--deck", name))
        commands.append(("carrier", "identify", name, "--ip", gateway))
    return commands


def _account(customer: Customer) -> list[tuple[str, ...]]:
    name = customer.name
    commands: list[tuple[str, ...]] = [("account", "add", name, "--currency", "EUR", *TERMS[name])]
    if customer.address:
        commands.append(("account", "identify", name, "--ip", customer.address))
    else:
        commands += [("account", "identify", name, "--user", f"{user}@{DOMAIN}") for user in customer.users]
    commands.append(("account", "identify", name, "--did", f"+{NUMBERS}{customer.numbers}"))
    if name in TOPUPS:
        commands.append(("account", "topup", name, TOPUPS[name], "--reference", f"first-payment-of-{name}"))
    return commands


def _play(shell: Shell, out: Path, port: int, calls: int) -> Outcome:
    """Send the day, have it processed, and return what the commands tell of it."""
    say = shell.console.print
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - timedelta(days=1)
    day = day_of_calls(to_us(start) // 10**6, calls, SEED)
    say(f"\n3. Be the proxy: send what it would have reported on {start:%A, %Y-%m-%d}", style="bold")
    sent = _send(shell.console, port, day.reports)
    say(f"  {sent.requests:,} requests sent, {sent.answered:,} answered: what is answered is on disk.")
    say(f"  {sent.twice:,} were sent twice and {sent.failed_over:,} are the same report once more, all on purpose.")
    say("\n4. Pair, rate and charge", style="bold")
    events, cdrs = _wait_for_worker(out / LOG, sent.requests)
    say(f"  The worker looks every second. It has read {events:,} requests so far and written {cdrs:,} CDRs.")
    say("  What is left is done by hand. --now moves the clock: calls whose BYE got lost reach their maximum age.")
    say(f"  {shell.run('process', '--now', f'{midnight + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}').strip()}")
    say("\n5. Read the results", style="bold")
    outcome = _results(shell, out, start, sent)
    say()
    return outcome


def _results(shell: Shell, out: Path, day: datetime, sent: Sent) -> Outcome:
    cdrs, charges = out / "cdrs.csv", out / "charges.csv"
    shell.run("export", "cdrs", "--out", str(cdrs))
    shell.run("export", "charges", "--out", str(charges))
    page = shell.run("report", "nightly", "--date", f"{day:%Y-%m-%d}", "--out", str(out / "reports"))
    return Outcome(
        sent=sent,
        cdrs=read_csv(cdrs),
        charges=read_csv(charges),
        page=Path(page.strip()),
        accounts=json.loads(shell.run("account", "list", "--json")),
        carriers=json.loads(shell.run("carrier", "list", "--json")),
        exceptions=json.loads(shell.run("exceptions", "list", "--json")),
        quarantine=json.loads(shell.run("quarantine", "list", "--json")),
        verified=json.loads(shell.run("verify", "--json")),
    )


@contextmanager
def _serving(shell: Shell, log: Path) -> Iterator[None]:
    """Have `tollbook serve` run, listening, until the end; TollbookError with its last words if it does not come up."""
    shell.console.print("  $ tollbook serve", style="cyan")
    process = shell.serve(log)
    try:
        deadline = time.monotonic() + START_S
        while LISTENING not in _text(log):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = _text(log).splitlines() or ["it said nothing"]
                raise TollbookError(f"tollbook serve did not start, see {log}: {lines[-1]}")
            time.sleep(TICK_S)
        shell.console.print(f"  it logs to {log}\n")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_worker(log: Path, requests: int) -> tuple[int, int]:
    """Return how many requests its log says it has read and CDRs written, once it has read all or the time is up."""
    deadline = time.monotonic() + WORKER_S
    while True:
        batches = [(int(cdrs), int(events)) for cdrs, events in BATCH.findall(_text(log))]
        events, cdrs = sum(events for _, events in batches), sum(cdrs for cdrs, _ in batches)
        if events >= requests or time.monotonic() > deadline:
            return events, cdrs
        time.sleep(TICK_S)


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _send(console: Console, port: int, reports: Sequence[Report]) -> Sent:
    """Send the reports, with a bar that vanishes where the output is a terminal."""
    bar = Progress(
        TextColumn("  sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
    with bar:
        task = bar.add_task("sending", total=len(reports))
        return send(
            ("127.0.0.1", port), SECRET.encode(), reports,
            lambda answered: bar.update(task, completed=min(answered, len(reports))),
        )  # fmt: skip


def _forget_settings() -> None:
    """Drop the user's own settings from the environment: they must not lead the demo to another database."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            del os.environ[name]


def _command_name() -> str:
    """Return how the user can call tollbook from here."""
    called = Path(sys.argv[0]).absolute()
    found = shutil.which("tollbook")
    if found and Path(found).resolve() == called.resolve():
        return "tollbook"
    if called.name == "tollbook":
        near = os.path.relpath(called)
        return str(called) if near.startswith("..") else near
    return f"{sys.executable} -m tollbook"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
