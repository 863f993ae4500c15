"""What entries debit and credit, and in which period they stand."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from accounting.base.money import INT64_MAX
from cdr.ledger import (
    Entry,
    EntryKind,
    House,
    LedgerError,
    Total,
    available,
    balance_changes,
    house_name,
    house_of,
    manual_entry,
    manual_house,
    merge_totals,
    period_of,
    same_posting,
    total_entry,
)

CUSTOMER, CARRIER, HOUSE = 1, 2, 9


def total(role: str = "customer", kind: EntryKind = EntryKind.CHARGE, amount: int = 250_000) -> Total:
    return Total(CUSTOMER if role == "customer" else CARRIER, role, "EUR", "2026-11", kind, amount)


def by_hand(kind: EntryKind, amount: int, reference: str = "r1") -> Entry:
    return manual_entry(kind, CUSTOMER, HOUSE, amount, "EUR", "2026-11", reference)


@pytest.mark.parametrize(
    ("role", "kind", "debit", "credit"),
    [
        ("customer", EntryKind.CHARGE, CUSTOMER, HOUSE),
        ("customer", EntryKind.REVERSAL, HOUSE, CUSTOMER),
        ("carrier", EntryKind.CHARGE, HOUSE, CARRIER),
        ("carrier", EntryKind.REVERSAL, CARRIER, HOUSE),
    ],
)
def test_a_charge_takes_from_the_customer_and_owes_the_carrier_and_a_reversal_swaps(role, kind, debit, credit):
    entry = total_entry(total(role, kind), HOUSE, batch_id=7)
    assert (entry.debit_id, entry.credit_id, entry.amount_micros) == (debit, credit, 250_000)
    assert (entry.owner_id, entry.batch_id, entry.reference) == (total(role).account_id, 7, None)


def test_the_house_has_an_account_of_each_kind_per_currency():
    assert house_name(House.REVENUE, "EUR") == "revenue-EUR"
    assert (house_of(total()), house_of(total("carrier"))) == (House.REVENUE, House.COST)
    assert manual_house(EntryKind.TOPUP) is House.CASH
    assert manual_house(EntryKind.REFUND) is House.REVENUE
    assert manual_house(EntryKind.ADJUSTMENT) is House.ADJUSTMENTS


@pytest.mark.parametrize("kind", [EntryKind.TOPUP, EntryKind.REFUND, EntryKind.ADJUSTMENT])
def test_postings_by_hand_credit_the_customer(kind):
    entry = by_hand(kind, 5_000_000)
    assert (entry.debit_id, entry.credit_id, entry.amount_micros) == (HOUSE, CUSTOMER, 5_000_000)
    assert (entry.owner_id, entry.reference) == (CUSTOMER, "r1")


def test_a_negative_adjustment_debits_the_customer_by_a_positive_amount():
    entry = by_hand(EntryKind.ADJUSTMENT, -5_000_000)
    assert (entry.debit_id, entry.credit_id, entry.amount_micros) == (CUSTOMER, HOUSE, 5_000_000)


@pytest.mark.parametrize("kind", [EntryKind.TOPUP, EntryKind.REFUND])
def test_only_an_adjustment_may_be_negative(kind):
    with pytest.raises(LedgerError, match="more than 0"):
        by_hand(kind, -1)


@pytest.mark.parametrize("kind", [EntryKind.TOPUP, EntryKind.REFUND, EntryKind.ADJUSTMENT])
def test_nothing_of_0_is_posted(kind):
    with pytest.raises(LedgerError, match="changes nothing"):
        by_hand(kind, 0)


def test_what_does_not_fit_is_refused():
    assert by_hand(EntryKind.TOPUP, INT64_MAX).amount_micros == INT64_MAX
    with pytest.raises(LedgerError, match="more than the ledger can hold"):
        by_hand(EntryKind.TOPUP, INT64_MAX + 1)
    with pytest.raises(LedgerError, match="more than the ledger can hold"):
        total_entry(total(amount=INT64_MAX + 1), HOUSE, 1)


def test_totals_of_one_account_currency_period_and_kind_become_one_and_zero_sums_none():
    other_period = total()._replace(period="2026-12")
    reversal = total(kind=EntryKind.REVERSAL)
    merged = merge_totals([total(), other_period, reversal, total(), total("carrier", amount=0)])
    assert [(key.period, key.kind, amount) for key, amount in merged.items()] == [
        ("2026-11", EntryKind.CHARGE, 500_000),
        ("2026-12", EntryKind.CHARGE, 250_000),
        ("2026-11", EntryKind.REVERSAL, 250_000),
    ]


def test_the_same_posting_again_is_the_same_also_next_month():
    later = by_hand(EntryKind.TOPUP, 5)._replace(period="2026-12")
    assert same_posting(by_hand(EntryKind.TOPUP, 5), later)
    assert not same_posting(by_hand(EntryKind.TOPUP, 5), by_hand(EntryKind.TOPUP, 6))
    assert not same_posting(by_hand(EntryKind.ADJUSTMENT, 5), by_hand(EntryKind.ADJUSTMENT, -5))
    assert not same_posting(by_hand(EntryKind.TOPUP, 5), by_hand(EntryKind.ADJUSTMENT, 5))


def test_changes_come_in_order_of_the_accounts():
    entries = [total_entry(total("carrier"), HOUSE, 1), total_entry(total(), HOUSE, 1)]
    assert list(balance_changes(entries).items()) == [(CUSTOMER, -250_000), (CARRIER, 250_000), (HOUSE, 0)]


def test_available_is_the_balance_and_the_limit():
    assert available(-3_000_000, 10_000_000) == 7_000_000


@pytest.mark.parametrize(
    ("instant", "zone", "period"),
    [
        (datetime(2026, 11, 30, 23, 30, tzinfo=UTC), "UTC", "2026-11"),
        (datetime(2026, 11, 30, 23, 30, tzinfo=UTC), "Europe/Berlin", "2026-12"),
        (datetime(2026, 12, 1, 3, 0, tzinfo=UTC), "America/New_York", "2026-11"),
        (datetime(2026, 12, 1, 1, 0, tzinfo=timezone(timedelta(hours=2))), "UTC", "2026-11"),
    ],
)
def test_a_period_is_a_month_of_the_accounts_time_zone(instant, zone, period):
    assert period_of(instant, zone) == period


def test_a_naive_datetime_has_no_period():
    with pytest.raises(ValueError, match="naive"):
        period_of(datetime(2026, 11, 30), "UTC")  # noqa: DTZ001
