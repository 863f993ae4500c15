"""Accounts, their identities and decks, registered so that saying the same twice changes nothing.

What contradicts what is registered is refused, naming it. The caller owns the transaction and the lease REGISTRY.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from accounting.base.clock import from_us, iso_ms, to_us
from accounting.base.errors import TollbookError
from accounting.base.money import format_exact
from cdr.rating.directory import ALWAYS_US, FOREVER_US, Identity
from cdr.rating.identities import canonical, ends, overlaps
from cdr.store import accounts, decks
from cdr.store.accounts import AccountRow

REGISTRY = "accounts"
"""The lease that keeps two people from registering what overlaps, each not seeing the other."""
REGISTRY_WAIT_S = 10.0
NAME_CHARS_MAX = 255
WORDS = {"customer": "account", "carrier": "carrier"}
SIDES = {"customer": "sell", "carrier": "buy"}


class Terms(NamedTuple):
    """What is said of an account when it is added; None: nothing."""

    role: str  # customer | carrier
    name: str
    currency: str
    payment: str | None = None  # prepaid | postpaid
    credit_limit_micros: int | None = None
    timezone: str | None = None
    deck: str | None = None


class Span(NamedTuple):
    """A half-open interval of time; None is open."""

    start: datetime | None = None
    end: datetime | None = None


def add_account(conn: Connection, terms: Terms, default_timezone: str, now: datetime) -> bool:
    """Add an account, with its deck if one is named; return whether it is new.

    One that exists must agree with all that is said. A credit limit alone means postpaid, nothing means prepaid.
    """
    _check_name(terms)
    if (found := accounts.find_account(conn, terms.role, terms.name)) is not None:
        _check_agreement(conn, found, terms)
        return False
    limit = terms.credit_limit_micros or 0
    account_id = accounts.insert_account(
        conn,
        role=terms.role,
        name=terms.name,
        currency=terms.currency,
        payment=terms.payment or ("postpaid" if limit or terms.role == "carrier" else "prepaid"),
        credit_limit_micros=limit,
        timezone=terms.timezone or default_timezone,
        created_at=now,
    )
    if terms.deck is not None:
        deck = _fitting_deck(conn, terms.deck, terms.role, terms.name, terms.currency)
        decks.assign_deck(conn, account_id, deck.id, None, None, now)
    return True


def give_deck(conn: Connection, role: str, name: str, deck_name: str, span: Span, now: datetime) -> bool:
    """Let a deck rate an account's calls answered in the span; return whether that is new."""
    found = accounts.require_account(conn, role, name)
    deck = _fitting_deck(conn, deck_name, role, name, found.currency)
    return decks.assign_deck(conn, found.id, deck.id, span.start, span.end, now)


def identify(conn: Connection, role: str, name: str, kind: str, text: str, span: Span, now: datetime) -> str:
    """Register what tells an account; return what was done in one line.

    An identity that has no end is given one by saying it again with that end.
    """
    if span.start is not None and span.end is not None and span.start >= span.end:
        raise TollbookError(f"--from {iso_ms(span.start)} must lie before --to {iso_ms(span.end)}")
    owner = accounts.require_account(conn, role, name)
    new = Identity(
        owner.id,
        kind,
        canonical(kind, text),
        ALWAYS_US if span.start is None else to_us(span.start),
        FOREVER_US if span.end is None else to_us(span.end),
    )
    told = f"{WORDS[role]} {name}: {kind} {new.value}"
    for old in accounts.identities_with(conn, role, kind, new.value):
        if old.identity == new:
            return f"{told} was registered before, {_span(new)}; nothing to do"
        if ends(new, old.identity):
            accounts.end_identity(conn, old.id, new.valid_to_us)
            return f"{told} now ends {iso_ms(span.end)}"
        if overlaps(old.identity, new):
            raise TollbookError(
                f"{kind} {new.value} is registered for {WORDS[role]} {old.account_name!r} ({_span(old.identity)}),"
                f" which overlaps this one ({_span(new)}); give the first an end, or this one another --from or --to"
            )
    accounts.insert_identity(conn, new, now)
    return f"{told} registered, {_span(new)}"


def _check_name(terms: Terms) -> None:
    name = terms.name
    if not name.strip() or name != name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise TollbookError(
            f"{name!r} is no {WORDS[terms.role]} name; use up to {NAME_CHARS_MAX} letters, digits and signs"
        )


def _check_agreement(conn: Connection, found: AccountRow, terms: Terms) -> None:
    limit = terms.credit_limit_micros
    said = (
        ("currency", found.currency, terms.currency),
        ("payment", found.payment, terms.payment),
        ("credit limit", format_exact(found.credit_limit_micros), None if limit is None else format_exact(limit)),
        ("time zone", found.timezone, terms.timezone),
    )
    wrong = [f"{word} {is_}, not {wanted}" for word, is_, wanted in said if wanted is not None and is_ != wanted]
    if terms.deck is not None:
        deck = _fitting_deck(conn, terms.deck, terms.role, terms.name, found.currency)
        if deck.id not in {assignment.deck_id for assignment in decks.assignments_of(conn, found.id)}:
            wrong.append(f"no deck {terms.deck} (give it with `tollbook {WORDS[terms.role]} deck`)")
    if wrong:
        raise TollbookError(f"{WORDS[terms.role]} {found.name!r} exists already with {'; '.join(wrong)}")


def _fitting_deck(conn: Connection, deck_name: str, role: str, name: str, currency: str) -> decks.DeckRow:
    deck = decks.require_deck(conn, deck_name)
    if deck.side != SIDES[role]:
        raise TollbookError(f"deck {deck.name!r} is a {deck.side} deck; {WORDS[role]}s need {SIDES[role]} decks")
    if deck.currency != currency:
        raise TollbookError(
            f"deck {deck.name!r} is in {deck.currency}, {WORDS[role]} {name!r} in {currency}; the two must be the same"
        )
    return deck


def _span(identity: Identity) -> str:
    words = []
    if identity.valid_from_us != ALWAYS_US:
        words.append(f"from {iso_ms(from_us(identity.valid_from_us))}")
    if identity.valid_to_us != FOREVER_US:
        words.append(f"to {iso_ms(from_us(identity.valid_to_us))}")
    return " ".join(words) or "always"
