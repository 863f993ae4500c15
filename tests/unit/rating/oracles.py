"""Tariffs and calls of other engines, turned into deck files of ours where a deck file can say them.

A tariff goes the whole way: CSV text, parse_deck, compile_version, rate_calls. What cannot be said comes back as the
reason why, so that a test can count and name what is left out.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from accounting.base.clock import to_us
from accounting.base.money import format_micros
from cdr.rating.book import Assignment, DeckVersion, Rated, RateRequest, build_book, compile_version, rate_calls
from cdr.rating.deck import parse_deck
from cdr.rating.price import Rounding

DATA = Path(__file__).parent.parent.parent / "data" / "oracles"
ROUNDINGS = {"up": Rounding.UP, "middle": Rounding.HALF_UP, "down": Rounding.DOWN}


class Line(NamedTuple):
    """One line of a deck file, in whole units and minutes."""

    prefix: str
    rate: str
    connect_fee: str = "0"
    initial_s: int = 1
    increment_s: int = 1
    minimum_s: int = 0
    max_price: str = ""


class Tariff(NamedTuple):
    """A deck: its lines and how it rounds."""

    lines: list[Line]
    decimals: int = 4
    rounding: Rounding = Rounding.HALF_UP


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / name).read_text())
    return content


def rate(tariff: Tariff | None, number: str, duration_s: int, at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> Rated:
    """Rate one call by a deck of these lines; None: by no deck."""
    versions, assignments = [], []
    if tariff is not None:
        text = [",".join(["destination", *Line._fields])]
        text += [",".join(["somewhere", *map(str, line)]) for line in tariff.lines]
        parsed = parse_deck("\n".join(text).encode(), ZoneInfo("UTC"))
        assert not parsed.mistakes, parsed.mistakes
        version = DeckVersion(1, 1, "oracle", 1, "EUR", tariff.decimals, tariff.rounding)
        versions, assignments = [compile_version(version, parsed.rates)], [Assignment(1, 1, 1)]
    book = build_book(versions, assignments)
    return rate_calls(book, [RateRequest(1, f"+{number}", to_us(at), duration_s * 1000)])[0]


def cost(tariff: Tariff | None, number: str, duration_s: int) -> Decimal:
    rated = rate(tariff, number, duration_s)
    assert rated.reason == ""
    return Decimal(format_micros(rated.amount_micros, rated.decimals))


def decimal(value: Fraction) -> str:
    """Return an exact decimal of at most nine places."""
    nanos = value * 10**9
    assert nanos.denominator == 1, value
    return f"{nanos.numerator // 10**9}.{nanos.numerator % 10**9:09d}"


# ---- CGRateS ----------------------------------------------------------------------------------------------------


def cgrates_tariff(content: dict[str, Any], case: dict[str, Any]) -> Tariff | str | None:
    """Return the deck in which a case's plan says what it says; None where the caller has no plan; a text: why not.

    Left out are other services than calls, later parts of a call, plans that fall back to another subject's, a plan or
    a time band that changes during the call, and rates of more groups than an initial and a following one.
    """
    tariffs = content["tariff_sets"][case["set"]]
    if not case["destination"].lstrip("+").isdigit() or case["category"] in ("data", "sms", "mms", "generic"):
        return "not a telephone call"
    if not case["first_part"]:
        return "a later part of a call"
    start = datetime.fromisoformat(case["start_utc"])
    duration_s = int(case["usage"])
    instants = [start, *_minutes(start, duration_s)]
    profiles = [_profile(tariffs, case, instant) for instant in instants]
    if profiles[0] is None:
        return None
    if any(profile != profiles[0] for profile in profiles):
        return "the plan changes during the call"
    options = [_option(tariffs, profiles[0]["plan"], case["destination"], instant) for instant in instants]
    if any(option != options[0] for option in options):
        return "a time band ends during the call"
    if options[0] is None:
        return "a fallback plan" if profiles[0]["fallback"] else Tariff([Line("000000", "1")])
    return _tariff(tariffs, *options[0], duration_s)


def _minutes(start: datetime, duration_s: int) -> list[datetime]:
    """Return the beginnings of the minutes of a call; all bands begin at one."""
    first = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    end = start + timedelta(seconds=duration_s)
    return [minute for i in range(duration_s // 60 + 1) if (minute := first + timedelta(minutes=i)) < end]


def _profile(tariffs: dict[str, Any], case: dict[str, Any], at: datetime) -> dict[str, Any] | None:
    for subject in (case["subject"], "*any"):
        known = [
            profile
            for profile in tariffs["rating_profiles"]
            if (profile["tenant"], profile["category"], profile["subject"])
            == (case["tenant"], case["category"], subject)
        ]
        if known:
            begun = [profile for profile in known if datetime.fromisoformat(profile["activation"]) <= at]
            return max(begun, key=lambda profile: profile["activation"], default=None)
    return None


def _option(
    tariffs: dict[str, Any], plan: str, destination: str, at: datetime
) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """Return (prefixes, destination rate) of the longest prefix, in the band of highest weight, then latest start."""
    found = []
    for entry in tariffs["rating_plans"][plan]:
        for option in tariffs["destination_rates"][entry["destination_rates"]]:
            prefixes = tariffs["destinations"].get(option["destination"], ["*any"])
            longest = max(
                (len(p) for p in prefixes if destination.startswith(p)), default=0 if "*any" in prefixes else -1
            )
            if longest >= 0:
                found.append((longest, entry, option, prefixes))
    longest = max((length for length, *_ in found), default=-1)
    banded = []
    for length, entry, option, prefixes in found:
        start = _band_start(tariffs, entry["timing"], at)
        if length == longest and start is not None:
            banded.append((entry["weight"], start, option, prefixes))
    if not banded:
        return None
    *_, option, prefixes = max(banded, key=lambda band: band[:2])
    known = tuple(p.lstrip("+") for p in prefixes if p.startswith("+") == destination.startswith("+"))
    return ("*any",) if prefixes == ["*any"] else known, option


def _band_start(tariffs: dict[str, Any], name: str, at: datetime) -> str | None:
    """Return the time of day a band began if it covers an instant."""
    if name == "*any":
        return "00:00:00"
    band = tariffs["timings"][name]
    start = "00:00:00" if band["start"] == "*asap" else band["start"]
    days = (("months", at.month), ("monthdays", at.day), ("weekdays", at.isoweekday()), ("years", at.year))
    if any(band[field] != "*any" and str(now) not in band[field].split(";") for field, now in days):
        return None
    return start if start <= f"{at:%H:%M:%S}" else None


def _tariff(
    tariffs: dict[str, Any], prefixes: tuple[str, ...], option: dict[str, Any], duration_s: int
) -> Tariff | str:
    groups = tariffs["rates"][option["rate"]]
    first = groups[0]
    reached = [group for group in groups if int(group["group_start"]) < duration_s] or [first]
    increments = [int(group["increment"]) for group in reached]
    if len(reached) == 1:  # later groups do not matter to this call
        per_minute, connect, initial = _per_minute(first), Fraction(first["connect_fee"]), increments[0]
    elif len(reached) == 2 and int(reached[1]["group_start"]) % increments[0] == 0:
        # the first group is charged whole, so what it costs more than the second is as good as a connect fee
        initial, per_minute = int(reached[1]["group_start"]), _per_minute(reached[1])
        connect = Fraction(first["connect_fee"]) + (_per_minute(first) - per_minute) * initial / 60
    else:
        return "more rate groups than an initial and a following one"
    limit = option["max_cost"] if option["max_cost_strategy"] == "free" else None
    line = Line("", decimal(per_minute), decimal(connect), initial, increments[-1], 0, limit or "")
    expanded = "0123456789" if prefixes == ("*any",) else prefixes
    decimals = min(option["decimals"], 6)  # 20 decimals: their prices have fewer than six
    return Tariff([line._replace(prefix=p) for p in expanded], decimals, ROUNDINGS[option["rounding"]])


def _per_minute(group: dict[str, Any]) -> Fraction:
    price, unit = Fraction(group["rate"]), int(group["rate_unit"])
    return price * 60 / unit if price else Fraction(0)


# ---- rate-o-mat -------------------------------------------------------------------------------------------------


def rateomat_tariff(content: dict[str, Any], case: dict[str, Any]) -> Tariff | str:
    """Return the deck (in cents) of a case's fee, a text: why not. Rates there are per second."""
    fee = content["fees"][case["fee"]]
    if "real_cost_cents" not in case["expected"]:
        return "its cost is not told"
    if "free_s" in case:
        return "free seconds"
    if any("extra" in name for name in fee):
        return "extra second"
    if any(fee[f"on_{name}"] != fee[f"off_{name}"] for name in ("init_rate", "init_interval", "follow_rate")):
        return "time bands"
    initial, increment = int(fee["on_init_interval"]), int(fee["on_follow_interval"])
    first, later = Fraction(fee["on_init_rate"]), Fraction(fee["on_follow_rate"])
    if first < 0 or later < 0:
        return "negative rates"
    return Tariff([Line("43", decimal(later * 60), decimal((first - later) * initial), initial, increment)])


# ---- CDRTool, Siremis, ASTPP ------------------------------------------------------------------------------------


def cdrtool_tariff(case: dict[str, Any]) -> Tariff | str:
    """Return the deck of a worked example, a text: why not. Prices are rounded half up to four places."""
    given = case["input"]
    if "max_duration_s" in given:
        return "seconds that are not charged beyond a maximum"
    increment = given.get("increment_s", 1)
    line = Line(
        "43", given["rate_per_60s"], given["connect"], increment, increment, given.get("min_duration_s", 0),
        given.get("max_price", ""),
    )  # fmt: skip
    return Tariff([line])


def siremis_tariff(case: dict[str, Any]) -> Tariff:
    """Return the deck of rate_unit * ceil(duration / time_unit)."""
    unit = case["time_unit"]
    return Tariff([Line("43", decimal(Fraction(case["rate_unit"] * 60, unit)), "0", unit, unit)])


def astpp_tariff(case: dict[str, Any]) -> Tariff | str:
    """Return the deck of a case, a text: why not."""
    if case["included_s"]:
        return "free seconds that are taken off the duration"
    return Tariff([Line("43", case["cost_per_min"], case["connect"], case["init_s"], case["increment_s"])])
