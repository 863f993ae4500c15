"""Whatever is posted in whatever order, nothing appears and nothing is lost."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from cdr.ledger import Entry, EntryKind, Total, balance_changes, manual_entry, merge_totals, total_entry

CUSTOMERS, CARRIERS = (1, 2, 3), (11, 12)
HOUSE_OF = {("customer", "EUR"): 101, ("customer", "USD"): 102, ("carrier", "EUR"): 103, ("carrier", "USD"): 104}
MANUAL_HOUSE = {EntryKind.TOPUP: 105, EntryKind.REFUND: 101, EntryKind.ADJUSTMENT: 106}
CURRENCY = {1: "EUR", 2: "EUR", 3: "USD", 11: "EUR", 12: "USD"}

amounts = st.integers(0, 10**12)
periods = st.sampled_from(["2026-11", "2026-12"])
kinds = st.sampled_from([EntryKind.CHARGE, EntryKind.REVERSAL])


def _total(account_id: int, period: str, kind: EntryKind, amount: int) -> Total:
    role = "customer" if account_id in CUSTOMERS else "carrier"
    return Total(account_id, role, CURRENCY[account_id], period, kind, amount)


totals = st.lists(st.builds(_total, st.sampled_from(CUSTOMERS + CARRIERS), periods, kinds, amounts), max_size=30)


def post(batch: list[Total]) -> list[Entry]:
    return [
        total_entry(key._replace(amount_micros=amount), HOUSE_OF[key.role, key.currency], 1)
        for key, amount in merge_totals(batch).items()
    ]


def signed(total: Total) -> int:
    """Return what a total does to its account's balance."""
    sign = -1 if total.role == "customer" else 1
    return total.amount_micros * (sign if total.kind is EntryKind.CHARGE else -sign)


@given(totals)
def test_balances_are_what_was_charged_and_all_together_are_zero_per_currency(batch):
    entries = post(batch)
    changes = balance_changes(entries)
    expected: dict[int, int] = defaultdict(int)
    for total in batch:
        expected[total.account_id] += signed(total)
    for account_id in CURRENCY:
        assert changes.get(account_id, 0) == expected[account_id]
    for currency in ("EUR", "USD"):
        assert sum(balance_changes(entry for entry in entries if entry.currency == currency).values()) == 0


@given(totals)
def test_a_batch_posts_one_entry_per_account_currency_period_and_kind(batch):
    keys = [(e.owner_id, e.currency, e.period, e.kind) for e in post(batch)]
    assert len(keys) == len(set(keys))
    assert all(entry.amount_micros > 0 for entry in post(batch))


@given(totals)
def test_reversing_all_charges_leaves_nothing(batch):
    charges = [total._replace(kind=EntryKind.CHARGE) for total in batch]
    reversals = [total._replace(kind=EntryKind.REVERSAL) for total in batch]
    assert set(balance_changes(post(charges + reversals)).values()) <= {0}


@given(totals, st.integers(0, 30))
def test_it_does_not_matter_how_charges_are_split_into_batches(batch, at):
    one, two = balance_changes(post(batch)), balance_changes(post(batch[:at]) + post(batch[at:]))
    assert one == two


@given(st.sampled_from(list(MANUAL_HOUSE)), st.integers(-(10**12), 10**12).filter(bool))
def test_a_posting_by_hand_moves_the_balance_by_its_amount(kind, amount):
    amount = amount if kind is EntryKind.ADJUSTMENT else abs(amount)
    entry = manual_entry(kind, 1, MANUAL_HOUSE[kind], amount, "EUR", "2026-11", "r")
    assert balance_changes([entry]) == {1: amount, MANUAL_HOUSE[kind]: -amount}
