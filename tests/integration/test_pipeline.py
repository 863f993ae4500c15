"""The pipeline on real databases: exactly once, corrections by adding, and what one bad record may do."""

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from accounting.base.errors import TollbookError
from accounting.db.engine import Database
from accounting.journal import JournalRow
from cdr.pipeline import Pipeline
from cdr.store import batches
from cdr.store.tables import (
    account,
    batch,
    call_exception,
    cdr,
    charge,
    journal_offset,
    ledger_entry,
    open_call,
    quarantine,
)
from cdr.work import Work
from tests.support.lab import FAILED, T0, Lab, bye, invite, shown
from tests.support.radius import SECRET, request

DECK = "prefix,destination,rate,connect_fee\n49,Germany,0.06,0.01\n4915,Germany mobile,0.12,0\n"


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(database, tmp_path)
    yield lab
    assert lab.differences() == ()
    lab.close()


def test_answered_call_is_one_cdr_charged_once(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0), bye("c1", 90))
    lab.process()
    [row] = lab.cdrs()
    assert (row.disposition, row.duration_ms, row.stop_cause, row.released_by) == ("answered", 90_000, "bye", "caller")
    assert (row.rating, row.price_micros, row.billed_s, row.destination) == ("rated", 180_000, 90, "Germany mobile")
    [line] = lab.charges()
    [entry] = lab.entries()
    assert (line.amount_micros, line.entry_id) == (180_000, entry.id)
    assert entry.amount_micros == 180_000
    assert lab.balance() == "-0.18"


def test_a_cost_is_never_summed_over_two_currencies(lab: Lab, tmp_path: Path) -> None:
    lab.sell(DECK)
    for name, currency, ip in (("alpha", "EUR", "203.0.113.1"), ("beta", "USD", "198.51.100.7")):
        (tmp_path / "buy.csv").write_text("prefix,destination,rate\n49,Germany,0.01\n")
        lab.tollbook(
            "rates", "load", str(tmp_path / "buy.csv"), "--deck", name, "--currency", currency, "--side", "buy"
        )
        lab.tollbook("carrier", "add", name, "--currency", currency, "--deck", name)
        lab.tollbook("carrier", "identify", name, "--ip", ip)
    lab.tollbook("account", "identify", "acme", "--did", "4930111")
    lab.journal(
        invite("c1", 0, called="sip:+4930111@lab.example", source_ip="203.0.113.1", user="", via="sip:x@lab.example"),
        invite("c1", 0, called="sip:+4915112345678@lab.example", source_ip="127.0.0.1", user=""),
        bye("c1", 60),
    )
    lab.process()
    [row] = lab.cdrs()
    assert {(c.party, c.currency, c.amount_micros) for c in lab.charges()} == {
        ("carrier", "EUR", 10_000),
        ("carrier", "USD", 10_000),
        ("forwarder", "EUR", 120_000),
    }
    assert (row.direction, row.cost_micros, row.cost_currency) == ("inbound", 10_000, "EUR")


def test_processing_again_changes_nothing(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0), bye("c1", 90))
    lab.process()
    lab.process()
    lab.journal(invite("c1", 0), bye("c1", 90))
    lab.process()
    assert [row.revision for row in lab.cdrs()] == [1]
    assert lab.balance() == "-0.18"


def test_charges_of_one_batch_share_one_entry(lab: Lab) -> None:
    lab.sell(DECK)
    for n in range(20):
        lab.journal(invite(f"c{n}", n), bye(f"c{n}", n + 60))
    lab.process()
    [entry] = lab.entries()
    assert entry.amount_micros == 20 * 120_000 == sum(line.amount_micros for line in lab.charges())


def test_call_stays_open_until_its_stop_comes(lab: Lab) -> None:
    lab.journal(invite("c1", 0))
    lab.process(after_s=10)
    assert lab.cdrs() == []
    lab.journal(bye("c1", 60, by_callee=True))
    lab.process(after_s=70)
    [row] = lab.cdrs()
    assert (row.duration_ms, row.released_by) == (60_000, "callee")


def test_call_without_end_is_closed_uncharged_and_a_late_stop_charges_it(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0))
    lab.process()
    [row] = lab.cdrs()
    assert (row.stop_cause, row.exception, row.ended_at, row.price_micros) == ("max_age", "no_stop", None, None)
    lab.journal(bye("c1", 60))
    lab.process()
    [row] = lab.cdrs()
    assert (row.revision, row.stop_cause, row.exception, row.price_micros) == (2, "bye", "", 120_000)
    assert lab.balance() == "-0.12"


def test_correction_after_the_charge_is_a_reversal_and_a_new_charge(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0), bye("c1", 90))
    lab.process()
    lab.journal(bye("c1", 60))  # an earlier BYE, reported late
    lab.process()
    [row] = lab.cdrs()
    assert (row.revision, row.duration_ms, row.price_micros) == (2, 60_000, 120_000)
    assert [(c.revision, c.kind, c.amount_micros) for c in lab.charges()] == [
        (1, "charge", 180_000),
        (2, "reversal", 180_000),
        (2, "charge", 120_000),
    ]
    assert lab.balance() == "-0.12"


def test_failed_call_that_is_answered_later_becomes_answered(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0, status=FAILED, code=486, to_tag="x"))
    lab.process(after_s=5)
    [row] = lab.cdrs()
    assert (row.disposition, row.sip_code, row.rating) == ("busy", 486, "not_billable")
    lab.journal(invite("c1", 10))
    lab.process(after_s=15)
    assert lab.differences() == ()
    lab.journal(bye("c1", 70))
    lab.process(after_s=100)
    [row] = lab.cdrs()
    assert (row.revision, row.disposition, row.duration_ms, row.attempts) == (2, "answered", 60_000, 1)


def test_operator_closes_a_call_that_nothing_ended(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0))
    lab.process()
    [row] = lab.cdrs()
    lab.tollbook("cdr", "close", str(row.id), "--ended-at", "2026-11-24T06:02:00Z", "--reason", "customer's own CDR")
    [row] = lab.cdrs()
    assert (row.revision, row.stop_cause, row.duration_ms, row.price_micros) == (2, "operator", 120_000, 240_000)
    told = json.loads(lab.tollbook("cdr", "show", str(row.id), "--json"))
    assert [event["kind"] for event in told["events"]] == ["start", "operator"]
    assert told["events"][1]["reason"] == "customer's own CDR"


def test_operator_closes_a_call_that_is_still_open(lab: Lab) -> None:
    lab.sell(DECK)
    now = int(time.time()) - T0
    lab.journal(invite("c1", now - 600), invite("c2", now - 60), received_s=now - 600)
    lab.tollbook("process")
    [hangs, _] = json.loads(lab.tollbook("cdr", "open", "--json"))
    assert (hangs["call_id"], hangs["caller"], hangs["called"]) == ("c1", "alice", "+4915112345678")
    assert hangs["answered_at"] < hangs["due_at"]
    ended_at = datetime.fromtimestamp(T0 + now - 480, UTC).isoformat()
    lab.tollbook("cdr", "close", str(hangs["id"]), "--ended-at", ended_at, "--reason", "the trunk was taken down")
    [row] = lab.cdrs()
    assert (row.id, row.revision, row.stop_cause, row.duration_ms, row.price_micros) == (
        hangs["id"], 1, "operator", 120_000, 240_000,
    )  # fmt: skip
    assert [call["call_id"] for call in json.loads(lab.tollbook("cdr", "open", "--json"))] == ["c2"]
    assert "c2" in lab.tollbook("cdr", "open")
    assert lab.differences() == ()


def test_closing_an_open_call_that_has_no_answer_is_refused_and_leaves_no_event(lab: Lab) -> None:
    now = int(time.time()) - T0
    lab.journal(bye("c1", now - 10), received_s=now - 10)
    lab.tollbook("process")
    [waits] = json.loads(lab.tollbook("cdr", "open", "--json"))
    assert waits["answered_at"] == ""
    with pytest.raises(TollbookError, match="not known to be answered: it waits for its Start until 20"):
        lab.tollbook("cdr", "close", str(waits["id"]), "--ended-at", "2026-11-24T06:02:00Z", "--reason", "x")
    assert json.loads(lab.tollbook("cdr", "open", "--json")) == [waits]
    assert lab.tollbook("process")


def test_closing_before_the_answer_is_refused(lab: Lab) -> None:
    lab.journal(invite("c1", 0))
    lab.process()
    [row] = lab.cdrs()
    with pytest.raises(TollbookError, match="before the answer"):
        lab.tollbook("cdr", "close", str(row.id), "--ended-at", "2026-11-24T05:00:00Z", "--reason", "x")


def test_closing_in_the_future_is_refused_and_leaves_no_event(lab: Lab) -> None:
    lab.journal(invite("c1", 0))
    lab.process()
    [row] = lab.cdrs()
    with pytest.raises(TollbookError, match="lies in the future"):
        lab.tollbook("cdr", "close", str(row.id), "--ended-at", "2999-01-01T00:00:00Z", "--reason", "x")
    told = json.loads(lab.tollbook("cdr", "show", str(row.id), "--json"))
    assert [event["kind"] for event in told["events"]] == ["start"]


def test_rerate_charges_what_a_later_deck_says(lab: Lab, tmp_path: Path) -> None:
    lab.journal(invite("c1", 0), bye("c1", 60))
    lab.process()
    [row] = lab.cdrs()
    assert (row.rating, row.rating_reason) == ("unrated", "account_unknown")
    lab.sell(DECK)
    told = json.loads(lab.tollbook("rerate", "--dry-run", "--json"))
    assert told == {"looked_at": 1, "changed": 1, "change": {"EUR": "0.120000"}}
    assert lab.charges() == []
    lab.tollbook("rerate", "--account", "acme")
    [row] = lab.cdrs()
    assert (row.revision, row.rating, row.price_micros) == (2, "rated", 120_000)
    assert json.loads(lab.tollbook("rerate", "--json"))["changed"] == 0
    assert lab.balance() == "-0.12"


def test_stop_without_start_is_an_exception_until_the_start_comes(lab: Lab) -> None:
    lab.journal(bye("c1", 60))
    lab.process()
    [row] = json.loads(lab.tollbook("exceptions", "list", "--json"))
    assert (row["reason"], row["call_id"]) == ("stop_without_start", "c1")
    lab.tollbook("exceptions", "dismiss", str(row["id"]))
    assert json.loads(lab.tollbook("exceptions", "list", "--json")) == []
    lab.journal(invite("c1", 0))
    lab.process()
    assert [r.duration_ms for r in lab.cdrs()] == [60_000]
    assert json.loads(lab.tollbook("exceptions", "list", "--all", "--json"))[0]["kind"] == "cdr"  # unrated


def test_unrated_cdr_is_listed_and_settled_by_retry(lab: Lab) -> None:
    lab.journal(invite("c1", 0), bye("c1", 60))
    lab.process()
    [row] = json.loads(lab.tollbook("exceptions", "list", "--json"))
    assert row["reason"] == "unrated:account_unknown"
    lab.sell(DECK)
    assert "1 settled" in lab.tollbook("exceptions", "retry", str(row["id"]))
    assert json.loads(lab.tollbook("exceptions", "list", "--json")) == []


def test_untranslatable_report_is_quarantined_and_stays_retriable(lab: Lab) -> None:
    lab.journal(request(SECRET, (40, 77), (44, "c1"), (55, T0)))
    lab.process()
    [row] = json.loads(lab.tollbook("quarantine", "list", "--json"))
    assert row["reason"] == "unknown_status_type"
    assert "1 left" in lab.tollbook("quarantine", "retry")


def test_quarantine_retry_reads_with_todays_settings(lab: Lab, database: Database, tmp_path: Path) -> None:
    from accounting.journal import JournalWriter, register_source
    from tests.support.lab import PEER, PROXY

    writer = JournalWriter(database, "receiver", "other")
    wrong = register_source(database, PROXY._replace(dialects=("asterisk",)))
    writer.append([(T0 * 1_000_000, wrong, PEER, p) for p in (invite("c1", 0), bye("c1", 60))])
    writer.close()
    lab.process()
    assert lab.cdrs() == []
    assert "2 settled" in lab.tollbook("quarantine", "retry")
    lab.process()
    assert [row.duration_ms for row in lab.cdrs()] == [60_000]


def test_message_is_no_call(lab: Lab) -> None:
    lab.journal(request(SECRET, (40, 15), (204, 256), (205, 200), (55, T0), (206, "a"), (207, "b"), (44, "m1")))
    lab.process()
    assert lab.cdrs() == []


def test_two_workers_cannot_both_commit(lab: Lab, database: Database) -> None:
    lab.journal(invite("c1", 0), bye("c1", 60))
    other = Pipeline(database, lab.settings)
    with database.read() as conn:
        offsets = batches.load_offsets(conn)
        rows = other._reader.read_after(offsets, 100)
        work = Work(tuple(rows))
        plan = other.prepare(conn, work, (T0 + 100) * 1_000_000, 1)
    lab.process()
    with pytest.raises(batches.OvertakenError):
        other._commit(plan, work, offsets, 1)
    assert len(lab.cdrs()) == 1


def test_offset_moved_by_another_process_is_noticed(lab: Lab, database: Database) -> None:
    lab.journal(invite("c1", 0))
    lab.process(after_s=10)
    with database.write() as conn:
        [(writer, _)] = batches.load_offsets(conn).items()
        with pytest.raises(batches.OvertakenError):
            batches.move_offsets(conn, {writer: 77}, {writer: 78})


def test_one_bad_record_is_set_aside_and_the_others_go_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    import cdr.pipeline

    sound = cdr.pipeline.pair_group

    def failing(events: Any, **known: Any) -> Any:
        if any(event.call_id == "c7" for event in events):
            raise RuntimeError("a bug in pairing")
        return sound(events, **known)

    for n in range(20):
        lab.journal(invite(f"c{n}", n), bye(f"c{n}", n + 60))
    with monkeypatch.context() as patched:
        patched.setattr(cdr.pipeline, "pair_group", failing)
        lab.process()
    assert len(lab.cdrs()) == 19
    assert lab.differences() == ()
    listed = [e for e in json.loads(lab.tollbook("exceptions", "list", "--json")) if e["kind"] == "call"]
    assert {e["reason"] for e in listed} == {"processing_failed"}
    assert "a bug in pairing" in listed[0]["detail"]
    lab.tollbook("exceptions", "retry", *(str(e["id"]) for e in listed))
    lab.process()
    assert len(lab.cdrs()) == 20


def test_verify_finds_what_was_tampered_with(lab: Lab, database: Database) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0), bye("c1", 90))
    lab.process()
    changes = (
        (account, {"balance_micros": 5}, "balance of customer acme"),
        (charge, {"amount_micros": 1}, "its charges sum up to"),
        (cdr, {"price_micros": 1}, "shown for the account"),
        (batch, {"events_read": 99}, "99 read"),
        (journal_offset, {"seq": 99}, "an older backup"),
        (cdr, {"events": b""}, "events_used"),
        (cdr, {"revision": 3}, "a revision is missing"),
    )
    for table, change, words in changes:
        with database.write() as conn:
            [before] = conn.execute(select(table).limit(1)).mappings()
            key = [column == before[column.name] for column in table.primary_key]
            conn.execute(update(table).where(*key).values(**change))
        assert any(words in line for line in lab.differences()), words
        with database.write() as conn:
            changed = [c == change.get(c.name, before[c.name]) for c in table.primary_key]
            conn.execute(update(table).where(*changed).values(**before))
        assert lab.differences() == ()


def _scenario(seed: int) -> list[bytes]:
    chance = random.Random(seed)
    packets: list[bytes] = []
    for n in range(12):
        call_id = f"s{n}"
        answer, lasted = chance.randrange(0, 400), chance.randrange(1, 300)
        if chance.random() < 0.4:
            packets += [invite(call_id, answer - 3, status=FAILED, code=486, to_tag="x")] * chance.randint(1, 2)
        if chance.random() < 0.8:
            packets.append(invite(call_id, answer))
        if chance.random() < 0.8:
            packets.append(bye(call_id, answer + lasted, by_callee=chance.random() < 0.5))
        if chance.random() < 0.3:
            packets.append(bye(call_id, answer + lasted + 10, code=481))
    packets += [p for p in packets if chance.random() < 0.2]
    return packets


@pytest.mark.parametrize("seed", range(6))
def test_order_and_split_do_not_matter(database: Database, tmp_path: Path, seed: int) -> None:
    packets = _scenario(seed)
    chance = random.Random(seed * 77)
    results = []
    lab = Lab(database, tmp_path)
    lab.sell(DECK)
    for _ in range(3):
        with database.write() as conn:
            for table in (open_call, call_exception, quarantine, charge, cdr, ledger_entry, batch, journal_offset):
                conn.execute(delete(table))
            conn.execute(update(account).values(balance_micros=0))
        with database.journal_write() as conn:
            conn.exec_driver_sql("DELETE FROM journal")
        lab.close()
        lab = Lab(database, tmp_path)
        at = 0
        while at < len(packets):
            size = chance.randint(1, len(packets))
            lab.journal(*packets[at : at + size])
            lab.process(after_s=chance.choice((100, 1_000, 90_000)))
            assert lab.differences() == ()
            at += size
        lab.process()
        assert lab.differences() == ()
        results.append((shown(lab.cdrs()), lab.balance()))
        chance.shuffle(packets)
    lab.close()
    assert results[0] == results[1] == results[2]


def test_work_halves_hold_everything_once() -> None:
    rows = tuple(JournalRow(n, 0, 1, b"", b"") for n in range(5))
    work = Work(rows, (("k1", 1), ("k2", 2)), gone=(0, 4))
    first, last = work.halves()
    assert first.rows + last.rows == rows
    assert first.gone + last.gone == (0, 4)
    single = Work(rows[:1], (("k1", 1),))
    first, last = single.halves()
    assert (first.rows, first.groups, last.rows, last.groups) == (rows[:1], (), (), (("k1", 1),))
