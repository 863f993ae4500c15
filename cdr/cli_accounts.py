"""Commands on accounts and carriers: add them, tell what identifies them, post money by hand, show them."""

from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from accounting.base import clock, config_checks
from accounting.base.cli import ConfigOption, JsonOption, actor_name, as_json, print_table
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.base.money import check_currency, format_exact, parse_micros
from accounting.db.engine import open_database
from cdr import registry
from cdr.ledger import EntryKind, available
from cdr.rating.directory import ALWAYS_US, FOREVER_US
from cdr.store import accounts, decks
from cdr.store.ledger import post_by_hand

account_app = typer.Typer(no_args_is_help=True, help="Customers: who they are, what they pay by, what they have.")
carrier_app = typer.Typer(no_args_is_help=True, help="Carriers: who they are and what they charge by.")

NEGATIVE_AMOUNTS = {"ignore_unknown_options": True}
"""So that -5.00 is an amount and no option."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
AmountArgument = Annotated[str, typer.Argument(metavar="AMOUNT", help="Like 50 or 12.50, in the account's currency.")]
CurrencyOption = Annotated[str, typer.Option(metavar="CODE", help="Three letters, like EUR.")]
DeckOption = Annotated[str | None, typer.Option(metavar="NAME", help="A loaded rate deck of that currency.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="ISO", help="Valid from then on; default: always.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="ISO", help="Valid until before then; default: no end.")]
ReferenceOption = Annotated[
    str, typer.Option("--reference", metavar="TEXT", help="Yours, once per account: repeating it changes nothing.")
]
TimezoneOption = Annotated[
    str | None,
    typer.Option(metavar="ZONE", help="Of billing periods, like Europe/Berlin; default: that of [reports]."),
]


# ---- account ----------------------------------------------------------------------------------------------------


@account_app.command("add")
def add_account(
    name: NameArgument,
    currency: CurrencyOption,
    prepaid: Annotated[
        bool | None, typer.Option("--prepaid/--postpaid", help="Default: prepaid, with a credit limit postpaid.")
    ] = None,
    credit_limit: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="What the balance may fall below 0; default: 0.")
    ] = None,
    deck: DeckOption = None,
    timezone: TimezoneOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a customer's account. One that exists must agree with what is said, and is left as it is.

    Example: tollbook account add acme --currency EUR --postpaid --credit-limit 100 --deck retail
    """
    payment = None if prepaid is None else "prepaid" if prepaid else "postpaid"
    terms = registry.Terms("customer", name, currency, payment, _limit(credit_limit), timezone, deck)
    _add(terms, config)


@account_app.command("deck")
def deck_of_account(
    name: NameArgument,
    deck: Annotated[str, typer.Argument(metavar="DECK")],
    since: FromOption = None,
    until: ToOption = None,
    config: ConfigOption = None,
) -> None:
    """Give an account a rate deck. It may have several: the longest prefix among them rates a call.

    Example: tollbook account deck acme retail-2027 --from 2027-01-01T00:00:00+01:00
    """
    _give_deck("customer", name, deck, _span(since, until), config)


@account_app.command("list")
def list_accounts(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the accounts with their balances.

    Example: tollbook account list --json
    """
    columns = ("name", "currency", "payment", "balance", "credit_limit", "available", "timezone")
    _list("customer", columns, json, config)


@account_app.command("identify")
def identify_account(
    name: NameArgument,
    user: Annotated[str | None, typer.Option(metavar="USER[@DOMAIN]", help="A SIP user.")] = None,
    ip: Annotated[str | None, typer.Option(metavar="CIDR", help="An address or network that calls come from.")] = None,
    number: Annotated[str | None, typer.Option(metavar="E164PREFIX", help="Numbers that calls come from.")] = None,
    did: Annotated[str | None, typer.Option(metavar="E164", help="A number calls come in for, or a range.")] = None,
    since: FromOption = None,
    until: ToOption = None,
    config: ConfigOption = None,
) -> None:
    """Tell what identifies an account's calls. Saying it again with --to gives it that end.

    Example: tollbook account identify acme --user alice@example.com --from 2026-12-01T00:00:00Z
    """
    kind, text = _one_of({"user": user, "ip": ip, "number": number, "did": did})
    _identify("customer", name, kind, text, _span(since, until), config)


@account_app.command(context_settings=NEGATIVE_AMOUNTS)
def topup(name: NameArgument, amount: AmountArgument, reference: ReferenceOption, config: ConfigOption = None) -> None:
    """Post money that came in.

    Example: tollbook account topup acme 50 --reference bank-2026-11-24-17
    """
    _post(EntryKind.TOPUP, name, amount, reference, config)


@account_app.command(context_settings=NEGATIVE_AMOUNTS)
def refund(name: NameArgument, amount: AmountArgument, reference: ReferenceOption, config: ConfigOption = None) -> None:
    """Give back, as credit, something that was charged.

    Example: tollbook account refund acme 1.20 --reference ticket-4711
    """
    _post(EntryKind.REFUND, name, amount, reference, config)


@account_app.command(context_settings=NEGATIVE_AMOUNTS)
def adjust(name: NameArgument, amount: AmountArgument, reference: ReferenceOption, config: ConfigOption = None) -> None:
    """Correct a balance by an amount, which may be negative.

    Example: tollbook account adjust acme -5.00 --reference correction-3
    """
    _post(EntryKind.ADJUSTMENT, name, amount, reference, config)


@account_app.command("show")
def show_account(name: NameArgument, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show an account: balance, credit limit, what is available, identities and decks.

    Example: tollbook account show acme --json
    """
    _show("customer", name, json, config)


# ---- carrier ----------------------------------------------------------------------------------------------------


@carrier_app.command("add")
def add_carrier(
    name: NameArgument,
    currency: CurrencyOption,
    deck: DeckOption = None,
    timezone: TimezoneOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a carrier. One that exists must agree with what is said, and is left as it is.

    Example: tollbook carrier add transatlantic --currency USD --deck transatlantic-buy
    """
    _add(registry.Terms("carrier", name, currency, timezone=timezone, deck=deck), config)


@carrier_app.command("deck")
def deck_of_carrier(
    name: NameArgument,
    deck: Annotated[str, typer.Argument(metavar="DECK")],
    since: FromOption = None,
    until: ToOption = None,
    config: ConfigOption = None,
) -> None:
    """Give a carrier a buy deck. It may have several: the longest prefix among them rates a call.

    Example: tollbook carrier deck transatlantic buy-2027 --from 2027-01-01T00:00:00Z
    """
    _give_deck("carrier", name, deck, _span(since, until), config)


@carrier_app.command("identify")
def identify_carrier(
    name: NameArgument,
    ip: Annotated[str | None, typer.Option(metavar="CIDR", help="An address or network of its gateways.")] = None,
    host: Annotated[str | None, typer.Option(metavar="DOMAIN", help="A host that calls are sent to.")] = None,
    since: FromOption = None,
    until: ToOption = None,
    config: ConfigOption = None,
) -> None:
    """Tell what identifies a carrier: where calls are sent to, or come in from. Saying it again with --to ends it.

    Example: tollbook carrier identify transatlantic --ip 198.51.100.0/24
    """
    kind, text = _one_of({"ip": ip, "host": host})
    _identify("carrier", name, kind, text, _span(since, until), config)


@carrier_app.command("list")
def list_carriers(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the carriers with what they are owed.

    Example: tollbook carrier list
    """
    _list("carrier", ("name", "currency", "balance", "timezone"), json, config)


@carrier_app.command("show")
def show_carrier(name: NameArgument, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show a carrier: what it is owed, identities and decks.

    Example: tollbook carrier show transatlantic --json
    """
    _show("carrier", name, json, config)


# ---- both -------------------------------------------------------------------------------------------------------


def _add(terms: registry.Terms, config: Any) -> None:
    check_currency(terms.currency)
    if terms.timezone is not None:
        _check_timezone(terms.timezone)
    settings = load_settings(config)
    with (
        open_database(settings.database.url) as database,
        database.lease(registry.REGISTRY, registry.REGISTRY_WAIT_S),
        database.write() as conn,
    ):
        is_new = registry.add_account(conn, terms, settings.reports.timezone, clock.now())
    word = registry.WORDS[terms.role]
    typer.echo(f"{word} {terms.name}: {'added' if is_new else 'exists already; nothing to do'}")


def _give_deck(role: str, name: str, deck: str, span: registry.Span, config: Any) -> None:
    with open_database(load_settings(config).database.url) as database, database.write() as conn:
        is_new = registry.give_deck(conn, role, name, deck, span, clock.now())
    done = "given" if is_new else "was given before; nothing to do"
    typer.echo(f"{registry.WORDS[role]} {name}: deck {deck} {done}")


def _identify(role: str, name: str, kind: str, text: str, span: registry.Span, config: Any) -> None:
    with (
        open_database(load_settings(config).database.url) as database,
        database.lease(registry.REGISTRY, registry.REGISTRY_WAIT_S),
        database.write() as conn,
    ):
        done = registry.identify(conn, role, name, kind, text, span, clock.now())
    typer.echo(done)


def _post(kind: EntryKind, name: str, amount: str, reference: str, config: Any) -> None:
    micros = parse_micros(amount)
    with open_database(load_settings(config).database.url) as database, database.write() as conn:
        row = accounts.require_account(conn, "customer", name)
        posted = post_by_hand(
            conn, row, kind, micros, reference=reference, actor=actor_name(), posted_at=clock.now()
        )  # fmt: skip
        row = accounts.require_account(conn, "customer", name)
    done = f"{kind} of {format_exact(micros)} {row.currency} posted as entry {posted.entry_id}"
    if not posted.is_new:
        done = f"reference {reference!r} was posted before as entry {posted.entry_id}; nothing to do"
    typer.echo(f"account {name}: {done}; balance {format_exact(row.balance_micros)} {row.currency}")


def _list(role: str, columns: tuple[str, ...], json: bool, config: Any) -> None:
    with open_database(load_settings(config).database.url) as database, database.read() as conn:
        rows = [_told(row) for row in accounts.list_accounts(conn, role)]
    if json:
        as_json([{column: row[column] for column in columns} for row in rows])
        return
    print_table(columns, rows)


def _show(role: str, name: str, json: bool, config: Any) -> None:
    with open_database(load_settings(config).database.url) as database, database.read() as conn:
        row = accounts.require_account(conn, role, name)
        told: dict[str, Any] = _told(row)
        if role == "carrier":
            told = {key: told[key] for key in ("name", "currency", "balance", "timezone", "created_at")}
        told["identities"] = [_told_identity(found) for found in accounts.identities_of(conn, row.id)]
        told["decks"] = _told_decks(conn, row.id)
    if json:
        as_json(told)
        return
    for key, value in told.items():
        lines = [" ".join(filter(None, one.values())) for one in value] if isinstance(value, list) else [value]
        typer.echo(f"{key}: {lines[0] if lines else '-'}")
        for line in lines[1:]:
            typer.echo(f"{'':{len(key)}}  {line}")


def _told(row: accounts.AccountRow) -> dict[str, str]:
    return {
        "name": row.name,
        "currency": row.currency,
        "payment": row.payment,
        "balance": format_exact(row.balance_micros),
        "credit_limit": format_exact(row.credit_limit_micros),
        "available": format_exact(available(row.balance_micros, row.credit_limit_micros)),
        "timezone": row.timezone,
        "created_at": clock.iso_ms(row.created_at),
    }


def _told_identity(row: accounts.IdentityRow) -> dict[str, str]:
    _, kind, value, start, end = row.identity
    return {
        "kind": kind,
        "value": value,
        "from": "" if start == ALWAYS_US else clock.iso_ms(clock.from_us(start)),
        "to": "" if end == FOREVER_US else clock.iso_ms(clock.from_us(end)),
    }


def _told_decks(conn: Connection, account_id: int) -> list[dict[str, str]]:
    names = {deck.id: deck.name for deck in decks.list_decks(conn)}
    return [
        {
            "deck": names[assignment.deck_id],
            "from": "" if assignment.from_us is None else clock.iso_ms(clock.from_us(assignment.from_us)),
            "to": "" if assignment.to_us is None else clock.iso_ms(clock.from_us(assignment.to_us)),
        }
        for assignment in decks.assignments_of(conn, account_id)
    ]


def _one_of(options: dict[str, str | None]) -> tuple[str, str]:
    given = [(kind, text) for kind, text in options.items() if text is not None]
    if len(given) != 1:
        raise typer.BadParameter(f"give exactly one of {', '.join(f'--{kind}' for kind in options)}")
    return given[0]


def _span(since: str | None, until: str | None) -> registry.Span:
    return registry.Span(
        None if since is None else clock.parse_instant(since), None if until is None else clock.parse_instant(until)
    )


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    micros = parse_micros(text)
    if micros < 0:
        raise TollbookError(f"--credit-limit {text} is negative; give what the balance may fall below 0, like 100")
    return micros


def _check_timezone(name: str) -> None:
    try:
        config_checks.timezone(name)
    except ValueError as error:
        raise TollbookError(f"--timezone: {error}") from None
