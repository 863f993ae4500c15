"""A day's report as one HTML page that needs nothing else: styles and charts are in it. Pure.

Everything that came from outside is escaped by the template engine.
"""

from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.figures import money, table, total, traffic
from reports.views import svg, words
from reports.views.nightly import NightlyReport

ROWS_MAX = 25  # of a table; the CSV beside it has all
BARS_MAX = 8
DISPOSITIONS = {
    "answered": "Answered", "busy": "Busy", "unavailable": "Unavailable", "cancelled": "Cancelled by caller",
    "declined": "Declined", "not_found": "Number not found", "no_answer": "No answer", "failed": "Failed",
}  # fmt: skip


class Tile(NamedTuple):
    """One big figure."""

    name: str
    value: str
    note: str


class Check(NamedTuple):
    """One thing that may need a person; quiet if there is nothing."""

    name: str
    value: str
    alarm: bool
    anchor: str


class Section(NamedTuple):
    """One table of traffic and money."""

    title: str
    key: str
    file: str
    nameless: str  # what is written for the key ''
    rows: list[dict[str, Any]]
    more: int
    mixed: bool


def nightly_html(report: NightlyReport) -> bytes:
    """Return the page."""
    zone = report.day.timezone
    page = _environment().get_template("nightly.html")
    sections = [
        _section(report.accounts, "Accounts", "account", "no account"),
        _section(report.destinations, "Destinations", "destination", "none determined"),
        _section(report.carriers, "Carriers", "carrier", "no carrier"),
    ]
    return page.render(
        title=f"{report.day.day:%A}, {report.day.day.day} {report.day.day:%B %Y}",
        day=report.day,
        hours=f"{(report.day.end - report.day.start) / timedelta(hours=1):g}",
        starts=words.local(report.day.start, zone),
        ends=words.local(report.day.end, zone),
        produced=words.local(report.produced_at, zone),
        missing=report.missing,
        tiles=_tiles(report),
        money=_money_tiles(report),
        checks=_checks(report),
        charts=_charts(report),
        sections=sections,
        unrated=_records(report.unrated),
        longest_unrated=_records(report.longest_unrated),
        not_billable=_records(report.not_billable),
        exceptions=_records(report.exceptions),
        call_exceptions=_records(report.call_exceptions),
        open_calls=_records(report.open_calls),
        sources=_records(report.sources),
        words=words,
        local=lambda instant: words.local(instant, zone),
    ).encode()


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports.views", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["css"] = Markup(environment.loader.get_source(environment, "nightly.css")[0])  # type: ignore[union-attr]  # noqa: S704
    return environment


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as dicts with None for what is missing."""
    plain = frame.astype(object)
    names = [str(name) for name in frame.columns]
    rows = plain.where(plain.notna(), None).itertuples(index=False, name=None)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _tiles(report: NightlyReport) -> list[Tile]:
    sums = _records(traffic(total(report.accounts)))
    calls, answered, duration_ms, billed_s = (
        (sums[0][name] for name in ("calls", "answered", "duration_ms", "billed_s")) if sums else (0, 0, 0, 0)
    )
    return [
        Tile("Calls", words.count(calls), f"{words.count(answered)} answered"),
        Tile("Answer-seizure ratio", words.share(answered, calls), "answered of all calls"),
        Tile("Minutes", words.minutes(duration_ms, 0), f"{words.minutes(billed_s * 1000, 0)} charged"),
        Tile("Average duration", words.average(duration_ms, answered), "of an answered call, m:ss"),
    ]


def _money_tiles(report: NightlyReport) -> list[dict[str, Any]]:
    """Return price, cost and margin of all calls, by currency."""
    return [
        {
            "currency": row["currency"],
            "price": words.amount(row["price_micros"]),
            "cost": words.amount(row["cost_micros"]),
            "margin": words.amount(row["margin_micros"]),
            "loss": words.is_loss(row["margin_micros"]),
            "mixed": row["other_price_micros"] is not None or row["other_cost_micros"] is not None,
        }
        for row in _records(money(total(report.accounts)))
    ]


def _checks(report: NightlyReport) -> list[Check]:
    unrated = int(report.unrated["calls"].sum())
    codes = int(report.exceptions["undismissed"].sum()) + int(report.call_exceptions["calls"].sum())
    waiting = int(report.open_calls["calls"].sum())
    silent = int(((report.sources["events"] == 0) & (report.sources["calls"] == 0)).sum())  # a replay comes another day
    unread = int(report.sources["quarantined"].sum())
    return [
        Check("Unrated calls", words.count(unrated), unrated > 0, "unrated"),
        Check("Exceptions", words.count(codes), codes > 0, "exceptions"),
        Check("Silent sources", words.count(silent), silent > 0, "sources"),
        Check("Quarantined reports", words.count(unread), unread > 0, "sources"),
        Check("Open calls", words.count(waiting), False, "open"),
    ]


def _charts(report: NightlyReport) -> list[dict[str, Any]]:
    hours = _records(report.hours)
    destinations = [row for row in _records(traffic(report.destinations)) if row["duration_ms"] and row["key"]]
    ends = sorted(_records(report.dispositions), key=lambda row: (-row["calls"], row["disposition"]))
    calls = sum(row["calls"] for row in ends)
    return [
        {
            "title": "Calls by hour",
            "legend": True,
            "svg": svg.columns(
                "Calls by hour",
                "Calls by the local hour of their end, answered ones dark.",
                [
                    svg.Bar(r["hour"], r["calls"], r["answered"], f"{r['calls']:,} calls, {r['answered']:,} answered")
                    for r in hours
                ],
                unit="calls",
            ),
        },
        {
            "title": "Minutes by hour",
            "legend": False,
            "svg": svg.columns(
                "Minutes by hour",
                "Minutes of the calls by the local hour of their end.",
                [_minutes_bar(row["hour"], row["duration_ms"]) for row in hours],
                unit="min",
            ),
        },
        {
            "title": "Top destinations by minutes",
            "legend": False,
            "svg": svg.rows(
                "Top destinations by minutes",
                "The destinations with the most minutes.",
                [_minutes_bar(row["key"], row["duration_ms"]) for row in destinations[:BARS_MAX]],
            )
            if destinations
            else "",
        },
        {
            "title": "How calls ended",
            "legend": False,
            "svg": svg.rows(
                "How calls ended",
                "Calls by disposition.",
                [
                    svg.Bar(
                        DISPOSITIONS.get(row["disposition"], row["disposition"]),
                        row["calls"],
                        row["calls"] if row["disposition"] == "answered" else 0,
                        f"{row['calls']:,} · {words.share(row['calls'], calls)}",
                    )
                    for row in ends
                ],
            )
            if ends
            else "",
        },
    ]


def _minutes_bar(label: str, duration_ms: int) -> svg.Bar:
    minutes = duration_ms / words.MINUTE_MS
    return svg.Bar(label, minutes, minutes, f"{words.minutes(duration_ms, 0)} min")


def _section(groups: pd.DataFrame, title: str, key: str, nameless: str) -> Section:
    rows = _records(table(groups))
    keys = list(dict.fromkeys(row["key"] for row in rows))
    shown = set(keys[:ROWS_MAX])
    visible = [row for row in rows if row["key"] in shown]
    mixed = any(row["other_price_micros"] is not None or row["other_cost_micros"] is not None for row in visible)
    return Section(title, key, f"{key}s.csv", nameless, visible, len(keys) - len(shown), mixed)
