"""Accounts, identities and the ledger as they are stored, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select, update

from accounting.base.money import INT64_MAX, MICROS
from accounting.db.engine import Database, open_database
from cdr.ledger import EntryKind, House, LedgerError, Total
from cdr.rating.directory import Identity, find_user
from cdr.registry import Span, Terms, add_account, identify
from cdr.store import accounts
from cdr.store.ledger import (
    entries_across_currencies,
    entries_at_odds,
    post_by_hand,
    post_totals,
    recomputed_balances,
    stored_balances,
    sums_of_entries,
)
from cdr.store.tables import account, charge, ledger_entry

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def add(conn: Connection, name: str = "acme", role: str = "customer", currency: str = "EUR") -> accounts.AccountRow:
    add_account(conn, Terms(role, name, currency), "UTC", NOW)
    return accounts.require_account(conn, role, name)


def total(
    owner: accounts.AccountRow, amount: int, kind: EntryKind = EntryKind.CHARGE, period: str = "2026-11"
) -> Total:
    return Total(owner.id, owner.role, owner.currency, period, kind, amount)


def topup(conn: Connection, owner: accounts.AccountRow, amount: int, reference: str = "r1") -> tuple[int, bool]:
    return post_by_hand(conn, owner, EntryKind.TOPUP, amount, reference=reference, actor="tester", posted_at=NOW)


def balances(conn: Connection) -> dict[str, int]:
    return {row.name: row.balance_micros for row in stored_balances(conn)}


def is_sound(conn: Connection) -> bool:
    stored = stored_balances(conn)
    recomputed = recomputed_balances(conn)
    by_currency: dict[str, int] = {}
    for row in stored:
        assert row.balance_micros == recomputed.get(row.account_id, 0), row
        by_currency[row.currency] = by_currency.get(row.currency, 0) + row.balance_micros
    return set(by_currency.values()) <= {0} and entries_across_currencies(conn) == []


# ---- the ledger -------------------------------------------------------------------------------------------------


def test_a_batchs_charges_become_one_entry_each_and_move_both_balances(database: Database) -> None:
    with database.write() as conn:
        acme, beta = add(conn), add(conn, "beta", "carrier")
        totals = [total(acme, 700), total(acme, 300), total(beta, 400), total(acme, 50, EntryKind.REVERSAL)]
        entries = post_totals(conn, [*totals, total(beta, 0)._replace(period="2026-12")], 1, "pipeline", NOW)
        assert len(entries) == len(set(entries.values())) == 3
        assert sums_of_entries(conn) == {
            entries[total(acme, 0)]: 1000,
            entries[total(beta, 0)]: 400,
            entries[total(acme, 0, EntryKind.REVERSAL)]: 50,
        }
        assert balances(conn) == {"acme": -950, "beta": 400, "revenue-EUR": 950, "cost-EUR": -400}
        assert is_sound(conn)


def test_the_same_house_accounts_serve_all_batches_of_a_currency(database: Database) -> None:
    with database.write() as conn:
        acme, usd = add(conn), add(conn, "usd", currency="USD")
        for batch_id in (1, 2):
            post_totals(conn, [total(acme, 5), total(usd, 7)], batch_id, "pipeline", NOW)
        assert balances(conn) == {"acme": -10, "usd": -14, "revenue-EUR": 10, "revenue-USD": 14}
        assert len(sums_of_entries(conn)) == 4
        assert is_sound(conn)


def test_nothing_is_posted_if_the_transaction_fails(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
    with pytest.raises(RuntimeError), database.write() as conn:
        post_totals(conn, [total(acme, 5)], 1, "pipeline", NOW)
        raise RuntimeError
    with database.read() as conn:
        assert (sums_of_entries(conn), balances(conn)) == ({}, {"acme": 0})


def test_a_reference_is_posted_once(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
        first = topup(conn, acme, 5 * MICROS)
        assert first[1]
        assert topup(conn, acme, 5 * MICROS) == (first[0], False)
        assert balances(conn) == {"acme": 5 * MICROS, "cash-EUR": -5 * MICROS}


def test_a_reference_for_something_else_is_refused_and_says_what_it_was(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
        topup(conn, acme, 5 * MICROS)
        with pytest.raises(LedgerError, match=r"'r1'.*'acme'.*topup of 5\.00 EUR"):
            topup(conn, acme, 6 * MICROS)
        with pytest.raises(LedgerError, match="topup of"):
            post_by_hand(
                conn, acme, EntryKind.ADJUSTMENT, 5 * MICROS, reference="r1", actor="tester", posted_at=NOW
            )  # fmt: skip
        assert topup(conn, add(conn, "other"), 6 * MICROS)[1]


@pytest.mark.parametrize("reference", ["", "   ", "a\nb", "x" * 256])
def test_a_reference_is_printable_text(sqlite_url: str, reference: str) -> None:
    with open_database(sqlite_url) as database, database.write() as conn:
        acme = add(conn)
        with pytest.raises(LedgerError, match="printable"):
            topup(conn, acme, 5, reference)


def test_a_posting_by_hand_stands_in_the_period_of_the_accounts_time_zone(database: Database) -> None:
    with database.write() as conn:
        add_account(conn, Terms("customer", "berlin", "EUR", timezone="Europe/Berlin"), "UTC", NOW)
        berlin = accounts.require_account(conn, "customer", "berlin")
        at = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
        post_by_hand(conn, berlin, EntryKind.REFUND, 1, reference="r", actor="tester", posted_at=at)
        row = conn.execute(select(ledger_entry)).one()
        assert (row.period, row.posted_at, row.actor, row.owner_id) == ("2026-12", at, "tester", berlin.id)


def test_a_balance_that_would_not_fit_is_refused_and_not_rounded(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
        topup(conn, acme, INT64_MAX)
        with pytest.raises(LedgerError, match="balance of 'acme' would be more"), conn.begin_nested():
            topup(conn, acme, 1, "r2")
        assert balances(conn)["acme"] == INT64_MAX
        assert is_sound(conn)


def test_balances_are_recomputed_exactly_beyond_64_bits_of_turnover(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
        for turn in range(3):
            topup(conn, acme, INT64_MAX, f"in-{turn}")
            post_by_hand(
                conn, acme, EntryKind.ADJUSTMENT, -INT64_MAX, reference=f"out-{turn}", actor="tester", posted_at=NOW
            )
            with conn.begin_nested():  # the house must not run over either
                conn.execute(update(account).where(account.c.role == "house").values(balance_micros=0))
        assert recomputed_balances(conn)[acme.id] == 0
        assert min(recomputed_balances(conn).values()) == -3 * INT64_MAX


def test_two_who_post_the_same_reference_at_once_post_it_once(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
        accounts.ensure_house(conn, [(House.CASH, "EUR")], NOW)
    ready = Barrier(4)

    def post() -> bool:
        ready.wait(timeout=30)
        with database.write() as conn:
            return topup(conn, acme, 5)[1]

    with ThreadPoolExecutor(4) as pool:
        assert sorted(future.result() for future in [pool.submit(post) for _ in range(4)]) == [
            False,
            False,
            False,
            True,
        ]
    with database.read() as conn:
        assert balances(conn) == {"acme": 5, "cash-EUR": -5}


def test_two_who_post_to_the_same_accounts_at_once_do_not_stand_in_each_others_way(database: Database) -> None:
    with database.write() as conn:
        owners = [add(conn, f"a{number}") for number in range(8)]
        accounts.ensure_house(conn, [(House.REVENUE, "EUR"), (House.CASH, "EUR")], NOW)
    ready = Barrier(3)

    def post(worker: int) -> None:
        ready.wait(timeout=30)
        for turn in range(10):
            with database.write() as conn:
                mine = owners if worker else owners[::-1]
                post_totals(conn, [total(owner, 1) for owner in mine], worker * 100 + turn, "pipeline", NOW)
                topup(conn, owners[turn % 8], 3, f"{worker}-{turn}")

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(post, worker) for worker in range(3)]:
            future.result()
    with database.read() as conn:
        assert is_sound(conn)
        assert balances(conn)["revenue-EUR"] == 3 * 10 * 8
        assert len(sums_of_entries(conn)) == 3 * 10 * 8


def test_a_house_account_that_two_need_first_is_made_once(database: Database) -> None:
    ready = Barrier(3)

    def need(_: int) -> int:
        ready.wait(timeout=30)
        with database.write() as conn:
            return accounts.ensure_house(conn, [(House.COST, "EUR")], NOW)[House.COST, "EUR"]

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(need, range(3)))) == 1


def test_an_entry_that_a_charge_of_another_account_names_is_found(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
        [entry_id] = post_totals(conn, [total(acme, 700)], 1, "pipeline", NOW).values()
        row = {
            "cdr_id": 1, "revision": 1, "line": 1, "kind": "charge", "party": "account", "account_id": acme.id,
            "number": "+49", "deck_version_id": 1, "rate_id": 1, "prefix": "49", "destination": "DE", "billed_s": 1,
            "amount_micros": 700, "decimals": 4, "currency": "EUR", "service_at": NOW, "period": "2026-11",
            "entry_id": entry_id,
        }  # fmt: skip
        conn.execute(insert(charge), row)
        assert entries_at_odds(conn) == []
        conn.execute(update(charge).values(period="2026-12"))
        assert entries_at_odds(conn) == [entry_id]


posting = st.tuples(
    st.sampled_from(["charge", "reversal", "topup", "refund", "adjustment"]),
    st.sampled_from(["a", "b", "carrier"]),
    st.integers(1, 10**9),
    st.sampled_from(["r1", "r2", "r3"]),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(postings=st.lists(posting, max_size=12))
def test_whatever_is_posted_balances_are_their_entries_and_all_sum_up_to_zero(
    sqlite_url: str, postings: list[tuple[str, str, int, str]]
) -> None:
    with open_database(sqlite_url) as database, database.write() as conn:
        kept = conn.begin_nested()
        owners = {"a": add(conn, "a"), "b": add(conn, "b", currency="USD"), "carrier": add(conn, "c", "carrier")}
        expected = dict.fromkeys(owners, 0)
        posted: dict[tuple[str, str], tuple[str, int]] = {}
        for number, (kind, name, amount, reference) in enumerate(postings):
            owner = owners[name]
            if kind in ("charge", "reversal"):
                post_totals(conn, [total(owner, amount, EntryKind(kind))], number, "pipeline", NOW)
                expected[name] += amount * (1 if (kind == "reversal") == (owner.role == "customer") else -1)
            elif name != "carrier":
                before = posted.setdefault((name, reference), (kind, amount))
                try:
                    done = post_by_hand(
                        conn, owner, EntryKind(kind), amount, reference=reference, actor="tester", posted_at=NOW
                    )
                except LedgerError:
                    assert before != (kind, amount)
                    continue
                assert before == (kind, amount)
                expected[name] += amount if done.is_new else 0
        found = balances(conn)
        assert [found[owner.name] for owner in owners.values()] == list(expected.values())
        assert is_sound(conn)
        kept.rollback()


# ---- the directory ----------------------------------------------------------------------------------------------


def test_the_directory_is_read_again_only_when_something_was_added_or_ended(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
    with database.read() as conn:
        first = accounts.load_directory(conn)
        assert accounts.load_directory(conn) is first
    with database.write() as conn:
        identify(conn, "customer", "acme", "user", "alice", Span(), NOW)
        topup(conn, acme, 5)
    with database.read() as conn:
        second = accounts.load_directory(conn)
        assert accounts.load_directory(conn) is second
        assert find_user(second.customers, "alice", "", 10**18) == acme.id
    with database.write() as conn:
        identify(conn, "customer", "acme", "user", "alice", Span(None, NOW), NOW)
    with database.read() as conn:
        assert find_user(accounts.load_directory(conn).customers, "alice", "", 10**18) is None


def test_identities_keep_their_bounds_to_the_microsecond(database: Database) -> None:
    with database.write() as conn:
        acme = add(conn)
        identity = Identity(acme.id, "user", "Zoë ", 1_795_504_680_000_001, 1_795_504_680_000_002)
        accounts.insert_identity(conn, identity, NOW)
        accounts.insert_identity(conn, Identity(acme.id, "user", "zoë"), NOW)
        found = [row.identity for row in accounts.identities_of(conn, acme.id)]
        assert found == [identity, Identity(acme.id, "user", "zoë")]
        assert accounts.identities_with(conn, "customer", "user", "Zoë") == []
