"""Deck files: what they say, and every mistake in them with line and column."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from accounting.base.clock import to_us
from cdr.rating.book import Rate
from cdr.rating.deck import MISTAKES_SHOWN_MAX, Mistake, describe_mistakes, parse_deck
from cdr.rating.price import Tariff

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
HEADER = "prefix,destination,rate"
FULL = HEADER + ",connect_fee,initial_s,increment_s,minimum_s,grace_s,effective_from,effective_to,band,max_price"


def rates(text: str | bytes, zone: ZoneInfo = UTC_ZONE) -> list[Rate]:
    parsed = parse_deck(text if isinstance(text, bytes) else text.encode(), zone)
    assert parsed.mistakes == []
    return parsed.rates


def mistakes(text: str | bytes) -> list[Mistake]:
    parsed = parse_deck(text if isinstance(text, bytes) else text.encode(), UTC_ZONE)
    assert parsed.mistakes
    assert parsed.rates == []
    return parsed.mistakes


def places(text: str | bytes) -> list[tuple[int, str]]:
    return [(mistake.line, mistake.column) for mistake in mistakes(text)]


def test_deck_without_increments_is_1_1():
    assert rates(f"{HEADER}\n49,Germany,0.02\n") == [Rate(0, "49", "Germany", Tariff(20_000_000), line=2)]


def test_every_column_is_read():
    line = "4915,Germany mobile,0.1234567,0.05,60,6,12,3,2026-01-01T00:00:00Z,2026-02-01T00:00:00+01:00,,9.99"
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 31, 23, tzinfo=UTC)
    tariff = Tariff(123_456_700, 50_000_000, 60, 6, 12, 3, 9_990_000_000)
    assert rates(f"{FULL}\n{line}") == [Rate(0, "4915", "Germany mobile", tariff, to_us(start), to_us(end), 2)]


def test_columns_stand_in_any_order_and_empty_cells_are_defaults():
    text = "rate,initial_s,increment_s,max_price,band,destination,prefix\n1,,,,,,49\n"
    assert rates(text) == [Rate(0, "49", "", Tariff(10**9), line=2)]


def test_byte_order_mark_crlf_quotes_blank_lines_and_spaces_are_fine():
    text = f'\ufeff{HEADER}\r\n\r\n"49","Germany",0.02\r\n 44 ,"Isle, of\u00a0Man", 1 \r\n  \r\n'
    assert [(r.prefix, r.destination, r.line) for r in rates(text)] == [
        ("49", "Germany", 3),
        ("44", "Isle, of\u00a0Man", 4),
    ]


def test_date_begins_at_midnight_in_the_decks_time_zone():
    [rate] = rates("prefix,destination,rate,effective_from\n49,,1,2026-07-01\n", BERLIN)
    assert rate.from_us == to_us(datetime(2026, 6, 30, 22, tzinfo=UTC))


def test_prefix_may_stand_again_from_another_time():
    assert len(rates(f"{HEADER},effective_from\n49,,1,\n49,,2,2026-01-01\n49,,3,2027-01-01\n")) == 3


def test_prefix_that_begins_at_the_same_instant_again_is_refused():
    same = f"{HEADER},effective_from\n49,,1,2026-01-01\n44,,1,\n49,,2,2026-01-01T01:00:00+01:00\n"
    [mistake] = mistakes(same)
    assert str(mistake) == "line 4, prefix: 49 from 2026-01-01T00:00:00.000Z is on line 2 already"
    assert places(f"{HEADER}\n49,,1\n49,,1\n49,,2\n") == [(3, "prefix"), (4, "prefix")]


@pytest.mark.parametrize(
    ("column", "cell", "hint"),
    [
        ("prefix", "", "is empty"),
        ("prefix", "+49", "without the +"),
        ("prefix", "49x", "not a prefix of digits"),
        ("prefix", "٤٩", "not a prefix of digits"),
        ("prefix", "1" * 19, "more than 18 digits"),
        ("destination", "x" * 256, "longer than 255"),
        ("destination", "a\x07b", "control characters"),
        ("rate", "", "is empty"),
        ("rate", "free", "not a decimal number"),
        ("rate", "-0.01", "negative"),
        ("rate", "+0.01", "without the +"),
        ("rate", "1e-2", "not a decimal number"),
        ("rate", "NaN", "not a decimal number"),
        ("rate", "0.0123456789", "more than 9 decimals"),
        ("rate", '"0,02"', "has a comma"),
        ("rate", '"1,000.00"', "has a comma"),
        ("rate", "100000000.01", "more than 100,000,000"),
        ("rate", "9" * 60, "too large"),
        ("connect_fee", "-1", "negative"),
        ("max_price", "-1", "negative"),
        ("initial_s", "-1", "not a whole number"),
        ("initial_s", "1.5", "not a whole number"),
        ("initial_s", "86401", "more than 86,400"),
        ("increment_s", "0", "at least 1"),
        ("increment_s", "9" * 5000, "more than 86,400"),
        ("minimum_s", "a", "not a whole number"),
        ("grace_s", "a", "not a whole number"),
        ("effective_from", "2026-01-01T00:00:00", "no offset"),
        ("effective_from", "2026-13-01", "not a date"),
        ("effective_from", "tomorrow", "not an instant"),
        ("effective_to", "01.02.2026", "not an instant"),
        ("band", "peak", "time bands are not supported"),
    ],
)
def test_mistake_names_line_and_column(column, cell, hint):
    cells = {"prefix": "49", "destination": "Germany", "rate": "1", column: cell}
    [mistake] = mistakes(f"{','.join(cells)}\n{','.join(cells.values())}\n")
    assert (mistake.line, mistake.column) == (2, column)
    assert hint in mistake.text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("prefix;destination;rate\n49;Germany;0,01\n", "by commas, not by semicolons; decimals have a point"),
        ("prefix\tdestination\trate\n49\tGermany\t0.01\n", "by commas, not by tabs"),
        ("Prefix,destination,rate\n49,,1\n", "unknown column; write prefix"),
        (
            "prefix,destination,rate\n49,Germany,0,01\n",
            "has 4 cells, the header has 3; a cell with a comma needs quotes",
        ),
    ],
)
def test_spreadsheets_habits_get_a_hint(text, hint):
    assert hint in str(mistakes(text)[0])


@pytest.mark.parametrize(("start", "end"), [("2026-02-01", "2026-01-01"), ("2026-01-01", "2026-01-01T00:00:00Z")])
def test_rate_must_begin_before_it_ends(start, end):
    assert places(f"{HEADER},effective_from,effective_to\n49,,1,{start},{end}\n") == [(2, "effective_to")]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("prefix,destination,rate,Rate", [(1, "Rate")]),
        ("prefix,rate,price,destination,foo", [(1, "price"), (1, "foo")]),
        ("prefix,prefix,rate,destination", [(1, "prefix")]),
        ("prefix,destination", [(1, "rate")]),
        ("49,Germany,0.02", [(1, "49"), (1, "Germany"), (1, "0.02"), (1, "prefix"), (1, "destination"), (1, "rate")]),
        ("prefix,destination,rate,", [(1, "")]),
        ("prefix;destination;rate", [(1, "")]),
    ],
)
def test_header_mistakes(header, expected):
    assert places(f"{header}\n") == expected


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", HEADER, f"{HEADER}\n\n"])
def test_file_without_rates_is_refused(text):
    assert places(text) == [(1, "")]


def test_line_with_more_or_fewer_cells_is_refused():
    assert places(f"{HEADER}\n49,Germany\n49,Germany,1,2\n44,UK,1\n") == [(2, ""), (3, "")]


def test_all_mistakes_are_told_in_the_order_of_lines():
    text = f"{HEADER},initial_s\n49,Germany,x,y\n44,,1,\n44,,1,\n,,,\n"
    assert places(text) == [(2, "rate"), (2, "initial_s"), (4, "prefix"), (5, "prefix"), (5, "rate")]


def test_bytes_that_are_not_utf8_are_named_with_their_line():
    [mistake] = mistakes(f"{HEADER}\n44,UK,1\n225,Côte,1\n".encode("latin-1"))
    assert str(mistake) == "line 3: byte 0xf4 is not UTF-8; save the file as UTF-8"


def test_broken_quote_is_a_mistake():
    assert places(f'{HEADER}\n49,"Germany,1\n44,UK,1\n') == [(2, "")]
    assert places(f'{HEADER}\n49,"Ger"many,1\n') == [(2, "")]


def test_listing_of_mistakes_is_short_and_tells_how_many_more():
    found = mistakes(f"{HEADER}\n" + "x,,1\n" * 1000)
    lines = describe_mistakes("deck.csv", found).splitlines()
    assert lines[0] == "deck.csv has 1,000 mistakes, nothing was loaded:"
    assert lines[1].startswith("line 2, prefix: 'x'")
    assert lines[-1] == "and 950 more"
    assert len(lines) == MISTAKES_SHOWN_MAX + 2
