"""The command that compares what several sources say of the same calls."""

from datetime import date
from typing import Annotated

import typer

from accounting.base import clock
from accounting.base.cli import ConfigOption, JsonOption, as_json
from accounting.base.config import Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.db.engine import Database, open_database
from accounting.event import AccountingEvent
from cdr.differences import SHOWN_MAX, Comparison, Pair, as_dict, views_of
from cdr.evidence import EvidenceReader
from cdr.pairing import PairingLimits
from cdr.pairing_evidence import SECOND_US
from reports.days import BillingDay, billing_day

app = typer.Typer()


@app.command()
def reconcile(
    day: Annotated[
        str, typer.Option("--date", metavar="YYYY-MM-DD", help="The day the calls ended on, in [reports] timezone.")
    ],
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Tell where two sources differ: calls that only one of them saw, other durations, codes or parties.

    What it prints, and how far two figures may lie apart: docs/reference/reconcile.md

    Example: tollbook reconcile --date 2026-11-24
    """
    settings = load_settings(config)
    wanted = billing_day(_date(day), settings.reports.timezone)
    with open_database(settings.database.url) as database:
        found = compare_day(database, settings, wanted)
    if json:
        as_json({"date": day, "timezone": wanted.timezone, **as_dict(found)})
        return
    for line in _lines(found, wanted):
        typer.echo(line)


def compare_day(database: Database, settings: Settings, day: BillingDay) -> Comparison:
    """Return what the sources of a day's calls say, each alone, compared two by two."""
    from cdr.store.exceptions import load_overrides  # late, as other commands do: it brings numpy
    from cdr.store.witnesses import ended_between

    p = settings.pairing
    limits = PairingLimits(
        p.max_age_s * SECOND_US, p.stop_grace_s * SECOND_US, p.media_grace_s * SECOND_US, p.reuse_gap_s * SECOND_US,
        p.media_gap_s * SECOND_US,
    )  # fmt: skip
    now_us = clock.now_us()
    reader = EvidenceReader(database)
    comparison = Comparison()
    with database.read() as conn, database.read() as aside:
        for calls in ended_between(conn, day.start, day.end):
            refs = sorted(ref for call in calls for ref in call.refs)
            events, _ = reader.translate(reader.fetch(refs), load_overrides(aside, refs))
            by_ref: dict[int, AccountingEvent] = {event.ref: event for event in events}
            for call in calls:
                evidence = [by_ref[ref] for ref in call.refs if ref in by_ref]
                comparison.add(call.cdr_id, call.call_id, views_of(evidence, now_us=now_us, limits=limits))
    return comparison


def _lines(found: Comparison, day: BillingDay) -> list[str]:
    told = ", ".join(f"{source} {calls}" for source, calls in sorted(found.seen.items()))
    lines = [f"{day.day} ({day.timezone}): {found.calls} calls{f', seen by {told}' if told else ''}"]
    if len(found.seen) < 2:
        return [*lines, "Fewer than two sources reported calls: there is nothing to compare."]
    pairs = found.pairs()
    if not pairs:
        return [*lines, "No call was seen by two sources: they watch different traffic."]
    for pair in pairs:
        lines += _pair_lines(pair)
    return lines


def _pair_lines(pair: Pair) -> list[str]:
    differing = ", ".join(f"{figure} {calls}" for figure, calls in sorted(pair.differing.items()))
    lines = ["", f"{pair.first} and {pair.second}: {pair.both} calls seen by both; differing: {differing or 'none'}"]
    for name in (pair.first, pair.second):
        lines.append(f"  seen by {name} only: {pair.only[name]}")
        lines += [f"    cdr {one.cdr_id}  {one.call_id}" for one in pair.only_shown[name]]
        lines += _more(pair.only[name], len(pair.only_shown[name]))
    for d in pair.differing_shown:
        lines.append(f"  {d.figure}: {pair.first} {d.first}, {pair.second} {d.second}    cdr {d.cdr_id}  {d.call_id}")
    return lines + _more(sum(pair.differing.values()), len(pair.differing_shown))


def _more(count: int, shown: int) -> list[str]:
    return [f"    and {count - shown} more; at most {SHOWN_MAX} are listed"] if count > shown else []


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise TollbookError(f"--date {text!r} is not a day; write it like 2026-11-24") from None
