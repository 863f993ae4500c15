"""Pairing cases that other programs agree or disagree on. Where their outcome is not ours, the test says what is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from accounting.event import AccountingEvent, EventKind
from cdr.call import Call, CallState
from cdr.pairing import pair_group
from tests.unit.sources.rows import DATA

ORACLES = json.loads((DATA / "oracles/pairing.json").read_text("utf-8"))
RADIUS = {case["id"]: case for case in ORACLES["radius"]}
SQL = {case["id"]: case for case in ORACLES["sql_pairing"]}
LATER_US = 2 * 86_400 * 1_000_000


def micros(time: str | int) -> int:
    if isinstance(time, int):
        return time * 1_000_000
    stamp = datetime.fromisoformat(time)
    return round((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()) * 1_000_000


def of_packet(ref: int, packet: dict[str, Any]) -> AccountingEvent:
    kinds = {"Start": EventKind.START, "Stop": EventKind.STOP, "Failed": EventKind.FAILED}
    kind = kinds.get(packet["Acct-Status-Type"], EventKind.INTERIM)
    at_us = micros(packet.get("Event-Timestamp", 1_700_000_000))
    event = AccountingEvent(ref, kind, at_us, at_us, 1, "nas", 1, "access", packet["Acct-Session-Id"])
    event = event._replace(
        from_tag=packet.get("Sip-From-Tag", ""),
        to_tag=packet.get("Sip-To-Tag", ""),
        is_session="Sip-From-Tag" not in packet,
        sip_code=packet.get("Sip-Response-Code"),
    )
    if "Acct-Session-Time" in packet:
        event = event._replace(duration_ms=packet["Acct-Session-Time"] * 1000)
    if "Sip-Call-MSDuration" in packet:
        event = event._replace(
            kind=EventKind.COMPLETE,
            duration_ms=packet["Sip-Call-MSDuration"],
            setup_ms=packet["Sip-Call-Setuptime"] * 1000,
            created_us=micros(packet["Sip-Call-Created"]),
        )
    return event


def of_row(row: dict[str, Any]) -> AccountingEvent:
    at_us, code = micros(row["time"]), int(row["sip_code"])
    kind = EventKind.STOP if row["method"] == "BYE" else EventKind.START if code < 300 else EventKind.FAILED
    event = AccountingEvent(
        row["id"], kind, at_us, at_us, 1, "sql", 1, "access", row["callid"], row["from_tag"], row["to_tag"],
        sip_code=code,
    )  # fmt: skip
    if "ms_duration" in row:
        told = {"duration_ms": row["ms_duration"], "setup_ms": row["setuptime"] * 1000}
        event = event._replace(kind=EventKind.COMPLETE, created_us=micros(row["created"]), **told)
    return event


def calls_of_packets(case: str) -> list[Call]:
    events = [of_packet(ref, packet) for ref, packet in enumerate(RADIUS[case]["packets"], 1)]
    return list(pair_group(events, now_us=events[-1].at_us + LATER_US).calls)


def calls_of_rows(case: str) -> list[Call]:
    events = [of_row(row) for row in SQL[case]["rows"]]
    now_us = micros(SQL[case]["now"]) if "now" in SQL[case] else max(e.at_us for e in events) + LATER_US
    return list(pair_group(events, now_us=now_us).calls)


@pytest.mark.parametrize("case", ["wire-1", "wire-8"])
def test_start_and_stop(case: str) -> None:
    [call] = calls_of_packets(case)
    assert (call.duration_ms, call.stop_cause) == (RADIUS[case]["expect"]["duration_s"] * 1000, "bye")


def test_interim_update_alone_is_a_session_that_began_before_it() -> None:
    events = [of_packet(1, packet) for packet in RADIUS["wire-3"]["packets"]]
    [call] = pair_group(events, now_us=events[0].at_us).calls
    assert (call.state, call.answered_us) == (CallState.OPEN, events[0].at_us - 30_000_000)


def test_stop_alone_with_its_time_is_a_call() -> None:
    [call] = calls_of_packets("wire-4")
    assert (call.state, call.duration_ms, call.flags) == (CallState.CLOSED, 120_000, ("start_missing",))


def test_two_starts_are_one_session() -> None:
    [call] = calls_of_packets("wire-5")
    assert (call.state, call.stop_cause) == (CallState.CLOSED, "max_age")


def test_complete_record() -> None:
    [call] = calls_of_packets("wire-6")
    expect = RADIUS["wire-6"]["expect"]
    assert call.answered_us == expect["answer_epoch"] * 1_000_000
    assert call.ended_us == expect["end_epoch_ms"] * 1_000
    assert (call.duration_ms, call.setup_ms) == (expect["duration_ms"], expect["setup_s"] * 1000)


def test_failed_call() -> None:
    [call] = calls_of_packets("wire-7")
    assert (call.disposition, call.duration_ms) == ("busy", 0)


@pytest.mark.parametrize(
    "case", ["pair-1", "pair-2", "pair-3", "pair-4", "pair-7", "pair-10", "pair-11", "pair-13", "pair-14"]
)
def test_rows_give_the_calls_expected(case: str) -> None:
    expected = [one.get("duration_ms", one.get("duration_s", 0) * 1000) for one in SQL[case]["expect"]]
    assert [call.duration_ms for call in calls_of_rows(case)] == expected
    assert {call.state for call in calls_of_rows(case)} == {CallState.CLOSED}


def test_serial_fork_is_one_cdr_with_an_attempt() -> None:
    [call] = calls_of_rows("pair-5")
    assert (call.duration_ms, call.attempts) == (60_000, 1)


def test_two_answers_are_one_cdr_of_the_longest() -> None:
    [call] = calls_of_rows("pair-6")
    assert (call.to_tag, call.duration_ms, call.flags) == ("t1", 300_000, ("multi_answer",))


def test_call_without_bye_is_open_until_max_age() -> None:
    [call] = calls_of_rows("pair-8")
    assert call.state is CallState.OPEN


def test_media_proxy_closes_the_call() -> None:
    [start] = [of_row(row) for row in SQL["pair-9"]["rows"]]
    told = SQL["pair-9"]["media"]["Acct-Session-Time"]
    at_us = start.at_us + (told + 60) * 1_000_000
    media = start._replace(ref=2, kind=EventKind.MEDIA, at_us=at_us, duration_ms=told * 1000, media_info="timeout")
    [call] = pair_group([start, media], now_us=at_us + LATER_US).calls
    assert (call.duration_ms, call.stop_cause) == (245_000, "media")


def test_local_times_across_the_clock_change_alone_are_an_exception() -> None:
    [call] = calls_of_rows("pair-12")
    assert (call.state, call.reason) == (CallState.EXCEPTION, "negative_duration")
