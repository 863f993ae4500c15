"""Traffic and money of grouped calls: nothing counted twice, no two currencies added."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pytest

from reports import figures
from reports.days import billing_day
from reports.figures import (
    EXCEPTION_GROUP_KINDS,
    GROUP_KINDS,
    JOURNAL_KINDS,
    MINUTE_KINDS,
    QUARANTINE_KINDS,
    SOURCE_KINDS,
    exception_codes,
    first_line_only,
    money,
    table,
    total,
    traffic,
)
from reports.frames import build_frame, check_frame


def groups(*rows: Sequence[Any]) -> pd.DataFrame:
    """key, currency, cost currency, calls, answered, ms, billed s, price, cost"""
    return build_frame(rows, GROUP_KINDS)


def records(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    plain = frame.astype(object)
    return list(plain.where(plain.notna(), None).itertuples(index=False, name=None))


DAY = groups(
    ("acme", "EUR", "EUR", 10, 10, 600_000, 600, 1_000_000, 600_000),
    ("acme", "EUR", "USD", 2, 2, 60_000, 60, 300_000, 250_000),
    ("acme", "", "", 8, 0, 0, 0, None, None),
    ("beta", "", "USD", 1, 1, 30_000, 0, None, 70_000),
    ("gamma", "", "", 3, 0, 0, 0, None, None),
)


def test_calls_without_money_count_in_traffic() -> None:
    assert records(traffic(DAY)) == [
        ("acme", 20, 12, 660_000, 660),
        ("beta", 1, 1, 30_000, 0),
        ("gamma", 3, 0, 0, 0),
    ]


def test_margin_is_of_calls_in_one_currency_only() -> None:
    assert records(money(DAY)) == [
        # key, currency, price, cost, margin, price and cost whose counterpart is in another currency
        ("acme", "EUR", 1_300_000, 600_000, 400_000, 300_000, None),
        ("acme", "USD", None, 250_000, None, None, 250_000),
        ("beta", "USD", None, 70_000, -70_000, None, None),
    ]


def test_total_adds_per_currency() -> None:
    assert records(money(total(DAY))) == [
        ("", "EUR", 1_300_000, 600_000, 400_000, 300_000, None),
        ("", "USD", None, 320_000, -70_000, None, 250_000),
    ]


def test_each_key_stands_once_with_its_traffic() -> None:
    rows = first_line_only(table(DAY))
    assert list(zip(rows["key"], rows["line"], rows["currency"], strict=True)) == [
        ("acme", 1, "EUR"), ("acme", 2, "USD"), ("beta", 1, "USD"), ("gamma", 1, ""),
    ]  # fmt: skip
    assert rows["calls"].sum() == DAY["calls"].sum()
    assert rows["duration_ms"].sum() == DAY["duration_ms"].sum()


def test_nothing_gives_nothing() -> None:
    assert table(groups()).empty
    assert money(total(groups())).empty
    assert exception_codes(build_frame([], EXCEPTION_GROUP_KINDS)).empty
    assert figures.completeness(
        [], *(build_frame([], k) for k in (JOURNAL_KINDS, SOURCE_KINDS, QUARANTINE_KINDS))
    ).empty


def test_large_sums_stay_exact() -> None:
    big = 2**62
    assert records(money(groups(("a", "EUR", "EUR", 1, 1, 1, 1, big + 1, big))))[0][2:5] == (big + 1, big, 1)


def test_joined_exception_codes_are_counted_one_by_one() -> None:
    joined = build_frame([("no_stop;two_clocks", 3, 2), ("no_stop", 4, 0)], EXCEPTION_GROUP_KINDS)
    assert records(exception_codes(joined)) == [("no_stop", 7, 2), ("two_clocks", 3, 2)]


def test_minutes_fall_into_local_hours() -> None:
    minutes = build_frame(
        [
            ("2026-10-24 22:00", 1, 1, 10),  # 00:00 in Berlin
            ("2026-10-25 00:59", 2, 1, 20),  # 02:59 summer time
            ("2026-10-25 01:00", 3, 1, 30),  # 02:00 winter time
            ("2026-10-25 22:59", 4, 1, 40),  # 23:59
        ],
        MINUTE_KINDS,
    )
    hours = figures.hours(minutes, billing_day(date(2026, 10, 25), "Europe/Berlin"))
    assert len(hours) == 25
    assert [row[:2] for row in records(hours) if row[1]] == [("00", 1), ("02+2", 2), ("02+1", 3), ("23", 4)]


def test_silent_source_is_shown() -> None:
    received = build_frame([("proxy-1", 100, 1_795_500_000_000_000)], JOURNAL_KINDS)
    by_source = build_frame([("proxy-1", 50, 40, 39)], SOURCE_KINDS)
    quarantined = build_frame([("stranger", 2)], QUARANTINE_KINDS)
    assert records(figures.completeness(["proxy-1", "proxy-2"], received, by_source, quarantined)) == [
        ("proxy-1", 100, datetime(2026, 11, 24, 6, tzinfo=UTC), 50, 40, 39, 0),
        ("proxy-2", 0, None, 0, 0, 0, 0),
        ("stranger", 0, None, 0, 0, 0, 2),
    ]


def test_frame_of_other_columns_or_types_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        check_frame(DAY.astype({"calls": "float64"}), GROUP_KINDS)
    with pytest.raises(AssertionError):
        traffic(DAY.drop(columns="calls"))
    with pytest.raises(AssertionError, match="float"):
        groups(("a", "EUR", "EUR", 1, 1, 1, 1, 1.5, 1))
    with pytest.raises(AssertionError, match="bytes"):
        groups((b"a", "EUR", "EUR", 1, 1, 1, 1, 1, 1))
