"""What the demo tells in the end: tables of its figures, and what to try next.

Every figure is one that a command said or that stands in an exported CSV file; none is kept from the sending side
except how much was sent.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from accounting.base.clock import iso_ms, parse_instant
from reports.demo_client import Sent

Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of the day, as the commands told it."""

    sent: Sent
    processed: dict[str, Any]
    cdrs: Path
    charges: Path
    page: Path
    accounts: list[Row]
    carriers: list[Row]
    exceptions: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    verified: dict[str, Any]


def print_summary(console: Console, outcome: Outcome) -> None:
    """Print the tables."""
    cdrs, charges = _rows(outcome.cdrs), _rows(outcome.charges)
    console.print(_columns(_sent_table(outcome), _calls_table(outcome, cdrs)))
    console.print(_accounts_table(outcome, cdrs, charges))
    console.print(_carriers_table(outcome, cdrs, charges))
    console.print(_margin_table(charges))
    differences = outcome.verified["differences"]
    told = "no difference" if not differences else f"{len(differences)} differences: {differences[0]}"
    checked = f"{outcome.verified['events']:,} reports, {outcome.verified['cdrs']:,} CDRs"
    console.print(f"verify has computed everything again from {checked}: {told}")


def print_next_steps(console: Console, outcome: Outcome, out: Path, command: str) -> None:
    """Print commands to go on with; their ids are of this run."""
    cdrs = _rows(outcome.cdrs)
    config = f"--config {out / 'tollbook.toml'}"
    console.print("\nWhat to try next", style="bold")
    steps = [("read the day's report in a browser", [str(outcome.page)])]
    forwarded = next((row for row in cdrs if row["forwarded_by"] and row["rating"] == "rated"), None)
    if forwarded:
        steps.append(("see where the figures of a forwarded call come from, down to its packets",
                      [f"{command} cdr show {forwarded['cdr_id']} {config}"]))  # fmt: skip
    steps.append(("see what waits for a person", [f"{command} exceptions list {config}"]))
    endless = next((row for row in cdrs if "no_stop" in row["exception"].split(";")), None)
    if endless:
        ended = iso_ms(parse_instant(endless["answered_at"]) + timedelta(minutes=3))
        steps.append(("close a call whose BYE got lost: it is charged now",
                      [f'{command} cdr close {endless["cdr_id"]} --ended-at {ended} --reason "asked the customer" {config}']))  # fmt: skip
    steps += [
        ("give the satellite telephones a price, and rate their calls", [
            f"{command} rates load {out / 'satellite.csv'} --deck satellite --currency EUR {config}",
            f"{command} account deck callshop satellite {config}",
            f"{command} rerate --account callshop {config}",
        ]),
        ("run it for your own proxy: enter it in the settings, then", [f"{command} serve {config}"]),
    ]  # fmt: skip
    for what, commands in steps:
        console.print(f"- {what}:")
        for line in commands:
            console.print(f"    {line}", style="cyan", markup=False)


def margins(charges: Iterable[Row]) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """Return (price, cost) of all calls by the currencies they were sold and bought in, '' where they were not."""
    sums: dict[str, dict[str, tuple[str, Decimal]]] = defaultdict(dict)
    for charge in charges:
        side = "bought" if charge["party"] == "carrier" else "sold"
        _, before = sums[charge["cdr_id"]].get(side, ("", Decimal(0)))
        sums[charge["cdr_id"]][side] = (charge["currency"], before + Decimal(charge["amount"]))
    totals: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for sides in sums.values():
        (sold_in, price), (bought_in, cost) = (sides.get(side, ("", Decimal(0))) for side in ("sold", "bought"))
        before_price, before_cost = totals.get((sold_in, bought_in), (Decimal(0), Decimal(0)))
        totals[sold_in, bought_in] = (before_price + price, before_cost + cost)
    return dict(sorted(totals.items()))


def _sent_table(outcome: Outcome) -> Table:
    sent = outcome.sent
    table = _table("Requests", "", "")
    for name, value in (
        ("reports of the proxy", sent.reports),
        ("once more after a failover", sent.failed_over),
        ("requests sent", sent.requests),
        ("answered", sent.answered),
        ("datagrams", sent.datagrams),
        ("sent twice on purpose", sent.twice),
        ("repeated, unanswered", sent.repeated),
        ("stored and processed", outcome.verified["events"]),
        ("in quarantine", len(outcome.quarantine)),
    ):
        table.add_row(name, f"{value:,}")
    return table


def _calls_table(outcome: Outcome, cdrs: Sequence[Row]) -> Table:
    table = _table("Calls (CDRs)", "", "")
    table.add_row("all", f"{len(cdrs):,}", style="bold")
    for name, count in Counter(row["disposition"] for row in cdrs).most_common():
        table.add_row(name.replace("_", " "), f"{count:,}")
    table.add_section()
    for name, count in Counter(row["rating"] for row in cdrs).most_common():
        table.add_row(name.replace("_", " "), f"{count:,}")
    table.add_section()
    for name, count in Counter(
        reason for row in outcome.exceptions for reason in row["reason"].split(";")
    ).most_common():
        table.add_row(f"exception {name}", f"{count:,}")
    return table


def _accounts_table(outcome: Outcome, cdrs: Sequence[Row], charges: Sequence[Row]) -> Table:
    table = _table("Accounts", "account", "", "calls", "answered", "minutes", "charged", "balance", "available")
    for account in outcome.accounts:
        own = [row for row in cdrs if row["account"] == account["name"]]
        charged = _amount(charges, account["name"], carrier=False)
        table.add_row(account["name"], account["payment"], *_traffic(own), f"{charged} {account['currency']}",
                      account["balance"], account["available"])  # fmt: skip
    return table


def _carriers_table(outcome: Outcome, cdrs: Sequence[Row], charges: Sequence[Row]) -> Table:
    table = _table("Carriers", "carrier", "calls", "answered", "minutes", "cost", "we owe")
    for carrier in outcome.carriers:
        own = [row for row in cdrs if row["carrier"] == carrier["name"]]
        cost = _amount(charges, carrier["name"], carrier=True)
        table.add_row(carrier["name"], *_traffic(own), f"{cost} {carrier['currency']}", carrier["balance"])
    return table


def _margin_table(charges: Sequence[Row]) -> Table:
    table = _table("Margin", "", "price", "cost", "margin")
    for (sold_in, bought_in), (price, cost) in margins(charges).items():
        same = sold_in == bought_in or not (sold_in and bought_in)
        what = "calls that cost something only" if not sold_in else "calls without a cost" if not bought_in else (
            f"sold in {sold_in}, bought in {bought_in}")  # fmt: skip
        table.add_row(
            what,
            f"{price} {sold_in}" if sold_in else "",
            f"{cost} {bought_in}" if bought_in else "",
            f"{price - cost} {sold_in or bought_in}" if same else "two currencies",
        )
    return table


def _traffic(cdrs: Sequence[Row]) -> tuple[str, str, str]:
    """Return calls, answered ones and minutes."""
    answered = [row for row in cdrs if row["disposition"] == "answered"]
    minutes = Decimal(sum(int(row["duration_ms"]) for row in answered)) / 60_000
    return f"{len(cdrs):,}", f"{len(answered):,}", f"{minutes:,.1f}"


def _amount(charges: Iterable[Row], name: str, *, carrier: bool) -> Decimal:
    own = (Decimal(c["amount"]) for c in charges if c["account"] == name and (c["party"] == "carrier") is carrier)
    return sum(own, Decimal(0))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_header=any(columns))
    for number, column in enumerate(columns):
        is_text = number == 0 or not column and any(columns)
        table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    return table


def _columns(*tables: Table) -> Table:
    grid = Table.grid(padding=(0, 4))
    grid.add_row(*tables)
    return grid


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
