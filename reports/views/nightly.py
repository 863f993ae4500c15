"""A day's report as values, and its CSV files. Pure: frames in, bytes out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import pandas as pd

from accounting.base.clock import iso_ms
from accounting.base.money import format_exact
from reports.days import BillingDay
from reports.figures import first_line_only, table
from reports.views import words
from reports.views.csv import frame_csv

PLACES_OF_MONEY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyReport:
    """All that is told about a day. The frames are those of reports.figures."""

    day: BillingDay
    produced_at: datetime
    missing: tuple[str, ...]  # why the figures are preliminary; () = the day is settled
    accounts: pd.DataFrame  # GROUP_KINDS
    destinations: pd.DataFrame
    carriers: pd.DataFrame
    dispositions: pd.DataFrame
    hours: pd.DataFrame
    unrated: pd.DataFrame
    longest_unrated: pd.DataFrame
    not_billable: pd.DataFrame
    exceptions: pd.DataFrame
    call_exceptions: pd.DataFrame
    open_calls: pd.DataFrame
    sources: pd.DataFrame


def csv_files(report: NightlyReport) -> dict[str, bytes]:
    """Return the report's tables as CSV files by name."""
    return {
        "accounts.csv": _traffic_csv("account", report.accounts),
        "destinations.csv": _traffic_csv("destination", report.destinations),
        "carriers.csv": _traffic_csv("carrier", report.carriers),
        "unrated.csv": frame_csv(report.unrated.rename(columns={"rating_reason": "reason"})),
        "exceptions.csv": _exceptions_csv(report),
        "sources.csv": _sources_csv(report.sources),
    }


def _traffic_csv(key: str, groups: pd.DataFrame) -> bytes:
    rows = table(groups)
    traffic = first_line_only(rows)
    calls, answered, duration_ms = (
        traffic[name].astype(object).tolist() for name in ("calls", "answered", "duration_ms")
    )
    return frame_csv(
        pd.DataFrame(
            {
                key: rows["key"],
                "calls": traffic["calls"],
                "answered": traffic["answered"],
                "asr_percent": _texts(list(map(_asr, answered, calls))),
                "acd_s": _texts(list(map(_acd, duration_ms, answered))),
                "minutes": _texts(list(map(_minutes, duration_ms))),
                "duration_ms": traffic["duration_ms"],
                "billed_s": traffic["billed_s"],
                "currency": rows["currency"],
                "price": _money(rows["price_micros"]),
                "cost": _money(rows["cost_micros"]),
                "margin": _money(rows["margin_micros"]),
                "other_price": _money(rows["other_price_micros"]),
                "other_cost": _money(rows["other_cost_micros"]),
            }
        )
    )


def _exceptions_csv(report: NightlyReport) -> bytes:
    cdrs = pd.DataFrame(
        {
            "kind": _texts(["cdr"] * len(report.exceptions)),
            "code": report.exceptions["code"],
            "calls": report.exceptions["calls"],
            "open": report.exceptions["undismissed"],
        }
    )
    without = pd.DataFrame(
        {
            "kind": _texts(["no_cdr"] * len(report.call_exceptions)),
            "code": report.call_exceptions["reason"],
            "calls": report.call_exceptions["on_day"],
            "open": report.call_exceptions["calls"],
        }
    )
    return frame_csv(pd.concat([cdrs, without], ignore_index=True))


def _sources_csv(sources: pd.DataFrame) -> bytes:
    ended = list(map(_asr, sources["ended"].astype(object), sources["answered"].astype(object)))
    return frame_csv(
        pd.DataFrame(
            {
                "source": sources["source"],
                "events": sources["events"],
                "last_received_at": _texts([iso_ms(None if at is pd.NaT else at) for at in sources["last_at"]]),
                "calls": sources["calls"],
                "answered": sources["answered"],
                "with_stop": sources["ended"],
                "with_stop_percent": _texts(ended),
                "quarantined": sources["quarantined"],
            }
        )
    )


def _texts(values: list[str]) -> pd.Series:
    return pd.Series(values, dtype="string[pyarrow]")


def _money(micros: pd.Series) -> pd.Series:
    return _texts(["" if value is pd.NA else format_exact(value, PLACES_OF_MONEY) for value in micros.astype(object)])


def _given(function: Callable[..., str]) -> Callable[..., str]:
    """Return the function with '' for missing arguments."""

    def call(*values: object) -> str:
        return "" if any(value is pd.NA for value in values) else function(*values)

    return call


@_given
def _asr(part: int, whole: int) -> str:
    return f"{words.rounded(Decimal(100 * part) / whole, 1)}" if whole else ""


@_given
def _acd(duration_ms: int, calls: int) -> str:
    return f"{words.rounded(Decimal(duration_ms) / calls / 1000, 1)}" if calls else ""


@_given
def _minutes(duration_ms: int) -> str:
    return f"{words.rounded(Decimal(duration_ms) / words.MINUTE_MS, 2)}"
