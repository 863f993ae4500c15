"""`tollbook demo`: the whole way on sample traffic, from settings to reports, over a real socket.

After `serve` runs it uses nothing but the commands that an operator types, and shows them. Its figures are what those
commands said.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from accounting.base.clock import iso_ms, now, to_us
from accounting.base.config import ENV_PREFIX
from accounting.base.errors import TollbookError
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
from accounting.supervisor import die_with_parent, tollbook_command
from reports.demo_client import Sent, send
from reports.demo_folder import CONFIG, SECRET, demo_folder, free_port, write_inputs
from reports.demo_summary import Outcome, print_next_steps, print_summary

SEED = 1
CALLS = 2000
CALLS_MAX = 100_000
LANES = 2  # commands at a time, where one need not wait for another
START_S = 30.0
STOP_S = 30.0
TICK_S = 0.1
LISTENING = "listening on"

TERMS: Mapping[str, tuple[str, ...]] = {
    "acme": ("--postpaid", "--credit-limit", "500", "--deck", "business"),
    "grand-hotel": ("--postpaid", "--credit-limit", "200", "--deck", "retail"),
    "bakery": ("--prepaid", "--deck", "retail"),
    "callshop": ("--prepaid", "--deck", "retail"),
}
TOPUPS = {"bakery": "50", "callshop": "25"}
CARRIERS = (("northsea", "EUR", NORTHSEA), ("transatlantic", "USD", TRANSATLANTIC))

app = typer.Typer()
console = Console(highlight=False, soft_wrap=True)


class Shell(NamedTuple):
    """Runs tollbook commands on the demo's settings."""

    config: Path

    def run(self, words: Sequence[str]) -> str:
        """Return what a command prints on stdout; TollbookError with its own words if it fails."""
        done = subprocess.run(
            tollbook_command(*words, "--config", str(self.config)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise TollbookError(f"tollbook {shlex.join(words)}: {said[-1] if said else f'exit {done.returncode}'}")
        return done.stdout

    def start(self, log: Path) -> "subprocess.Popen[bytes]":
        """Start `tollbook serve`, out of reach of the terminal's Ctrl-C: the demo itself stops it."""
        with log.open("wb") as output:
            return subprocess.Popen(
                tollbook_command("serve", "--config", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env=_environment(),
            )


@app.command()
def demo(
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
    with demo_folder(out):
        port = free_port()
        write_inputs(out, port)
        shell = Shell(out / CONFIG)
        console.print(f"Tollbook demo: yesterday's calls of a small provider, into {out}/\n", style="bold")
        _say(f"1. Start the receiver and the worker, on 127.0.0.1:{port}")
        _show(("serve",))
        with _serving(shell, out / "serve.log"):
            _say("2. Say who pays, and what")
            _run_all(shell, set_up(out), "setting up")
            outcome = _play(shell, out, port, calls)
        print_summary(console, outcome)
        print_next_steps(console, outcome, out, _command_name())
        console.print(f"\nDone in {time.monotonic() - began:.0f} s.")


def set_up(out: Path) -> list[list[tuple[str, ...]]]:
    """Return the commands that tell who pays: chains of commands; each chain needs what the first one made."""
    decks = [("retail", "EUR", "sell"), ("business", "EUR", "sell")]
    decks += [(carrier, currency, "buy") for carrier, currency, _ in CARRIERS]
    loads = [
        ("rates", "load", str(out / f"{deck}.csv"), "--deck", deck, "--currency", currency, "--side", side)
        for deck, currency, side in decks
    ]
    carriers = [
        [
            ("carrier", "add", name, "--currency", currency, "--deck", name),
            ("carrier", "identify", name, "--ip", gateway),
        ]
        for name, currency, gateway in CARRIERS
    ]
    return [loads, *map(_account, CUSTOMERS), *carriers]


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
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - timedelta(days=1)
    day = day_of_calls(to_us(start) // 10**6, calls, SEED)
    _say(f"3. Be the proxy: send what happened on {start:%A, %Y-%m-%d}")
    sent = _send(port, day.reports)
    console.print(
        f"  {sent.requests:,} requests in {sent.datagrams:,} datagrams, {sent.answered:,} answered: each is on disk before"
        f" its answer.\n  {sent.twice:,} datagrams were sent twice and {sent.failed_over:,} reports once more as after a"
        " failover, on purpose.\n"
    )
    _say("4. Pair, rate and charge: the worker does so every second; process does what is left")
    console.print("  --now: as of the end of today, when calls whose BYE got lost have reached their maximum age")
    tomorrow = midnight + timedelta(days=1)
    processed = _process(shell, tomorrow)
    _say("5. Read the results")
    return _results(shell, out, start, sent, processed)


def _process(shell: Shell, at: datetime) -> dict[str, Any]:
    words = ("process", "--now", iso_ms(at).replace(".000Z", "Z"), "--json")
    _show(words)
    processed: dict[str, Any] = json.loads(shell.run(words))
    console.print(
        f"  {processed.get('events_read', 0):,} reports were left to the last, {processed.get('cdrs', 0):,} CDRs\n"
    )
    return processed


def _results(shell: Shell, out: Path, day: datetime, sent: Sent, processed: dict[str, Any]) -> Outcome:
    cdrs, charges = out / "cdrs.csv", out / "charges.csv"
    words: list[tuple[str, ...]] = [
        ("export", "cdrs", "--out", str(cdrs)),
        ("export", "charges", "--out", str(charges)),
        ("report", "nightly", "--date", f"{day:%Y-%m-%d}", "--out", str(out / "reports")),
        ("account", "list", "--json"),
        ("carrier", "list", "--json"),
        ("exceptions", "list", "--json"),
        ("quarantine", "list", "--json"),
        ("verify", "--json"),
    ]
    said = _run_all(shell, [[one] for one in words], "reading")
    _, _, page, accounts, carriers, exceptions, quarantine, verified = (texts[0] for texts in said)
    return Outcome(
        sent=sent,
        processed=processed,
        cdrs=cdrs,
        charges=charges,
        page=Path(page.strip()),
        accounts=json.loads(accounts),
        carriers=json.loads(carriers),
        exceptions=json.loads(exceptions),
        quarantine=json.loads(quarantine),
        verified=json.loads(verified),
    )


# ---- running and showing ----------------------------------------------------------------------------------------


@contextmanager
def _serving(shell: Shell, log: Path) -> Iterator[None]:
    """Have `tollbook serve` run, listening, until the end; TollbookError with its last words if it does not come up."""
    process = shell.start(log)
    try:
        deadline = time.monotonic() + START_S
        while LISTENING not in log.read_text(encoding="utf-8", errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing"]
                raise TollbookError(f"tollbook serve did not start, see {log}: {lines[-1]}")
            time.sleep(TICK_S)
        console.print(f"  it logs to {log}\n")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run_all(shell: Shell, chains: Sequence[Sequence[tuple[str, ...]]], what: str) -> list[list[str]]:
    """Run chains of commands, LANES at a time, the first chain before all others; show each in order, return stdout."""
    total = sum(map(len, chains))
    with _progress(what, total) as bar, ThreadPoolExecutor(LANES) as pool:
        task = bar.task_ids[0]

        def run(chain: Sequence[tuple[str, ...]]) -> list[str]:
            texts = []
            for words in chain:
                texts.append(shell.run(words))
                bar.advance(task)
            return texts

        try:
            first = [pool.submit(run, [words]) for words in chains[0]]
            said = [[text for one in first for text in one.result()]]
            _show(*chains[0], to=bar.console)
            rest = [pool.submit(run, chain) for chain in chains[1:]]
            for chain, one in zip(chains[1:], rest, strict=True):
                said.append(one.result())
                _show(*chain, to=bar.console)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    console.print()
    return said


def _send(port: int, reports: Sequence[Report]) -> Sent:
    with _progress("sending", len(reports)) as bar:
        task = bar.task_ids[0]
        return send(
            ("127.0.0.1", port), SECRET.encode(), reports,
            lambda answered: bar.update(task, completed=min(answered, len(reports))),
        )  # fmt: skip


def _progress(what: str, total: int) -> Progress:
    """Return a progress bar that vanishes; nothing at all where the output is no terminal."""
    bar = Progress(
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    bar.add_task(what, total=total)
    return bar


def _say(text: str) -> None:
    console.print(text, style="bold")


def _show(*commands: Sequence[str], to: Console = console) -> None:
    """Show commands as they are typed, but for --config."""
    for words in commands:
        to.print(f"  $ tollbook {shlex.join(words)}", style="cyan", markup=False)


def _environment() -> dict[str, str]:
    """Return the environment without settings of the user's own: they must not lead the demo to another database."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(ENV_PREFIX)}


def _command_name() -> str:
    """Return how the user can call tollbook from here."""
    called = Path(sys.argv[0]).absolute()
    found = shutil.which("tollbook")
    if found and Path(found).resolve() == called.resolve():
        return "tollbook"
    if called.name == "tollbook":
        return os.path.relpath(called)
    return f"{sys.executable} -m tollbook"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
