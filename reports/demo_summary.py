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
    cdrs: list[Row]
    charges: list[Row]
    page: Path
    accounts: list[Row]
    carriers: list[Row]
    exceptions: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    verified: dict[str, Any]


def print_summary(console: Console, outcome: Outcome) -> None:
    """Print the tables."""
    cdrs, charges = outcome.cdrs, outcome.charges
    side_by_side = Table.grid(padding=(0, 6))
    side_by_side.add_row(_requests_table(outcome), _calls_table(cdrs))
    console.print(side_by_side)
    console.print(_accounts_table(outcome.accounts, cdrs, charges))
    console.print(_carriers_table(outcome.carriers, cdrs, charges))
    console.print(_margin_table(charges))
    waiting = Counter(reason for one in outcome.exceptions for reason in one["reason"].split(";"))
    console.print("waiting for a person: " + ", ".join(f"{count} {reason}" for reason, count in waiting.most_common()))
    differences = outcome.verified["differences"]
    told = "no difference" if not differences else f"{len(differences)} differences: {differences[0]}"
    checked = f"{outcome.verified['events']:,} reports, {outcome.verified['cdrs']:,} CDRs"
    console.print(f"verify has computed everything again from {checked}: {told}")


def print_next_steps(console: Console, outcome: Outcome, out: Path, command: str) -> None:
    """Print commands to go on with; their ids are of this run."""
    config = f"--config {out / 'tollbook.toml'}"
    config = f"--config {out / 'tollbook.toml'}"
    steps = [("read the day's report in a browser", [str(outcome.page)])]
    forwarded = next((row for row in outcome.cdrs if row["forwarded_by"] and row["rating"] == "rated"), None)
    if forwarded:
        about = "see where the figures of a forwarded call come from, down to its packets"
        steps.append((about, [f"{command} cdr show {forwarded['cdr_id']} {config}"]))
    steps.append(("see what waits for a person", [f"{command} exceptions list {config}"]))
    endless = next((row for row in outcome.cdrs if "no_stop" in row["exception"].split(";")), None)
    if endless:
        ended = iso_ms(parse_instant(endless["answered_at"]) + timedelta(minutes=3)).replace(".000Z", "Z")
        words = f'{endless["cdr_id"]} --ended-at {ended} --reason "asked the customer"'
        steps.append(("close a call whose BYE got lost: then it is charged", [f"{command} cdr close {words} {config}"]))
    satellite = f"{out / 'satellite.csv'} --deck satellite --currency EUR"
    prices = [f"rates load {satellite}", "account deck callshop satellite", "rerate --account callshop"]
    steps.append(
        ("give satellite telephones a price, and rate their calls", [f"{command} {one} {config}" for one in prices])
    )
    steps.append(("take it for your own proxy: enter it in the settings, then", [f"{command} serve {config}"]))
    console.print("\nWhat to try next", style="bold")
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


def _requests_table(outcome: Outcome) -> Table:
    sent = outcome.sent
    table = _table("Requests", "", "")
    for name, value in (
        ("reports of the proxy", sent.reports),
        ("the same once more (failover)", sent.failed_over),
        ("requests sent", sent.requests),
        ("answered", sent.answered),
        ("datagrams sent", sent.datagrams),
        ("twice on purpose", sent.twice),
        ("again, for want of an answer", sent.repeated),
        ("stored and processed", outcome.verified["events"]),
        ("in quarantine", len(outcome.quarantine)),
    ):
        table.add_row(name, f"{value:,}")
    return table


def _calls_table(cdrs: Sequence[Row]) -> Table:
    table = _table("Calls", "", "")
    for name, count in Counter(row["disposition"] for row in cdrs).most_common():
        table.add_row(name.replace("_", " "), f"{count:,}")
    table.add_row("CDRs", f"{len(cdrs):,}", style="bold", end_section=True)
    for name, count in Counter(row["rating"] for row in cdrs).most_common():
        table.add_row(name.replace("_", " "), f"{count:,}")
    return table


def _accounts_table(accounts: Sequence[Row], cdrs: Sequence[Row], charges: Sequence[Row]) -> Table:
    table = _table("Accounts", "", "calls", "minutes", "charged", "balance", "available", "")
    for account in accounts:
        own = [row for row in cdrs if row["account"] == account["name"]]
        charged = _amount(charges, account["name"], carrier=False)
        money = [f"{Decimal(value):.4f}" for value in (charged, account["balance"], account["available"])]
        table.add_row(f"{account['name']}, {account['payment']}", *_traffic(own), *money, account["currency"])
    if unknown := [row for row in cdrs if not row["account"]]:
        table.add_row("nobody we know", *_traffic(unknown), "", "", "", "")
    return table


def _carriers_table(carriers: Sequence[Row], cdrs: Sequence[Row], charges: Sequence[Row]) -> Table:
    table = _table("Carriers", "", "calls", "minutes", "cost", "balance", "")
    for carrier in carriers:
        own = [row for row in cdrs if row["carrier"] == carrier["name"]]
        cost = _amount(charges, carrier["name"], carrier=True)
        money = [f"{Decimal(value):.4f}" for value in (cost, carrier["balance"])]
        table.add_row(carrier["name"], *_traffic(own), *money, carrier["currency"])
    return table


def _margin_table(charges: Sequence[Row]) -> Table:
    table = _table("Margin", "", "price", "cost", "margin")
    for (sold_in, bought_in), (price, cost) in margins(charges).items():
        if sold_in and bought_in:
            what = f"sold in {sold_in}, bought in {bought_in}"
        else:
            what = f"bought in {bought_in}, not sold" if bought_in else f"sold in {sold_in}, not bought"
        is_one = sold_in == bought_in or not (sold_in and bought_in)
        table.add_row(
            what,
            f"{price:.4f}" if sold_in else "",
            f"{cost:.4f}" if bought_in else "",
            f"{price - cost:.4f}" if is_one else "not comparable",
        )
    return table


def _traffic(cdrs: Sequence[Row]) -> tuple[str, str]:
    """Return calls and minutes."""
    minutes = Decimal(sum(int(row["duration_ms"]) for row in cdrs)) / 60_000
    return f"{len(cdrs):,}", f"{minutes:,.1f}"


def _amount(charges: Iterable[Row], name: str, *, carrier: bool) -> Decimal:
    own = (Decimal(c["amount"]) for c in charges if c["account"] == name and (c["party"] == "carrier") is carrier)
    return sum(own, Decimal(0))


def _table(title: str, *columns: str) -> Table:
    """Return an empty table; columns with figures are those after the first."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_header=any(columns),
        pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and (column or not any(columns)) else "left", no_wrap=True)
    return table


def read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file that a command has written."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
