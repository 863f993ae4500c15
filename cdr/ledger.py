"""The double-entry ledger as values: what an entry of each kind debits and credits, and what that does to balances.

Pure, and it never edits: what was wrong is put right by a further entry. A balance is credits minus debits, in micros.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from accounting.base.errors import TollbookError
from accounting.base.money import INT64_MAX

INT64_MIN = -INT64_MAX - 1


class EntryKind(StrEnum):
    CHARGE = "charge"  # calls, as a sum per batch, account, currency and period
    REVERSAL = "reversal"  # charges taken back
    TOPUP = "topup"  # money came in
    REFUND = "refund"  # something charged is given back
    ADJUSTMENT = "adjustment"  # a correction by hand, either way


class House(StrEnum):
    """Our own side of the ledger; one account of each per currency."""

    REVENUE = "revenue"
    COST = "cost"
    CASH = "cash"
    ADJUSTMENTS = "adjustments"


class LedgerError(TollbookError):
    """A posting that the ledger refuses."""


class Total(NamedTuple):
    """The charges, or the reversals, of one account, currency and period: what a pipeline batch posts as one entry."""

    account_id: int
    role: str  # customer | carrier: of the account
    currency: str
    period: str
    kind: EntryKind  # CHARGE | REVERSAL
    amount_micros: int  # >= 0; 0 makes no entry


class Entry(NamedTuple):
    """One amount from one account to another, not yet posted."""

    kind: EntryKind
    debit_id: int
    credit_id: int
    amount_micros: int
    currency: str
    period: str
    owner_id: int  # the customer or carrier it concerns
    batch_id: int | None = None
    reference: str | None = None


def house_name(house: House, currency: str) -> str:
    """Return a house account's name, like revenue-EUR."""
    return f"{house}-{currency}"


def period_of(instant: datetime, timezone: str) -> str:
    """Return the billing period (YYYY-MM) that an instant falls into in a time zone."""
    if instant.utcoffset() is None:
        raise ValueError(f"naive datetime {instant!r}: an instant needs its offset")
    local = instant.astimezone(ZoneInfo(timezone))
    return f"{local.year:04d}-{local.month:02d}"


def merge_totals(totals: Iterable[Total]) -> dict[Total, int]:
    """Return the amount of each (account, role, currency, period, kind); the keys' own amount is 0. No sums of 0."""
    amounts: dict[Total, int] = {}
    for total in totals:
        assert total.amount_micros >= 0, total
        key = total._replace(amount_micros=0)
        amounts[key] = amounts.get(key, 0) + total.amount_micros
    return {key: amount for key, amount in amounts.items() if amount}


def house_of(total: Total) -> House:
    """Return which house account stands against charges of this role."""
    assert total.role in ("customer", "carrier"), total
    return House.REVENUE if total.role == "customer" else House.COST


def total_entry(total: Total, house_id: int, batch_id: int) -> Entry:
    """Return the entry of a total: a customer's charge is our revenue, a carrier's our cost; a reversal swaps sides."""
    assert total.kind in (EntryKind.CHARGE, EntryKind.REVERSAL), total
    sides = (total.account_id, house_id) if total.role == "customer" else (house_id, total.account_id)
    debit_id, credit_id = sides if total.kind is EntryKind.CHARGE else sides[::-1]
    return _checked(
        Entry(
            total.kind,
            debit_id,
            credit_id,
            total.amount_micros,
            total.currency,
            total.period,
            total.account_id,
            batch_id,
        )
    )


def manual_house(kind: EntryKind) -> House:
    """Return which house account stands against a posting by hand."""
    return {
        EntryKind.TOPUP: House.CASH,
        EntryKind.REFUND: House.REVENUE,
        EntryKind.ADJUSTMENT: House.ADJUSTMENTS,
    }[kind]


def manual_entry(
    kind: EntryKind,
    customer_id: int,
    house_id: int,
    amount_micros: int,
    currency: str,
    period: str,
    reference: str,
) -> Entry:
    """Return a top-up, refund or adjustment: all credit the customer, but a negative adjustment debits him."""
    if amount_micros == 0:
        raise LedgerError("an amount of 0 changes nothing; give another")
    if amount_micros < 0 and kind is not EntryKind.ADJUSTMENT:
        raise LedgerError(f"a {kind} must be more than 0; to take something from a balance, post an adjustment")
    debit_id, credit_id = (house_id, customer_id) if amount_micros > 0 else (customer_id, house_id)
    return _checked(
        Entry(
            kind,
            debit_id,
            credit_id,
            abs(amount_micros),
            currency,
            period,
            customer_id,
            reference=reference,
        )
    )


def same_posting(one: Entry, other: Entry) -> bool:
    """Return whether two postings under one reference say the same; the period may differ, for time went by."""
    return one._replace(period=other.period, batch_id=other.batch_id) == other


def balance_changes(entries: Iterable[Entry]) -> dict[int, int]:
    """Return by how much these entries change each account's balance, in order of the accounts; together it is 0."""
    changes: dict[int, int] = {}
    for entry in entries:
        changes[entry.debit_id] = changes.get(entry.debit_id, 0) - entry.amount_micros
        changes[entry.credit_id] = changes.get(entry.credit_id, 0) + entry.amount_micros
    return {account_id: changes[account_id] for account_id in sorted(changes)}


def available(balance_micros: int, credit_limit_micros: int) -> int:
    """Return what may still be spent: the balance and the credit limit. Negative once both are used up."""
    return balance_micros + credit_limit_micros


def _checked(entry: Entry) -> Entry:
    assert entry.amount_micros > 0, entry
    assert entry.debit_id != entry.credit_id, entry
    _fits(entry.amount_micros)
    return entry


def _fits(micros: int) -> int:
    if not INT64_MIN <= micros <= INT64_MAX:
        raise LedgerError(f"{micros} micros are more than the ledger can hold ({INT64_MAX})")
    return micros
