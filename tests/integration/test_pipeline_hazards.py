"""The pipeline beside other processes, under load that never ends, and on a machine in trouble."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, update

from accounting.base.errors import TollbookError
from accounting.db.engine import Database
from accounting.db.tables import journal
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from cdr.pipeline import Pipeline
from cdr.store import batches
from cdr.store.tables import call_exception, cdr, charge, quarantine
from cdr.work import Work
from tests.support.lab import FAILED, PEER, PROXY, T0, Lab, bye, invite
from tests.support.radius import SECRET, request

DECK = "prefix,destination,rate,connect_fee\n49,Germany,0.06,0.01\n4915,Germany mobile,0.12,0\n"
NOW_US = (T0 + 100) * 1_000_000
GATEWAY = Source(id=0, name="gateway", dialects=("generic",))
WRONG = PROXY._replace(dialects=("generic",))


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(database, tmp_path)
    yield lab
    assert lab.differences() == ()
    lab.close()


def receive(database: Database, source: Source, *packets: bytes) -> None:
    """Journal packets of another source than the laboratory's own."""
    writer = JournalWriter(database, "receiver", source.name)
    source_id = register_source(database, source)
    writer.append([(T0 * 1_000_000, source_id, PEER, packet) for packet in packets])
    writer.close()


def session(status: int, at: int, session_id: str = "s1") -> bytes:
    return request(SECRET, (40, status), (44, session_id), (55, T0 + at), (32, "nas-1"))


def test_rows_that_another_process_has_used_in_the_meantime_are_not_used_again(lab: Lab, database: Database) -> None:
    lab.journal(invite("c1", 0), bye("c1", 60))
    slow = Pipeline(database, lab.settings)
    rows = slow._read()
    lab.process()
    for work in (Work(rows), Work(rows[1:])):
        with pytest.raises(batches.OvertakenError):
            slow.carry_out(work, NOW_US)
    assert [row.revision for row in lab.cdrs()] == [1]


def test_calls_that_are_due_are_closed_though_reports_keep_coming(lab: Lab) -> None:
    lab.journal(invite("silent", 0))
    lab.process(after_s=10)
    asked = 0

    def clock() -> int:
        nonlocal asked
        asked += 1
        assert asked < 10, "it never ends"
        lab.journal(invite(f"c{asked}", 172_800), received_s=172_800)
        return (T0 + 172_800) * 1_000_000

    lab.journal(invite("c0", 172_800), received_s=172_800)
    lab.pipeline.run(clock)
    assert [row.stop_cause for row in lab.cdrs()] == ["max_age"]


@pytest.mark.parametrize("trouble", [MemoryError(), OSError(28, "No space left on device"), ImportError("gone")])
def test_trouble_of_the_machine_sets_no_event_aside(
    lab: Lab, database: Database, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    from cdr import pipeline

    def failing(*_: Any, **__: Any) -> Any:
        raise trouble

    lab.journal(invite("c1", 0), bye("c1", 60))
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "pair_group", failing)
        with pytest.raises(type(trouble)):
            lab.process()
    with database.read() as conn:
        assert conn.execute(select(call_exception)).all() == []
    lab.process()
    assert len(lab.cdrs()) == 1


# ---- rating again


def test_rerating_an_account_leaves_open_calls_of_the_same_group_alone(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0), bye("c1", 60), invite("c1", -40 * 86_400, to_tag="old"))
    lab.process(after_s=-40 * 86_400 + 10)
    lab.load(DECK.replace("0.12", "0.24"))
    assert json.loads(lab.tollbook("rerate", "--account", "acme", "--json"))["changed"] == 1
    assert lab.balance() == "-0.24"


def test_rerating_an_account_changes_no_other(lab: Lab) -> None:
    lab.sell(DECK)
    lab.sell(DECK, account="other", ip="203.0.113.0/24")
    lab.journal(invite("c1", 0), bye("c1", 60), invite("c2", 0, source_ip="203.0.113.9"), bye("c2", 60))
    lab.process()
    lab.load(DECK.replace("0.12", "0.24"))
    lab.load(DECK.replace("0.12", "0.24"), account="other")
    told = json.loads(lab.tollbook("rerate", "--account", "acme", "--json"))
    assert told == {"looked_at": 1, "changed": 1, "change": {"EUR": "0.120000"}}
    assert (lab.balance(), lab.balance("other")) == ("-0.24", "-0.12")


def test_calls_that_go_to_another_account_are_rerated_by_the_one_that_had_them(lab: Lab) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0), bye("c1", 60))
    lab.process()
    lab.sell(DECK, account="branch", ip="192.0.2.10/32")
    assert json.loads(lab.tollbook("rerate", "--account", "branch", "--json"))["looked_at"] == 0
    assert json.loads(lab.tollbook("rerate", "--account", "acme", "--json"))["changed"] == 1
    assert (lab.balance(), lab.balance("branch")) == ("0.00", "-0.12")


def test_rerating_sees_that_only_the_forwarder_pays_more(lab: Lab) -> None:
    lab.sell(DECK)
    lab.sell(DECK, account="bob", ip="203.0.113.0/24")
    lab.tollbook("account", "identify", "bob", "--did", "+4930111")
    lab.tollbook("carrier", "add", "beta", "--currency", "EUR")
    lab.tollbook("carrier", "identify", "beta", "--host", "gw.beta.example")
    inner = {"called": "sip:+4915199@gw.beta.example", "source_ip": "127.0.0.1", "via": "sip:+4915199@gw.beta.example"}
    lab.journal(
        invite("c1", 0, called="sip:+4930111@lab.example", via=inner["called"]),
        invite("c1", 0, **inner),
        bye("c1", 60),
    )
    lab.process()
    assert (lab.balance(), lab.balance("bob")) == ("0.00", "-0.12")
    lab.load(DECK.replace("0.12", "0.24"), account="bob")
    assert json.loads(lab.tollbook("rerate", "--account", "bob", "--dry-run", "--json"))["changed"] == 1
    assert json.loads(lab.tollbook("rerate", "--account", "bob", "--json"))["changed"] == 1
    assert (lab.balance(), lab.balance("bob")) == ("0.00", "-0.24")
    assert json.loads(lab.tollbook("rerate", "--json"))["changed"] == 0


def test_rerating_goes_on_past_a_call_whose_evidence_is_lost(lab: Lab, database: Database) -> None:
    lab.sell(DECK)
    for n in range(5):
        lab.journal(invite(f"c{n}", n), bye(f"c{n}", n + 60))
    lab.process()
    lab.load(DECK.replace("0.12", "0.24"))
    with database.journal_write() as conn:
        lost = conn.execute(select(journal).limit(1)).one()
        conn.execute(delete(journal).where(journal.c.writer == lost.writer, journal.c.seq == lost.seq))
    with pytest.raises(TollbookError, match="1 calls could not be rated again"):
        lab.tollbook("rerate")
    assert Counter(row.price_micros for row in lab.cdrs()) == {120_000: 1, 240_000: 4}
    with database.journal_write() as conn:
        conn.execute(insert(journal).values(**lost._mapping))


def test_late_report_that_changes_no_figure_makes_no_revision(lab: Lab) -> None:
    lab.journal(invite("c1", 0), bye("c1", 60))
    lab.process(after_s=100)
    lab.journal(bye("c1", 70, code=481))
    lab.process(after_s=100)
    assert [row.revision for row in lab.cdrs()] == [1]


# ---- what verify finds


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        (charge, {"reverses_line": 7}, "takes back what was not charged so"),
        (cdr, {"account_id": None}, "charged to another account than it shows"),
        (quarantine, {"ref": 1 << 32 | 1}, "used by more than one call"),
        (quarantine, {"ref": 1 << 32 | 77}, "used beyond the offset"),
    ],
)
def test_verify_finds(lab: Lab, database: Database, table: Table, change: dict[str, Any], words: str) -> None:
    lab.sell(DECK)
    lab.journal(invite("c1", 0), bye("c1", 90), request(SECRET, (40, 77), (44, "c1"), (55, T0)))
    lab.process()
    lab.journal(bye("c1", 60))
    lab.process()
    with database.read() as conn:
        rows = conn.execute(select(table)).mappings().all()
    [before] = [row for row in rows if row.get("kind") in (None, "reversal") and row.get("superseded_at") is None]
    key = [column == before[column.name] for column in table.primary_key]
    with database.write() as conn:
        conn.execute(update(table).where(*key).values(**change))
    assert any(words in line for line in lab.differences())
    key = [column == change.get(column.name, before[column.name]) for column in table.primary_key]
    with database.write() as conn:
        conn.execute(update(table).where(*key).values(**before))


# ---- restarts that are told late


def test_restart_that_is_told_late_parts_sessions_of_one_id(lab: Lab, database: Database) -> None:
    receive(database, GATEWAY, session(1, 0), session(1, 300), session(2, 360))
    lab.process()
    receive(database, GATEWAY, session(7, 200))
    lab.process()
    assert [(row.stop_cause, row.duration_ms) for row in lab.cdrs()] == [("nas_reboot", 200_000), ("bye", 60_000)]


# ---- what is tried again


def test_exception_that_is_read_with_other_settings_is_no_call(lab: Lab, database: Database) -> None:
    lab.journal(invite("c1", 0))
    receive(database, WRONG, bye("c1", 60), request(SECRET, (40, 2), (204, 256), (205, 200), (55, T0), (44, "m1")))
    lab.process()
    assert [(row.stop_cause, row.duration_ms) for row in lab.cdrs()] == [("bye", 60_000)]
    [wrong] = [str(row["id"]) for row in _exceptions(lab) if row["kind"] == "call"]
    assert "1 settled" in lab.tollbook("exceptions", "retry", wrong)
    assert [(row.stop_cause, row.duration_ms, row.revision) for row in lab.cdrs()] == [("bye", 60_000, 1)]
    lab.tollbook("rerate")
    lab.process()


def test_exception_that_todays_settings_cannot_read_stays_as_it_is(lab: Lab) -> None:
    lab.journal(bye("c1", 60))
    lab.process()
    path = lab.settings.path
    assert path is not None
    right = path.read_text()
    path.write_text(right.replace('"opensips"', '"asterisk"'))
    assert "1 left" in lab.tollbook("exceptions", "retry")
    path.write_text(right)
    lab.journal(invite("c1", 0))
    lab.process()
    assert [row.duration_ms for row in lab.cdrs()] == [60_000]


def test_retry_that_fails_leaves_the_exception(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from cdr import pipeline

    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug in pairing")

    lab.journal(bye("c2", 60))
    lab.process(after_s=1_000)
    lab.journal(invite("c1", 0, status=FAILED, code=486))
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "pair_group", failing)
        lab.process()
        before = _exceptions(lab)
        assert {row["reason"] for row in before} == {"processing_failed", "stop_without_start"}
        assert "2 left" in lab.tollbook("exceptions", "retry")
        assert _exceptions(lab) == before
    assert lab.differences() == ()
    [set_aside] = [str(row["id"]) for row in before if row["reason"] == "processing_failed"]
    assert "1 settled" in lab.tollbook("exceptions", "retry", set_aside)
    lab.process()
    assert [row.disposition for row in lab.cdrs()] == ["busy"]


def _exceptions(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.tollbook("exceptions", "list", "--json"))
    return found


def test_value_that_the_database_refuses_is_found_among_many(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from cdr import pipeline

    sound = pipeline.pair_group

    def with_one_absurd(events: Any, **known: Any) -> Any:
        group = sound(events, **known)
        if events[0].call_id != "c77":
            return group
        return group._replace(calls=tuple(call._replace(setup_ms=2**70) for call in group.calls))

    lab.journal(*(invite(f"c{n}", n) for n in range(200)), *(bye(f"c{n}", n + 60) for n in range(200)))
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "pair_group", with_one_absurd)
        lab.process()
    assert len(lab.cdrs()) == 199
    aside = [row for row in _exceptions(lab) if row["kind"] == "call"]
    assert [row["reason"] for row in aside] == ["processing_failed", "stop_without_start"]
    assert lab.differences() == ()
    lab.tollbook("exceptions", "retry", *(str(row["id"]) for row in aside))
    assert [row.duration_ms for row in lab.cdrs()] == [60_000] * 200


def test_a_call_that_cannot_be_made_does_not_take_the_restart_of_its_gateway_with_it(
    lab: Lab, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdr import pipeline

    sound = pipeline.pair_group

    def failing(events: Any, **known: Any) -> Any:
        if events[0].call_id == "s2" and known["reboots"]:
            raise RuntimeError("a bug in pairing")
        return sound(events, **known)

    receive(database, GATEWAY, *(session(1, n, f"s{n}") for n in range(5)))
    lab.process(after_s=10)
    receive(database, GATEWAY, session(7, 60, "boot"))
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "pair_group", failing)
        lab.process(after_s=100)
    assert [(row.call_id, row.stop_cause) for row in lab.cdrs()] == [(f"s{n}", "nas_reboot") for n in (0, 1, 3, 4)]
    [aside] = [row for row in _exceptions(lab) if row["kind"] == "call"]
    assert (aside["reason"], aside["call_id"]) == ("processing_failed", "s2")
    assert lab.differences() == ()
    lab.tollbook("exceptions", "retry")
    assert [(row.stop_cause, row.duration_ms) for row in lab.cdrs() if row.call_id == "s2"] == [("nas_reboot", 58_000)]


# ---- corrections


@pytest.mark.parametrize("tag", [b"a", b"\xff\x00\xe9", 'a\\xff"\u2028'.encode()])
def test_call_of_odd_octets_can_be_closed_by_hand(lab: Lab, database: Database, tag: bytes) -> None:
    receive(
        database,
        PROXY,
        request(SECRET, (40, 1), (204, 1), (205, 200), (55, T0), (206, tag), (207, b"\x80"), (44, tag + b"@host")),
    )
    lab.process()
    _close(lab, "2026-11-24T06:02:00Z")
    assert [(row.stop_cause, row.duration_ms) for row in lab.cdrs()] == [("operator", 120_000)]


def test_open_session_can_be_closed_by_hand_though_others_use_its_id(lab: Lab, database: Database) -> None:
    now = int(time.time())
    begun = [request(SECRET, (40, 1), (44, "s1"), (55, now - 600), (32, nas)) for nas in ("nas-1", "nas-2")]
    writer = JournalWriter(database, "receiver", "now")
    source_id = register_source(database, GATEWAY)
    writer.append([((now - 600) * 1_000_000, source_id, PEER, packet) for packet in begun])
    writer.close()
    lab.tollbook("process")
    [first, second] = json.loads(lab.tollbook("cdr", "open", "--json"))
    ended_at = datetime.fromtimestamp(now - 480, UTC).isoformat()
    lab.tollbook("cdr", "close", str(second["id"]), "--ended-at", ended_at, "--reason", "seen")
    assert [(row.id, row.nas, row.duration_ms) for row in lab.cdrs()] == [(second["id"], "nas-2", 120_000)]
    assert [call["id"] for call in json.loads(lab.tollbook("cdr", "open", "--json"))] == [first["id"]]


def test_session_can_be_closed_by_hand_and_the_last_word_counts(lab: Lab, database: Database) -> None:
    receive(database, GATEWAY, session(1, 0))
    lab.process()
    _close(lab, "2026-11-24T06:02:00Z")
    _close(lab, "2026-11-24T06:01:00Z")
    _close(lab, "2026-11-24T06:02:00Z")
    assert [(row.stop_cause, row.duration_ms, row.revision) for row in lab.cdrs()] == [("operator", 120_000, 4)]


def _close(lab: Lab, ended_at: str) -> None:
    [row] = lab.cdrs()
    lab.tollbook("cdr", "close", str(row.id), "--ended-at", ended_at, "--reason", "seen")
