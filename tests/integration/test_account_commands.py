"""The commands on accounts and carriers, on both databases."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from accounting.base.errors import TollbookError
from cdr import cli_accounts, cli_rates

app = typer.Typer()
app.add_typer(cli_accounts.account_app, name="account")
app.add_typer(cli_accounts.carrier_app, name="carrier")
app.add_typer(cli_rates.app, name="rates")

Tollbook = Callable[..., Result]


@pytest.fixture
def tollbook(database_url: str, tmp_path: Path) -> Tollbook:
    """The command line on a fresh database, with a sell and a buy deck in EUR; its first argument is the exit code."""
    config = tmp_path / "tollbook.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n\n[reports]\ntimezone = "Europe/Berlin"\n')
    deck = tmp_path / "deck.csv"
    deck.write_text("prefix,destination,rate\n49,Germany,0.01\n")

    def run(code: int, *words: str) -> Result:
        result = CliRunner().invoke(app, [*words[:2], "--config", str(config), *words[2:]])
        if isinstance(result.exception, TollbookError):
            assert code == 1, result.exception
        else:
            assert result.exit_code == code, (result.output, result.exception)
        return result

    run(0, "rates", "load", str(deck), "--deck", "retail", "--currency", "EUR")
    run(0, "rates", "load", str(deck), "--deck", "buy", "--currency", "EUR", "--side", "buy")
    return run


def shown(tollbook: Tollbook, group: str, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(tollbook(0, group, "show", name, "--json").stdout)
    return found


def test_an_account_is_added_once_and_shown(tollbook: Tollbook) -> None:
    words = ("account", "add", "acme", "--currency", "EUR", "--postpaid", "--credit-limit", "100", "--deck", "retail")
    assert "added" in tollbook(0, *words).stdout
    assert "nothing to do" in tollbook(0, *words).stdout
    told = shown(tollbook, "account", "acme")
    assert {key: told[key] for key in ("balance", "credit_limit", "available", "currency", "payment", "timezone")} == {
        "balance": "0.00", "credit_limit": "100.00", "available": "100.00", "currency": "EUR", "payment": "postpaid",
        "timezone": "Europe/Berlin",
    }  # fmt: skip
    assert told["decks"] == [{"deck": "retail", "from": "", "to": ""}]
    assert [row["name"] for row in json.loads(tollbook(0, "account", "list", "--json").stdout)] == ["acme"]
    assert "acme" in tollbook(0, "account", "list").stdout
    assert "retail" in tollbook(0, "account", "show", "acme").stdout


def test_what_contradicts_an_account_is_refused_naming_it(tollbook: Tollbook) -> None:
    tollbook(0, "account", "add", "acme", "--currency", "EUR")
    result = tollbook(1, "account", "add", "acme", "--currency", "USD", "--postpaid", "--deck", "retail")
    assert str(result.exception) == (
        "account 'acme' exists already with currency EUR, not USD; payment prepaid, not postpaid;"
        " no deck retail (give it with `tollbook account deck`)"
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--currency", "eur"), "capital letters"),
        (("--currency", "EUR", "--timezone", "Europe/Nowhere"), "Europe/Nowhere"),
        (("--currency", "EUR", "--credit-limit", "-1"), "negative"),
        (("--currency", "EUR", "--credit-limit", "0.0000001"), "6 decimals"),
        (("--currency", "EUR", "--deck", "nothing"), "no deck 'nothing'"),
        (("--currency", "EUR", "--deck", "buy"), "buy deck"),
        (("--currency", "USD", "--deck", "retail"), "'retail' is in EUR, account 'acme' in USD"),
    ],
)
def test_a_mistaken_account_is_not_added(tollbook: Tollbook, words: tuple[str, ...], complaint: str) -> None:
    assert complaint in str(tollbook(1, "account", "add", "acme", *words).exception)
    assert json.loads(tollbook(0, "account", "list", "--json").stdout) == []


def test_money_is_posted_by_hand_and_negative_amounts_need_no_tricks(tollbook: Tollbook) -> None:
    tollbook(0, "account", "add", "acme", "--currency", "EUR", "--credit-limit", "10")
    tollbook(0, "account", "topup", "acme", "50", "--reference", "bank-1")
    assert "nothing to do" in tollbook(0, "account", "topup", "acme", "50.00", "--reference", "bank-1").stdout
    tollbook(0, "account", "refund", "acme", "1.2345", "--reference", "ticket-1")
    tollbook(0, "account", "adjust", "acme", "-5.00", "--reference", "c-1")
    tollbook(0, "account", "adjust", "acme", "--reference", "c-2", "--", "-5")
    tollbook(0, "account", "adjust", "acme", "0.5", "--reference", "c-3")
    told = shown(tollbook, "account", "acme")
    assert (told["balance"], told["available"]) == ("41.7345", "51.7345")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("topup", "acme", "50.01", "--reference", "bank-1"), "topup of 50.00 EUR"),
        (("topup", "acme", "0", "--reference", "x"), "changes nothing"),
        (("topup", "acme", "-5", "--reference", "x"), "more than 0"),
        (("refund", "acme", "-5", "--reference", "x"), "more than 0"),
        (("adjust", "acme", "0.00", "--reference", "x"), "changes nothing"),
        (("adjust", "acme", "1,50", "--reference", "x"), "decimal number"),
        (("topup", "nobody", "5", "--reference", "x"), "no account 'nobody'"),
    ],
)
def test_a_mistaken_posting_changes_nothing(tollbook: Tollbook, words: tuple[str, ...], complaint: str) -> None:
    tollbook(0, "account", "add", "acme", "--currency", "EUR")
    tollbook(0, "account", "topup", "acme", "50", "--reference", "bank-1")
    assert complaint in str(tollbook(1, "account", *words).exception)
    assert shown(tollbook, "account", "acme")["balance"] == "50.00"


def test_a_posting_needs_its_reference(tollbook: Tollbook) -> None:
    tollbook(2, "account", "topup", "acme", "50")


def test_identities_are_made_canonical_and_repeating_them_changes_nothing(tollbook: Tollbook) -> None:
    tollbook(0, "account", "add", "acme", "--currency", "EUR")
    for words in (("--user", "alice@LAB.example"), ("--ip", "192.0.2.7"), ("--number", "+4930"), ("--did", "49301")):
        tollbook(0, "account", "identify", "acme", *words)
        assert "nothing to do" in tollbook(0, "account", "identify", "acme", *words).stdout
    found = shown(tollbook, "account", "acme")["identities"]
    assert isinstance(found, list)
    assert [(one["kind"], one["value"]) for one in found] == [
        ("did", "49301"), ("ip", "192.0.2.7/32"), ("number", "4930"), ("user", "alice@lab.example"),
    ]  # fmt: skip


def test_what_somebody_else_has_at_the_time_is_refused_naming_him(tollbook: Tollbook) -> None:
    for name in ("acme", "other"):
        tollbook(0, "account", "add", name, "--currency", "EUR")
    tollbook(0, "account", "identify", "acme", "--user", "alice")
    result = tollbook(1, "account", "identify", "other", "--user", "alice", "--from", "2026-12-01T00:00:00Z")
    assert "'acme' (always)" in str(result.exception)
    assert "(from 2026-12-01T00:00:00.000Z)" in str(result.exception)
    tollbook(0, "account", "identify", "acme", "--user", "alice", "--to", "2026-12-01T00:00:00Z")
    tollbook(0, "account", "identify", "acme", "--user", "alice", "--to", "2026-12-01T00:00:00Z")
    tollbook(0, "account", "identify", "other", "--user", "alice", "--from", "2026-12-01T01:00:00+01:00")


def test_a_network_inside_another_is_no_overlap_and_neither_is_a_carriers(tollbook: Tollbook) -> None:
    for name in ("acme", "other"):
        tollbook(0, "account", "add", name, "--currency", "EUR")
    tollbook(0, "carrier", "add", "beta", "--currency", "EUR")
    tollbook(0, "account", "identify", "acme", "--ip", "192.0.2.0/24")
    tollbook(0, "account", "identify", "other", "--ip", "192.0.2.0/25")
    tollbook(0, "carrier", "identify", "beta", "--ip", "192.0.2.0/24")


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("--ip", "192.0.2.7/24"), 1, "192.0.2.0/24"),
        (("--user", "alice", "--from", "2026-12-01"), 1, "offset"),
        (("--user", "alice", "--from", "2026-12-02T00:00:00Z", "--to", "2026-12-01T00:00:00Z"), 1, "before --to"),
        (("--user", "alice", "--did", "49301"), 2, ""),
        ((), 2, ""),
    ],
)
def test_a_mistaken_identity_is_not_registered(
    tollbook: Tollbook, words: tuple[str, ...], code: int, complaint: str
) -> None:
    tollbook(0, "account", "add", "acme", "--currency", "EUR")
    result = tollbook(code, "account", "identify", "acme", *words)
    assert complaint in str(result.exception)
    assert shown(tollbook, "account", "acme")["identities"] == []


def test_a_deck_can_be_given_from_a_date_and_once(tollbook: Tollbook) -> None:
    tollbook(0, "account", "add", "acme", "--currency", "EUR")
    words = ("account", "deck", "acme", "retail", "--from", "2027-01-01T00:00:00+01:00")
    assert "given" in tollbook(0, *words).stdout
    assert "nothing to do" in tollbook(0, *words).stdout
    assert shown(tollbook, "account", "acme")["decks"] == [
        {"deck": "retail", "from": "2026-12-31T23:00:00.000Z", "to": ""}
    ]
    assert "sell deck" in str(tollbook(1, "account", "deck", "acme", "buy").exception)


def test_a_carrier_is_added_identified_and_shown(tollbook: Tollbook) -> None:
    words = ("carrier", "add", "beta", "--currency", "EUR", "--deck", "buy")
    tollbook(0, *words)
    assert "nothing to do" in tollbook(0, *words).stdout
    tollbook(0, "carrier", "identify", "beta", "--host", "GW.beta.example")
    tollbook(0, "carrier", "identify", "beta", "--ip", "2001:db8::/32")
    told = shown(tollbook, "carrier", "beta")
    assert (told["balance"], told["currency"]) == ("0.00", "EUR")
    assert told["identities"] == [
        {"kind": "host", "value": "gw.beta.example", "from": "", "to": ""},
        {"kind": "ip", "value": "2001:db8::/32", "from": "", "to": ""},
    ]
    assert [row["name"] for row in json.loads(tollbook(0, "carrier", "list", "--json").stdout)] == ["beta"]
    assert "sell deck" in str(tollbook(1, "carrier", "add", "gamma", "--currency", "EUR", "--deck", "retail").exception)


def test_account_and_carrier_may_have_one_name(tollbook: Tollbook) -> None:
    tollbook(0, "account", "add", "beta", "--currency", "EUR")
    tollbook(0, "carrier", "add", "beta", "--currency", "USD")
    assert shown(tollbook, "account", "beta")["currency"] == "EUR"
    assert shown(tollbook, "carrier", "beta")["currency"] == "USD"
