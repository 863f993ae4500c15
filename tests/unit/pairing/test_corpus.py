"""Captured traffic of real proxies becomes the calls that took place."""

import random
from collections import defaultdict

import pytest

from accounting.event import AccountingEvent, EventKind, group_key
from accounting.sources.uri import user_part
from cdr.call import Call, CallState
from cdr.pairing import pair_group
from cdr.pairing_calls import disposition_of
from tests.unit.sources.rows import Capture, captures

TWO_DAYS_US = 2 * 86_400 * 1_000_000
ANSWERS = (EventKind.START, EventKind.COMPLETE)
ALL = [capture for capture in captures() if capture.calls]
CAPTURES = pytest.mark.parametrize("capture", ALL, ids=lambda c: f"{c.proxy}/{c.scenario}")


def calls_of(capture: Capture) -> dict[str, list[Call]]:
    groups: dict[str, list[AccountingEvent]] = defaultdict(list)
    for event in capture.events():
        if event.kind is not EventKind.OTHER:
            groups[group_key(event)].append(event)
    now_us = max(row.received_us for row in capture.rows) + TWO_DAYS_US if capture.rows else 0
    found: dict[str, list[Call]] = {}
    for key, events in groups.items():
        calls = list(pair_group(events, now_us=now_us).calls)
        for call in calls:
            found.setdefault(call.call_id, []).append(call)
        random.Random(key).shuffle(events)
        twice = [event._replace(ref=event.ref + 1000) for event in events]
        again = pair_group([*twice, *events], now_us=now_us)
        assert list(again.calls) == calls
        assert len(again.duplicates) >= len(events)
    return found


@CAPTURES
def test_one_call_becomes_one_cdr(capture: Capture) -> None:
    found = calls_of(capture)
    for truth in capture.calls:
        calls = found.get(truth["call_id"], [])
        reported = [event for event in capture.events() if event.call_id == truth["call_id"]]
        assert len(calls) == (1 if reported and truth["method"] == "INVITE" else 0)
        for call in calls:
            assert call.state is CallState.CLOSED
            (check_answered if truth["answered"] else check_failed)(call, truth, reported, capture)


def check_failed(call: Call, truth: dict, reported: list[AccountingEvent], capture: Capture) -> None:  # type: ignore[type-arg]
    assert call.disposition == disposition_of(truth["final_code"])
    assert call.sip_code in {truth["final_code"]} | {leg.get("final_code") for leg in truth["leg_list"]}
    assert (call.duration_ms, call.answered_us, call.stop_cause) == (0, None, "")
    assert user_part(call.caller_uri) == user_part(truth["caller"])


def check_answered(call: Call, truth: dict, reported: list[AccountingEvent], capture: Capture) -> None:  # type: ignore[type-arg]
    assert call.disposition == "answered"
    assert call.answered_us is not None
    assert abs(call.answered_us / 1e6 - truth["answer_epoch"]) < 1.5
    assert user_part(call.caller_uri) == user_part(truth["caller"])
    assert user_part(call.called_uri) in {user_part(truth["callee"]), user_part(truth["request_uri"])}
    if not any(event.kind in (EventKind.STOP, EventKind.COMPLETE) for event in reported):
        assert (call.stop_cause, call.exceptions) == ("max_age", ("no_stop",))
        return
    is_exact = any(event.kind is EventKind.COMPLETE for event in reported)
    assert call.stop_cause == ("complete" if is_exact else "bye")
    assert abs(call.duration_ms - truth["billable_ms"]) <= (60 if is_exact else 1_100)
    if not is_exact and truth["byes_on_the_wire_to_proxy"] == 1:
        assert call.released_by == truth["released_by"]


def test_forwarded_calls_tell_who_forwarded_them() -> None:
    spirals = [capture for capture in ALL if capture.scenario == "cfu_spiral"]
    assert len(spirals) == 2
    for capture in spirals:
        for [call] in calls_of(capture).values():
            assert (call.called_uri, call.forwarder_uri) == ("sip:cfubob@lab.example", "sip:cfubob@lab.example")
            assert call.forwarded_to_uri == "sip:bob@lab.example"
            assert call.forwarded_via_uri.startswith("sip:bob@127.0.0.3:")
            assert call.source_ip == "127.0.0.2"
