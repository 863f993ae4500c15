"""Rate decks as they are loaded, stored, assigned and compiled, on both databases."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import Result
from sqlalchemy import Connection, event, func, select
from typer.testing import CliRunner

from accounting.base.clock import to_us
from accounting.base.errors import TollbookError
from accounting.db.engine import Database
from cdr.cli_rates import app
from cdr.rating.book import NO_DECK, NO_RATE, Rate, RateRequest, rate_calls
from cdr.rating.deck import parse_deck
from cdr.rating.price import Rounding
from cdr.registry import Terms as AccountTerms
from cdr.registry import add_account
from cdr.store import accounts, decks
from cdr.store.tables import deck, deck_version, rate

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DECK = (
    "prefix,destination,rate,connect_fee,initial_s,increment_s,minimum_s,grace_s,effective_from,effective_to,max_price\n"
    "49,Germany,0.0100,,,,,,,,\n"
    "4915,Germany mobile,0.123456789,0.05,60,6,12,3,2026-01-01,2027-01-01,9.99\n"
)
Tollbook = Callable[..., Result]


@pytest.fixture
def tollbook(database: Database, tmp_path: Path) -> Tollbook:
    """Run a `rates` command on the database of the test."""
    config = tmp_path / "tollbook.toml"
    config.write_text(f'[database]\nurl = "{database.url.render_as_string(hide_password=False)}"\n')
    return lambda *words: CliRunner().invoke(app, [*map(str, words), "--config", str(config)])


@pytest.fixture
def deck_file(tmp_path: Path) -> Path:
    path = tmp_path / "retail.csv"
    path.write_text(DECK)
    return path


def rates(text: str = DECK) -> list[Rate]:
    return parse_deck(text.encode(), ZoneInfo("UTC")).rates


def add(
    conn: Connection,
    loaded: Sequence[Rate],
    *,
    name: str = "retail",
    effective_from: datetime | None = None,
    digest: str = "d",
    side: str = "sell",
    currency: str = "EUR",
    now: datetime = NOW,
) -> decks.Loaded:
    terms = decks.Terms(name, side, currency, effective_from, 4, Rounding.HALF_UP, "UTC")
    return decks.add_version(conn, terms, loaded, file_name="f.csv", digest=digest, loaded_by="tester", now=now)


def customer(conn: Connection, name: str = "acme") -> int:
    add_account(conn, AccountTerms("customer", name, "EUR"), "UTC", NOW)
    return accounts.require_account(conn, "customer", name).id


def price(conn: Connection, account_id: int, number: str = "+4930123", at: datetime = NOW) -> tuple[str, int]:
    [rated] = rate_calls(decks.load_book(conn), [RateRequest(account_id, number, to_us(at), 60_000)])
    return rated.reason, rated.amount_micros


def count(conn: Connection, table: object) -> int:
    return int(conn.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


# ---- the store --------------------------------------------------------------------------------------------------


def test_rates_come_back_as_they_were_loaded(database):
    with database.write() as conn:
        loaded = add(conn, rates())
    with database.read() as conn:
        stored = decks.rates_of(conn, loaded.version.id)
    assert [one._replace(id=0) for one in sorted(stored, key=lambda one: one.line)] == rates()
    assert all(one.id for one in stored)


def test_file_is_not_added_twice_but_a_changed_one_or_another_time_is(database):
    with database.write() as conn:
        steps = [
            add(conn, rates()),
            add(conn, rates()),
            add(conn, rates(), digest="other"),
            add(conn, rates(), effective_from=NOW),
            add(conn, rates(), digest="other"),
            add(conn, rates(), effective_from=NOW),
            add(conn, rates()),  # newer than "other", so it must apply again
        ]
    assert [(step.version.version, step.is_new) for step in steps] == [
        (1, True), (1, False), (2, True), (3, True), (2, False), (3, False), (4, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "words"), [({"currency": "USD"}, "EUR, not USD"), ({"side": "buy"}, "sell, not buy")]
)
def test_deck_keeps_its_currency_and_side(database, changed, words):
    with database.write() as conn:
        add(conn, rates())
        with pytest.raises(TollbookError, match=words):
            add(conn, rates(), digest="other", **changed)


def test_version_in_force_at_the_answer_prices_the_call(database):
    with database.write() as conn:
        account_id = customer(conn)
        first = add(conn, rates("prefix,destination,rate\n49,,1\n"))
        decks.assign_deck(conn, account_id, first.version.deck_id, None, None, NOW)
        add(conn, rates("prefix,destination,rate\n49,,2\n"), digest="2", effective_from=NOW)
        assert price(conn, account_id, at=NOW - timedelta(microseconds=1)) == ("", 1_000_000)
        assert price(conn, account_id, at=NOW) == ("", 2_000_000)


def test_assignment_rates_only_while_it_is_valid(database):
    with database.write() as conn:
        account_id = customer(conn)
        deck_id = add(conn, rates()).version.deck_id
        assert decks.assign_deck(conn, account_id, deck_id, NOW, NOW + DAY, NOW)
        assert [price(conn, account_id, at=NOW + DAY * n)[0] for n in (-1, 0, 1)] == [NO_DECK, "", NO_DECK]
        assert price(conn, account_id, "+1202")[0] == NO_RATE


def test_same_deck_is_not_assigned_twice_at_a_time(database):
    with database.write() as conn:
        account_id, other = customer(conn), customer(conn, "other")
        deck_id = add(conn, rates()).version.deck_id
        second = add(conn, rates(), name="second").version.deck_id
        assert decks.assign_deck(conn, account_id, deck_id, NOW, NOW + DAY, NOW)
        assert not decks.assign_deck(conn, account_id, deck_id, NOW, NOW + DAY, NOW)  # safe to repeat
        for bounds in [(None, None), (NOW, None), (NOW + DAY / 2, NOW + DAY * 2), (None, NOW + DAY / 2)]:
            with pytest.raises(TollbookError, match="has this deck already"):
                decks.assign_deck(conn, account_id, deck_id, *bounds, NOW)
        with pytest.raises(TollbookError, match="before it begins"):
            decks.assign_deck(conn, account_id, deck_id, NOW, NOW, NOW)
        assert decks.assign_deck(conn, account_id, deck_id, NOW + DAY, None, NOW)
        assert decks.assign_deck(conn, account_id, deck_id, None, NOW, NOW)
        assert decks.assign_deck(conn, account_id, second, None, None, NOW)
        assert decks.assign_deck(conn, other, deck_id, None, None, NOW)
        assert len(decks.assignments_of(conn, account_id)) == 4


def test_book_is_read_again_only_when_something_changed(database):
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    def book() -> tuple[object, int]:
        statements.clear()
        with database.read() as conn:
            statements.clear()
            return decks.load_book(conn), len(statements)

    with database.write() as conn:
        account_id = customer(conn)
        deck_id = add(conn, rates()).version.deck_id
        decks.assign_deck(conn, account_id, deck_id, None, None, NOW)
    first, _ = book()
    assert book() == (first, 1)
    with database.write() as conn:
        add(conn, rates("prefix,destination,rate\n49,,5\n"), digest="2", now=NOW + DAY)
    second, _ = book()
    assert second is not first
    assert second.versions[0] is first.versions[0]  # compiled once
    assert book() == (second, 1)
    with database.write() as conn:
        decks.assign_deck(conn, customer(conn, "other"), deck_id, None, None, NOW)
    assert book()[0] is not second


def test_version_that_was_rolled_back_leaves_nothing_in_the_book(database):
    with database.write() as conn:
        account_id = customer(conn)
        decks.assign_deck(conn, account_id, add(conn, rates()).version.deck_id, None, None, NOW)

    def load_and_fail() -> None:
        with database.write() as conn:
            add(conn, rates("prefix,destination,rate\n49,,7\n"), digest="7", now=NOW + DAY)
            assert price(conn, account_id) == ("", 7_000_000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load_and_fail()
    with database.write() as conn:
        assert price(conn, account_id) == ("", 10_000)
        add(conn, rates("prefix,destination,rate\n49,,8\n"), digest="8", now=NOW + 2 * DAY)
        assert price(conn, account_id) == ("", 8_000_000)


# ---- the commands -----------------------------------------------------------------------------------------------


def test_load_says_what_it_did_and_is_safe_to_repeat(tollbook, deck_file):
    words = ("load", deck_file, "--deck", "retail", "--currency", "EUR")
    assert tollbook(*words).output == "deck retail: loaded 2 rates as version 1, effective always\n"
    assert tollbook(*words).output == "deck retail: version 1 has these 2 rates already, nothing to do\n"
    dated = tollbook(*words, "--effective-from", "2027-01-01T00:00:00+01:00")
    assert dated.output == "deck retail: loaded 2 rates as version 2, effective from 2026-12-31T23:00:00.000Z\n"
    assert tollbook(*words, "--decimals", "2").output.splitlines() == [
        "deck retail: loaded 2 rates as version 3, effective always",
        "from 2026-12-31T23:00:00.000Z on its version 2 applies instead",
    ]
    listed = json.loads(tollbook("list", "--json").output)
    assert [(row["deck"], row["version"], row["effective_from"], row["rates"], row["decimals"]) for row in listed] == [
        ("retail", 1, "", 2, 4), ("retail", 2, "2026-12-31T23:00:00.000Z", 2, 4), ("retail", 3, "", 2, 2),
    ]  # fmt: skip


def test_file_with_mistakes_loads_nothing(tollbook, deck_file, database):
    deck_file.write_text(DECK + "44,UK,1,,,,,,,,\n44x,UK,-1,,,,,,,,\n")
    result = tollbook("load", deck_file, "--deck", "retail", "--currency", "EUR")
    assert result.exit_code == 1
    assert str(result.exception).splitlines()[1:] == [
        "line 5, prefix: '44x' is not a prefix of digits",
        "line 5, rate: '-1' is negative",
    ]
    with database.read() as conn:
        assert [count(conn, table) for table in (deck, deck_version, rate)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--currency", "eur", "three capital letters"),
        ("--timezone", "Mars", "not a time zone"),
        ("--effective-from", "2026-01-01", "no offset"),
        ("--deck", " ", "not a name for a deck"),
    ],
)
def test_options_that_make_no_sense_are_refused(tollbook, deck_file, option, value, words):
    options = {"--deck": "retail", "--currency": "EUR", option: value}
    result = tollbook("load", deck_file, *(word for pair in options.items() for word in pair))
    assert result.exit_code == 1
    assert words in str(result.exception)


def test_rates_test_tells_the_price_of_a_call(tollbook, deck_file, database):
    tollbook("load", deck_file, "--deck", "retail", "--currency", "EUR")
    asked = ("test", "+4915112345678", "--at", "2026-06-01T00:00:00Z", "--duration", "61", "--json")
    told = json.loads(tollbook(*asked, "--deck", "retail").output)
    assert told == {
        "deck": "retail", "version": 1, "line": 3, "prefix": "4915", "destination": "Germany mobile", "billed_s": 66,
        "price": "0.1858", "currency": "EUR",
    }  # fmt: skip
    with database.write() as conn:
        decks.assign_deck(conn, customer(conn), decks.require_deck(conn, "retail").id, None, None, NOW)
    assert json.loads(tollbook(*asked, "--account", "acme").output) == told
    assert "line: 2" in tollbook("test", "004930123", "--account", "acme").output


def test_rates_test_explains_what_has_no_price(tollbook, deck_file, database):
    tollbook("load", deck_file, "--deck", "retail", "--currency", "EUR")
    with database.write() as conn:
        customer(conn)
    at = ("--at", "2026-06-01T00:00:00Z")
    for words, why in [
        (("+1202", "--deck", "retail", *at), "+1202 has no price at 2026-06-01T00:00:00.000Z: no rate in force then"),
        (("+4930", "--account", "acme", *at), "no deck is assigned then"),
        (("alice", "--deck", "retail"), "'alice' is not a number"),
        (("+4930", "--deck", "x"), "there is no deck 'x'"),
        (("+4930", "--account", "x"), "there is no account 'x'"),
        (("+4930", "--carrier", "x"), "there is no carrier 'x'"),
    ]:
        result = tollbook("test", *words)
        assert result.exit_code == 1
        assert why in str(result.exception)
    assert tollbook("test", "+4930").exit_code == 2
    assert tollbook("test", "+4930", "--deck", "retail", "--account", "acme").exit_code == 2
