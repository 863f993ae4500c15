"""A day's figures from grouped CDRs: traffic, and money by currency. Pure: frames in, frames out.

Two currencies are never added. Money is whole micros, durations whole milliseconds.
"""

from collections.abc import Sequence

import pandas as pd

from reports.days import BillingDay, hours_of
from reports.frames import Kind, Kinds, build_frame, check_frame

GROUP_KINDS: Kinds = {  # one row for each key and pair of currencies; key is an account, a destination ...
    "key": Kind.TEXT,
    "currency": Kind.TEXT,  # '' without a price
    "cost_currency": Kind.TEXT,
    "calls": Kind.INTEGER,
    "answered": Kind.INTEGER,
    "duration_ms": Kind.INTEGER,
    "billed_s": Kind.INTEGER,
    "price_micros": Kind.INTEGER,  # missing without a price
    "cost_micros": Kind.INTEGER,
}
TRAFFIC_KINDS: Kinds = {
    "key": Kind.TEXT,
    "calls": Kind.INTEGER,
    "answered": Kind.INTEGER,
    "duration_ms": Kind.INTEGER,
    "billed_s": Kind.INTEGER,
}
MONEY_KINDS: Kinds = {  # one row for each key and currency
    "key": Kind.TEXT,
    "currency": Kind.TEXT,
    "price_micros": Kind.INTEGER,
    "cost_micros": Kind.INTEGER,
    "margin_micros": Kind.INTEGER,  # missing where price and cost are never in the same currency
    "other_price_micros": Kind.INTEGER,  # part of the price whose cost is in another currency: not in the margin
    "other_cost_micros": Kind.INTEGER,
}
DISPOSITION_KINDS: Kinds = {"disposition": Kind.TEXT, "calls": Kind.INTEGER}
MINUTE_KINDS: Kinds = {
    "minute": Kind.TEXT,  # UTC, YYYY-MM-DD HH:MM
    "calls": Kind.INTEGER,
    "answered": Kind.INTEGER,
    "duration_ms": Kind.INTEGER,
}
HOUR_KINDS: Kinds = {
    "hour": Kind.TEXT,
    "calls": Kind.INTEGER,
    "answered": Kind.INTEGER,
    "duration_ms": Kind.INTEGER,
}
UNRATED_KINDS: Kinds = {
    "rating_reason": Kind.TEXT,
    "account": Kind.TEXT,
    "calls": Kind.INTEGER,
    "duration_ms": Kind.INTEGER,
}
UNRATED_CALL_KINDS: Kinds = {
    "id": Kind.INTEGER,
    "closed_at": Kind.INSTANT,
    "account": Kind.TEXT,
    "called": Kind.TEXT,
    "duration_ms": Kind.INTEGER,
    "rating_reason": Kind.TEXT,
}
REASON_KINDS: Kinds = {"rating_reason": Kind.TEXT, "calls": Kind.INTEGER, "duration_ms": Kind.INTEGER}
EXCEPTION_GROUP_KINDS: Kinds = {"exception": Kind.TEXT, "calls": Kind.INTEGER, "undismissed": Kind.INTEGER}
EXCEPTION_KINDS: Kinds = {"code": Kind.TEXT, "calls": Kind.INTEGER, "undismissed": Kind.INTEGER}
CALL_EXCEPTION_KINDS: Kinds = {
    "reason": Kind.TEXT,
    "calls": Kind.INTEGER,
    "on_day": Kind.INTEGER,
    "oldest_at": Kind.INSTANT,
}
OPEN_KINDS: Kinds = {
    "source": Kind.TEXT,
    "calls": Kind.INTEGER,
    "answered": Kind.INTEGER,
    "oldest_at": Kind.INSTANT,
}
SOURCE_KINDS: Kinds = {
    "source": Kind.TEXT,
    "calls": Kind.INTEGER,
    "answered": Kind.INTEGER,
    "ended": Kind.INTEGER,  # answered calls whose end a report told
}
QUARANTINE_KINDS: Kinds = {"source": Kind.TEXT, "quarantined": Kind.INTEGER}
JOURNAL_KINDS: Kinds = {"source": Kind.TEXT, "events": Kind.INTEGER, "last_us": Kind.INTEGER}
COMPLETENESS_KINDS: Kinds = {
    "source": Kind.TEXT,
    "events": Kind.INTEGER,
    "last_at": Kind.INSTANT,  # missing: nothing that day
    "calls": Kind.INTEGER,
    "answered": Kind.INTEGER,
    "ended": Kind.INTEGER,
    "quarantined": Kind.INTEGER,
}
SUMS = ["calls", "answered", "duration_ms", "billed_s"]


def traffic(groups: pd.DataFrame) -> pd.DataFrame:
    """Return calls and durations of each key, longest duration first."""
    check_frame(groups, GROUP_KINDS)
    sums = groups.groupby("key", as_index=False, sort=True)[SUMS].sum()
    ordered = sums.sort_values(["duration_ms", "calls", "key"], ascending=[False, False, True], ignore_index=True)
    return check_frame(_typed(ordered, TRAFFIC_KINDS), TRAFFIC_KINDS)


def money(groups: pd.DataFrame) -> pd.DataFrame:
    """Return price, cost and margin of each key and currency.

    The margin is of the calls whose price and cost are in this currency, or that have only one of the two.
    """
    check_frame(groups, GROUP_KINDS)
    priced, bought = groups["currency"] != "", groups["cost_currency"] != ""
    mixed = priced & bought & (groups["currency"] != groups["cost_currency"])
    columns = [
        _sum(groups[priced], "currency", "price_micros", "price_micros"),
        _sum(groups[bought], "cost_currency", "cost_micros", "cost_micros"),
        _sum(groups[priced & ~mixed], "currency", "price_micros", "own_price"),
        _sum(groups[bought & ~mixed], "cost_currency", "cost_micros", "own_cost"),
        _sum(groups[mixed], "currency", "price_micros", "other_price_micros"),
        _sum(groups[mixed], "cost_currency", "cost_micros", "other_cost_micros"),
    ]
    merged = columns[0]
    for column in columns[1:]:
        merged = merged.merge(column, how="outer", on=["key", "currency"], validate="one_to_one")
    either = merged["own_price"].notna() | merged["own_cost"].notna()
    margin = (merged["own_price"].fillna(0) - merged["own_cost"].fillna(0)).where(either)
    result = merged.assign(margin_micros=margin).sort_values(["key", "currency"], ignore_index=True)
    return check_frame(_typed(result, MONEY_KINDS), MONEY_KINDS)


def total(groups: pd.DataFrame) -> pd.DataFrame:
    """Return the groups with one key for all, to be summed as a whole."""
    return check_frame(groups.assign(key=pd.array([""] * len(groups), dtype=Kind.TEXT.value)), GROUP_KINDS)


def table(groups: pd.DataFrame) -> pd.DataFrame:
    """Return traffic and money side by side: one row for each key and currency, `line` counting those of a key from 1.

    A key without money has one row with an empty currency.
    """
    joined = traffic(groups).merge(money(groups), how="left", on="key", validate="one_to_many")
    line = (joined.groupby("key", sort=False).cumcount() + 1).astype(Kind.INTEGER.value)
    empty = joined["currency"].isna()
    return joined.assign(line=line, currency=joined["currency"].mask(empty, ""))


def first_line_only(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of table() with traffic on the first line of each key only, so that a column can be summed."""
    return rows.assign(**{name: rows[name].where(rows["line"] == 1) for name in SUMS})


def exception_codes(groups: pd.DataFrame) -> pd.DataFrame:
    """Return calls by single exception code from groups by the joined codes (exception, calls, undismissed)."""
    codes = groups.assign(code=groups["exception"].str.split(";")).explode("code", ignore_index=True)
    codes = codes.assign(code=codes["code"].astype(Kind.TEXT.value))
    sums = codes.groupby("code", as_index=False)[["calls", "undismissed"]].sum()
    ordered = sums.sort_values(["calls", "code"], ascending=[False, True], ignore_index=True)
    return check_frame(_typed(ordered, EXCEPTION_KINDS), EXCEPTION_KINDS)


def hours(minutes: pd.DataFrame, day: BillingDay) -> pd.DataFrame:
    """Return calls by the day's local hours, those without calls too."""
    check_frame(minutes, MINUTE_KINDS)
    spans = hours_of(day)
    starts = pd.Series([hour.start for hour in spans], dtype=Kind.INSTANT.value)
    at = pd.to_datetime(minutes["minute"], format="%Y-%m-%d %H:%M", utc=True).astype(Kind.INSTANT.value)
    place = pd.Series(starts.searchsorted(at, side="right") - 1, dtype=Kind.INTEGER.value, index=minutes.index)
    sums = minutes.assign(place=place).groupby("place")[["calls", "answered", "duration_ms"]].sum()
    full = sums.reindex(range(len(spans)), fill_value=0).reset_index(drop=True)
    return check_frame(_typed(full.assign(hour=[hour.label for hour in spans]), HOUR_KINDS), HOUR_KINDS)


def completeness(
    configured: Sequence[str], received: pd.DataFrame, by_source: pd.DataFrame, quarantined: pd.DataFrame
) -> pd.DataFrame:
    """Return, for every source that is configured or was heard of, what came of it that day."""
    check_frame(received, JOURNAL_KINDS)
    check_frame(by_source, SOURCE_KINDS)
    check_frame(quarantined, QUARANTINE_KINDS)
    names = sorted({*configured, *received["source"], *by_source["source"], *quarantined["source"]})
    if not names:
        return build_frame([], COMPLETENESS_KINDS)
    merged = build_frame([(name,) for name in names], {"source": Kind.TEXT})
    for frame in (received, by_source, quarantined):
        merged = merged.merge(frame, how="left", on="source", validate="one_to_one")
    counts = {name: merged[name].fillna(0) for name in ("events", "calls", "answered", "ended", "quarantined")}
    last_at = pd.to_datetime(merged["last_us"], unit="us", utc=True)
    return check_frame(_typed(merged.assign(last_at=last_at, **counts), COMPLETENESS_KINDS), COMPLETENESS_KINDS)


def _sum(groups: pd.DataFrame, currency: str, column: str, name: str) -> pd.DataFrame:
    """Return the sum of a column by key and currency; missing where all of it is missing."""
    frame = pd.DataFrame({"key": groups["key"], "currency": groups[currency], name: groups[column]})
    sums = frame.groupby(["key", "currency"], as_index=False)[[name]].sum(min_count=1)
    return _typed(sums, {"key": Kind.TEXT, "currency": Kind.TEXT, name: Kind.INTEGER})


def _typed(frame: pd.DataFrame, kinds: Kinds) -> pd.DataFrame:
    if frame.empty:  # a fresh one: pandas 3.1 cannot merge what groupby leaves of nothing
        return build_frame([], kinds)
    return frame[list(kinds)].astype({name: kind.value for name, kind in kinds.items()})
