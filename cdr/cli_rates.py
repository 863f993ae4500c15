"""Commands on rate decks: load them, list them, ask what a call would cost."""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from sqlalchemy import Connection

from accounting.base import clock, config_checks
from accounting.base.cli import ConfigOption, JsonOption, actor_name, as_json, print_table
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.base.money import check_currency, format_micros
from accounting.db.engine import open_database
from accounting.event import Source
from cdr.rating.deck import describe_mistakes, parse_deck
from cdr.rating.terms import DECIMALS_MAX, NO_DECK, NO_RATE, NOT_A_NUMBER, PRICE_TOO_LARGE, Rounding
from cdr.store import accounts, decks

if TYPE_CHECKING:
    from cdr.rating.book import RateBook, Rated  # numpy, imported where it is used: most commands do without

app = typer.Typer(no_args_is_help=True, help="Rate decks: load them, list them, ask what a call would cost.")

NAME_CHARS_MAX = 255
DURATION_S_MAX = 366 * 86_400  # that `rates test` asks about
OPERATOR = Source(id=0, name="operator")
WHY_UNRATED = {
    NO_DECK: "no deck is assigned then",
    NO_RATE: "no rate in force then has a prefix of it",
    NOT_A_NUMBER: "it is not a number",
    PRICE_TOO_LARGE: "the price is too large",
}


class Side(StrEnum):
    SELL = "sell"
    BUY = "buy"


@app.command()
def load(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", readable=False, help="The deck: see docs/reference/rate-decks.md.")
    ],
    deck: Annotated[str, typer.Option(metavar="NAME", help="The deck's name; a known one gets a new version.")],
    currency: Annotated[str, typer.Option(metavar="CODE", help="Three letters, like EUR.")],
    side: Annotated[Side, typer.Option(help="sell: what customers pay; buy: what carriers charge.")] = Side.SELL,
    effective_from: Annotated[
        str | None, typer.Option(metavar="ISO", help="Rates calls answered from then on; default: always.")
    ] = None,
    decimals: Annotated[int, typer.Option(min=0, max=DECIMALS_MAX, help="Prices are rounded to so many.")] = 4,
    rounding: Annotated[Rounding, typer.Option(help="How prices are rounded, once, at the end.")] = Rounding.HALF_UP,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of dates without a time in the file.")] = "UTC",
    config: ConfigOption = None,
) -> None:
    """Load a rate deck from a CSV file, whole or not at all. Loading the same file again changes nothing.

    Example: tollbook rates load retail.csv --deck retail --currency EUR --effective-from 2026-12-01T00:00:00+01:00
    """
    start = None if effective_from is None else clock.parse_instant(effective_from)
    terms = decks.Terms(
        _deck_name(deck), side.value, check_currency(currency), start, decimals, rounding, _zone(timezone)
    )
    data = file.read_bytes()
    parsed = parse_deck(data, ZoneInfo(terms.timezone))
    if parsed.mistakes:
        raise TollbookError(describe_mistakes(str(file), parsed.mistakes))
    with open_database(load_settings(config).database.url) as database, database.write() as conn:
        loaded = decks.add_version(
            conn, terms, parsed.rates, file_name=file.name, digest=hashlib.sha256(data).hexdigest(),
            loaded_by=actor_name(), now=clock.now(),
        )  # fmt: skip
        later = [v for v in decks.versions_of(conn, loaded.version.deck_id) if _comes_after(v, loaded.version)]
    version, count = loaded.version, len(parsed.rates)
    if loaded.is_new:
        typer.echo(f"deck {deck}: loaded {count:,} rates as version {version.version}, effective {_since(version)}")
    else:
        typer.echo(f"deck {deck}: version {version.version} has these {count:,} rates already, nothing to do")
    for other in later:
        typer.echo(f"from {clock.iso_ms(other.effective_from)} on its version {other.version} applies instead")


@app.command("list")
def list_versions(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the decks with their versions.

    Example: tollbook rates list --json
    """
    with open_database(load_settings(config).database.url) as database, database.read() as conn:
        counts = decks.count_rates(conn)
        rows = [
            _listed(deck, version, counts.get(version.id, 0))
            for deck in decks.list_decks(conn)
            for version in decks.versions_of(conn, deck.id)
        ]
    if json:
        as_json(rows)
        return
    print_table(("deck", "side", "currency", "version", "effective_from", "rates", "rounding"), rows)


@app.command("test")
def price(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="E.164, like +4930123456.")],
    deck: Annotated[str | None, typer.Option(metavar="NAME", help="By this deck ...")] = None,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="... or by this account's decks ...")] = None,
    carrier: Annotated[str | None, typer.Option(metavar="NAME", help="... or by this carrier's.")] = None,
    at: Annotated[str | None, typer.Option(metavar="ISO", help="Answer time; default: now.")] = None,
    duration: Annotated[int, typer.Option(metavar="S", min=0, max=DURATION_S_MAX, help="Seconds.")] = 60,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Tell what a call to a number would cost; nothing is charged. Exits 1 if no rate applies.

    Example: tollbook rates test +4915112345678 --deck retail --at 2026-12-01T09:00:00Z --duration 61
    """
    from cdr.rating.book import RateRequest, rate_calls

    if sum(name is not None for name in (deck, account, carrier)) != 1:
        raise typer.BadParameter("name one of --deck, --account and --carrier")
    answered = clock.now_us() if at is None else clock.to_us(clock.parse_instant(at))
    called = _number(number)
    with open_database(load_settings(config).database.url) as database, database.read() as conn:
        if deck is not None:
            account_id = 0
            book = decks.load_deck_book(conn, decks.require_deck(conn, deck).id, account_id)
        else:
            role, name = ("customer", account) if account is not None else ("carrier", carrier)
            account_id = accounts.require_account(conn, role, name or "").id
            book = decks.load_book(conn)
        [rated] = rate_calls(book, [RateRequest(account_id, called, answered, duration * 1000)])
        if rated.reason:
            raise TollbookError(
                f"{called} has no price at {clock.iso_ms(clock.from_us(answered))}: {WHY_UNRATED[rated.reason]}"
            )
        told = _told(conn, book, rated)
    if json:
        as_json(told)
        return
    for key, value in told.items():
        typer.echo(f"{key}: {value}")


def _deck_name(name: str) -> str:
    if not name.strip() or name != name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise TollbookError(f"{name!r} is not a name for a deck; use up to {NAME_CHARS_MAX} letters, digits and signs")
    return name


def _zone(name: str) -> str:
    try:
        return config_checks.timezone(name)
    except ValueError as error:
        raise TollbookError(f"--timezone: {error}") from None


def _number(text: str) -> str:
    from cdr.rating.numbers import to_e164

    called = to_e164(text, OPERATOR) or to_e164(f"+{text}", OPERATOR)
    if not called:
        raise TollbookError(f"{text!r} is not a number; write it like +4930123456")
    return called


def _comes_after(one: decks.VersionRow, other: decks.VersionRow) -> bool:
    if one.effective_from is None:
        return False
    return other.effective_from is None or one.effective_from > other.effective_from


def _since(version: decks.VersionRow) -> str:
    return "always" if version.effective_from is None else f"from {clock.iso_ms(version.effective_from)}"


def _listed(deck: decks.DeckRow, version: decks.VersionRow, rates: int) -> dict[str, Any]:
    return {
        "deck": deck.name,
        "side": deck.side,
        "currency": deck.currency,
        "version": version.version,
        "effective_from": clock.iso_ms(version.effective_from),
        "rates": rates,
        "decimals": version.decimals,
        "rounding": version.rounding,
        "timezone": version.timezone,
        "file": version.file_name,
        "loaded_at": clock.iso_ms(version.loaded_at),
        "loaded_by": version.loaded_by,
    }


def _told(conn: Connection, book: "RateBook", rated: "Rated") -> dict[str, Any]:
    version = next(c.version for c in book.versions if c.version.id == rated.deck_version_id)
    return {
        "deck": version.deck,
        "version": version.version,
        "line": decks.line_of(conn, rated.rate_id),
        "prefix": rated.prefix,
        "destination": rated.destination,
        "billed_s": rated.billed_s,
        "price": format_micros(rated.amount_micros, rated.decimals),
        "currency": rated.currency,
    }
