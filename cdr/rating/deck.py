"""A rate deck CSV file's bytes -> its rates, or every mistake in it with line and column.

It reads no file and guesses nothing: one bad line refuses the whole deck.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from accounting.base.clock import from_us, iso_ms, parse_instant, to_us
from accounting.base.errors import TollbookError
from accounting.base.money import parse_nanos
from cdr.rating.terms import PREFIX_DIGITS_MAX, Rate, Tariff

FILE_BYTES_MAX = 256 * 1024 * 1024
RATES_MAX = 2_000_000
DESTINATION_CHARS_MAX = 255
SECONDS_MAX = 86_400  # of initial_s, increment_s, minimum_s and grace_s
MONEY_NANOS_MAX = 10**17  # 100,000,000 per minute, fee or call
MISTAKES_SHOWN_MAX = 50

REQUIRED = ("prefix", "destination", "rate")
OPTIONAL = (
    "connect_fee", "initial_s", "increment_s", "minimum_s", "grace_s", "effective_from", "effective_to", "band",
    "max_price",
)  # fmt: skip
COLUMNS = REQUIRED + OPTIONAL

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGITS = re.compile(r"[0-9]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

T = TypeVar("T")


class Mistake(NamedTuple):
    """What is wrong at a line (of the file, from 1) and in a column; column '' is the whole line."""

    line: int
    column: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.column}: {self.text}" if self.column else f"line {self.line}: {self.text}"


class ParsedDeck(NamedTuple):
    """Rates (with id 0) in the order of the file, and mistakes; with any mistake the rates are not to be used."""

    rates: list[Rate]
    mistakes: list[Mistake]


def parse_deck(data: bytes, timezone: ZoneInfo) -> ParsedDeck:
    """Return the rates of a deck file; dates without a time begin at midnight in `timezone`."""
    if len(data) > FILE_BYTES_MAX:
        return ParsedDeck([], [Mistake(1, "", f"the file is larger than {FILE_BYTES_MAX} bytes")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return ParsedDeck(
            [], [Mistake(line, "", f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")]
        )
    mistakes: list[Mistake] = []
    records = _records(text, mistakes)
    header_line, header = next(records, (1, []))
    if not header:
        return ParsedDeck(
            [], mistakes or [Mistake(1, "", f"the file is empty; its first line names {_listed(REQUIRED)}")]
        )
    names = [name.strip() for name in header]
    if wrong := _header_mistakes(header_line, names):
        return ParsedDeck([], wrong)
    rates = list(_rates(names, records, timezone, mistakes))
    if not rates and not mistakes:
        mistakes.append(Mistake(header_line, "", "there are no rates below the header"))
    mistakes += _repeated(rates)
    mistakes.sort(key=lambda mistake: mistake.line)
    return ParsedDeck([] if mistakes else rates, mistakes)


def describe_mistakes(file_name: str, mistakes: Sequence[Mistake]) -> str:
    """Return the message that refuses a file: one line per mistake, at most MISTAKES_SHOWN_MAX."""
    count = f"{len(mistakes):,} mistakes" if len(mistakes) > 1 else "a mistake"
    lines = [f"{file_name} has {count}, nothing was loaded:", *map(str, mistakes[:MISTAKES_SHOWN_MAX])]
    if (more := len(mistakes) - MISTAKES_SHOWN_MAX) > 0:
        lines.append(f"and {more:,} more")
    return "\n".join(lines)


def _records(text: str, mistakes: list[Mistake]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line it begins at, cells) of each line that is not blank; a broken quote ends the reading."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        mistakes.append(Mistake(line, "", f"not CSV: {error}"))


def _header_mistakes(line: int, names: Sequence[str]) -> list[Mistake]:
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            return [Mistake(line, "", f"columns are separated by commas, not by {word}; decimals have a point")]
    mistakes = []
    for position, name in enumerate(names, 1):
        if not name:
            mistakes.append(Mistake(line, "", f"column {position} has no name"))
        elif name not in COLUMNS:
            is_case = name.lower() in COLUMNS
            hint = f"write {name.lower()}" if is_case else f"known are {_listed(COLUMNS)}"
            mistakes.append(Mistake(line, name, f"unknown column; {hint}"))
        elif name in names[: position - 1]:
            mistakes.append(Mistake(line, name, "this column is there twice"))
    missing = [name for name in REQUIRED if name not in names]
    return mistakes + [Mistake(line, name, "this column is missing") for name in missing]


def _rates(
    names: Sequence[str], records: Iterator[tuple[int, list[str]]], timezone: ZoneInfo, mistakes: list[Mistake]
) -> Iterator[Rate]:
    """Yield the rates of the lines without a mistake; add those of the others to `mistakes`."""
    instant = lru_cache(4096)(lambda text: _instant(text, timezone))
    place = {name: names.index(name) for name in names}

    def cell(name: str, read: Callable[[str], T], default: T) -> T:
        at = place.get(name)
        text = "" if at is None else cells[at].strip()
        if not text and name != "prefix":
            if name in REQUIRED and name != "destination":
                mistakes.append(Mistake(line, name, "is empty"))
            return default
        try:
            return read(text)
        except TollbookError as error:
            mistakes.append(Mistake(line, name, str(error)))
            return default

    for count, (line, cells) in enumerate(records, 1):
        if count > RATES_MAX:
            mistakes.append(Mistake(line, "", f"more than {RATES_MAX:,} rates"))
            return
        if len(cells) != len(names):
            more = "; a cell with a comma needs quotes, a decimal a point" if len(cells) > len(names) else ""
            mistakes.append(Mistake(line, "", f"has {len(cells)} cells, the header has {len(names)}{more}"))
            continue
        before = len(mistakes)
        rate = Rate(
            0,
            cell("prefix", _prefix, ""),
            cell("destination", _destination, ""),
            Tariff(
                cell("rate", _money, 0),
                cell("connect_fee", _money, 0),
                cell("initial_s", _seconds, 1),
                cell("increment_s", _increment, 1),
                cell("minimum_s", _seconds, 0),
                cell("grace_s", _seconds, 0),
                cell("max_price", _money, None),
            ),
            cell("effective_from", instant, None),
            cell("effective_to", instant, None),
            line,
        )
        cell("band", _band, None)
        if rate.from_us is not None and rate.to_us is not None and rate.from_us >= rate.to_us:
            mistakes.append(Mistake(line, "effective_to", "is not later than effective_from"))
        if len(mistakes) == before:
            yield rate


def _repeated(rates: Sequence[Rate]) -> Iterator[Mistake]:
    """Yield a mistake for each rate whose prefix and beginning stood on an earlier line: neither would come first."""
    seen: dict[tuple[str, int | None], int] = {}
    for rate in rates:
        first = seen.setdefault((rate.prefix, rate.from_us), rate.line)
        if first != rate.line:
            since = "" if rate.from_us is None else f" from {iso_ms(from_us(rate.from_us))}"
            yield Mistake(rate.line, "prefix", f"{rate.prefix}{since} is on line {first} already")


@lru_cache(4096)
def _money(text: str) -> int:
    if "," in text:
        raise TollbookError(f"{text!r} has a comma; write decimals with a point and no separators, like 1234.56")
    if text.startswith("-"):
        raise TollbookError(f"{text!r} is negative")
    if text.startswith("+"):
        raise TollbookError(f"{text!r} has a sign; write it without the +")
    nanos = parse_nanos(text)
    if nanos > MONEY_NANOS_MAX:
        raise TollbookError(f"{text!r} is more than {MONEY_NANOS_MAX // 10**9:,}")
    return nanos


@lru_cache(4096)
def _seconds(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise TollbookError(f"{text!r} is not a whole number of seconds")
    if len(text) > 18 or int(text) > SECONDS_MAX:
        raise TollbookError(f"{text!r} is more than {SECONDS_MAX:,} seconds")
    return int(text)


def _increment(text: str) -> int:
    if (seconds := _seconds(text)) == 0:
        raise TollbookError("0 is no increment; write at least 1")
    return seconds


def _prefix(text: str) -> str:
    if not _DIGITS.fullmatch(text):
        hint = "; write the digits without the +" if text.startswith("+") else ""
        raise TollbookError(f"{text!r} is not a prefix of digits{hint}" if text else "is empty")
    if len(text) > PREFIX_DIGITS_MAX:
        raise TollbookError(f"{text!r} has more than {PREFIX_DIGITS_MAX} digits")
    return text


@lru_cache(4096)
def _destination(text: str) -> str:
    if len(text) > DESTINATION_CHARS_MAX:
        raise TollbookError(f"is longer than {DESTINATION_CHARS_MAX} characters")
    if _CONTROLS.search(text):
        raise TollbookError(f"{text!r} has control characters")
    return text


def _band(text: str) -> None:
    raise TollbookError(f"{text!r}: time bands are not supported by this version; leave the column empty or out")


def _instant(text: str, timezone: ZoneInfo) -> int:
    if not _DATE.fullmatch(text):
        return to_us(parse_instant(text))
    try:
        return to_us(datetime.fromisoformat(text).replace(tzinfo=timezone).astimezone(UTC))
    except (ValueError, OverflowError):
        raise TollbookError(f"{text!r} is not a date") from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
