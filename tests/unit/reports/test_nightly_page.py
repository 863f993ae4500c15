"""The nightly page and its CSV files, of made-up figures."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any

from reports import figures
from reports.days import billing_day
from reports.frames import build_frame
from reports.views.nightly import NightlyReport, csv_files
from reports.views.nightly_html import ROWS_MAX, nightly_html

DAY = billing_day(date(2026, 11, 23), "Europe/Berlin")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAUGHTY = '<script>alert("x")</script>'
VOID = {"meta", "br", "line", "rect"}


def report(**rows: Sequence[Any]) -> NightlyReport:
    kinds: Mapping[str, Any] = {
        "accounts": figures.GROUP_KINDS,
        "destinations": figures.GROUP_KINDS,
        "carriers": figures.GROUP_KINDS,
        "dispositions": figures.DISPOSITION_KINDS,
        "unrated": figures.UNRATED_KINDS,
        "longest_unrated": figures.UNRATED_CALL_KINDS,
        "not_billable": figures.REASON_KINDS,
        "exceptions": figures.EXCEPTION_KINDS,
        "call_exceptions": figures.CALL_EXCEPTION_KINDS,
        "open_calls": figures.OPEN_KINDS,
        "sources": figures.COMPLETENESS_KINDS,
    }
    frames = {name: build_frame(rows.get(name, ()), kind) for name, kind in kinds.items()}
    hours = figures.hours(build_frame(rows.get("minutes", ()), figures.MINUTE_KINDS), DAY)
    return NightlyReport(day=DAY, produced_at=NOON, missing=(), hours=hours, **frames)


def full() -> NightlyReport:
    group = (NAUGHTY, "EUR", "EUR", 10, 6, 600_000, 600, 12_345_678, 9_000_000)
    return report(
        accounts=[group, ("=cmd()", "EUR", "USD", 2, 2, 60_000, 60, 1_000_000, 500_000)],
        destinations=[group],
        carriers=[group],
        dispositions=[("answered", 8), ("busy", 4)],
        minutes=[("2026-11-23 10:00", 12, 8, 660_000)],
        unrated=[("no_rate", NAUGHTY, 1, 1000)],
        longest_unrated=[(4294967297, NOON, NAUGHTY, NAUGHTY, 3_725_000, "no_rate")],
        not_billable=[("on_net", 3, 5000)],
        exceptions=[("no_stop", 2, 1)],
        call_exceptions=[("stop_without_start", 5, 1, NOON)],
        open_calls=[(NAUGHTY, 3, 2, NOON)],
        sources=[(NAUGHTY, 100, NOON, 12, 8, 7, 1), ("gateway", 0, None, 0, 0, 0, 0)],
    )


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.open, self.tags = "", list[str](), set[str]()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_csv(files: Mapping[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[name].decode())))


def test_what_came_from_outside_is_escaped() -> None:
    page = Page(nightly_html(full()).decode())
    assert "script" not in page.tags
    assert NAUGHTY in page.text


def test_page_needs_nothing_else() -> None:
    html = nightly_html(full()).decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//|@import|url\(|<link|<img|<script|src=", html)
    assert set(re.findall(r'href="([^"#]+)"', html)) == {"accounts.csv", "destinations.csv", "carriers.csv"}


def test_page_says_day_zone_and_figures() -> None:
    text = Page(nightly_html(full()).decode()).text
    for words in (
        "Monday, 23 November 2026", "Europe/Berlin", "2026-11-23 00:00:00 to 2026-11-24 00:00:00 (24 hours)",
        "produced 2026-11-23 13:00:00", "Settled", "66.7 %", "13.35", "nothing this day", "1:02:05", "87.5 %",
    ):  # fmt: skip
        assert words in text


def test_source_whose_reports_came_on_another_day_is_not_silent() -> None:
    replayed = nightly_html(report(sources=[("proxy-1", 0, None, 12, 8, 8, 0)])).decode()
    assert "on another day" in replayed
    assert "nothing this day" not in replayed
    assert "nothing this day" in nightly_html(full()).decode()


def test_preliminary_page_says_what_is_missing() -> None:
    text = Page(nightly_html(replace(full(), missing=("the day has not ended",))).decode()).text
    assert "Preliminary" in text
    assert "the day has not ended" in text
    assert "Settled" not in text


def test_day_without_calls_is_a_page() -> None:
    text = Page(nightly_html(report()).decode()).text
    assert "No calls on this day." in text
    files = csv_files(report())
    assert all(content.count(b"\n") == 1 for content in files.values())


def test_long_tables_point_at_the_file() -> None:
    many = [(f"account {n:03d}", "EUR", "", 1, 1, 1000 + n, 1, 100, None) for n in range(ROWS_MAX + 7)]
    text = Page(nightly_html(report(accounts=many)).decode()).text
    assert "7 more in accounts.csv" in text
    assert "account 000" not in text
    assert len(read_csv(csv_files(report(accounts=many)), "accounts.csv")) == len(many)


def test_csv_files_are_exact() -> None:
    files = csv_files(full())
    assert read_csv(files, "accounts.csv") == [
        {"account": NAUGHTY, "calls": "10", "answered": "6", "asr_percent": "60.0", "acd_s": "100.0",
         "minutes": "10.00", "duration_ms": "600000", "billed_s": "600", "currency": "EUR", "price": "12.345678",
         "cost": "9.00", "margin": "3.345678", "other_price": "", "other_cost": ""},
        {"account": "'=cmd()", "calls": "2", "answered": "2", "asr_percent": "100.0", "acd_s": "30.0",
         "minutes": "1.00", "duration_ms": "60000", "billed_s": "60", "currency": "EUR", "price": "1.00",
         "cost": "", "margin": "", "other_price": "1.00", "other_cost": ""},
        {"account": "'=cmd()", "calls": "", "answered": "", "asr_percent": "", "acd_s": "", "minutes": "",
         "duration_ms": "", "billed_s": "", "currency": "USD", "price": "", "cost": "0.50", "margin": "",
         "other_price": "", "other_cost": "0.50"},
    ]  # fmt: skip
    assert read_csv(files, "exceptions.csv") == [
        {"kind": "cdr", "code": "no_stop", "calls": "2", "open": "1"},
        {"kind": "no_cdr", "code": "stop_without_start", "calls": "1", "open": "5"},
    ]
    assert read_csv(files, "sources.csv")[0]["with_stop_percent"] == "87.5"
    assert read_csv(files, "sources.csv")[1]["last_received_at"] == ""
    assert read_csv(files, "unrated.csv") == [
        {"reason": "no_rate", "account": NAUGHTY, "calls": "1", "duration_ms": "1000"}
    ]
