"""Captured datagrams of real proxies become the events that their calls really were."""

import re
from collections import Counter

import pytest

from accounting.event import AccountingEvent, EventKind
from accounting.sources.uri import user_part
from tests.unit.sources.rows import Capture, captures

ALL = captures()
CALLS = pytest.mark.parametrize("capture", [c for c in ALL if c.calls], ids=lambda c: f"{c.proxy}/{c.scenario}")


def events_of(capture: Capture, call: dict[str, object]) -> list[AccountingEvent]:
    return [event for event in capture.events() if event.call_id == call["call_id"]]


def plain_user(uri: str) -> str | None:
    found = re.match(r"(?:sips?|tel):(\+?[A-Za-z0-9]+)(?:@|$)", uri)
    return found and found[1]


@pytest.mark.parametrize("capture", ALL, ids=lambda c: f"{c.proxy}/{c.scenario}")
def test_every_captured_datagram_translates_without_an_oddity(capture: Capture) -> None:
    for event in capture.events():
        assert event.flags == ()
        assert event.timed


@CALLS
def test_events_carry_the_tags_of_the_call(capture: Capture) -> None:
    for call in capture.calls:
        for event in events_of(capture, call):
            assert call["from_tag"] in (event.from_tag, event.to_tag)


@CALLS
def test_answer_is_told_at_its_time(capture: Capture) -> None:
    for call in capture.calls:
        answers = [e for e in events_of(capture, call) if e.kind in (EventKind.START, EventKind.COMPLETE)]
        assert call["answered"] or not answers
        for answer in answers:
            assert abs(answer.at_us / 1e6 - call["answer_epoch"]) < 1.5


@CALLS
def test_complete_records_tell_the_exact_duration(capture: Capture) -> None:
    for call in capture.calls:
        for event in events_of(capture, call):
            if event.kind is EventKind.COMPLETE:
                assert event.duration_ms is not None
                assert abs(event.duration_ms - call["billable_ms"]) <= 60
                assert event.sip_code is None
                assert event.created_us is not None
                assert abs(event.created_us / 1e6 - call["start_epoch"]) < 1.5


@CALLS
def test_failures_tell_a_code_that_was_seen(capture: Capture) -> None:
    for call in capture.calls:
        seen = {call["final_code"]} | {leg.get("final_code") for leg in call["leg_list"]}
        for event in events_of(capture, call):
            if event.kind is EventKind.FAILED:
                assert event.sip_code in seen


@CALLS
def test_first_pass_names_caller_and_called(capture: Capture) -> None:
    for call in capture.calls:
        caller, called = plain_user(call["caller"]), plain_user(call["request_uri"])
        for event in events_of(capture, call):
            if event.kind in (EventKind.STOP, EventKind.INTERIM) or event.source_is_own or not (caller and called):
                continue
            assert (user_part(event.caller_uri), user_part(event.called_uri)) == (caller, called)


@CALLS
def test_messages_are_no_calls(capture: Capture) -> None:
    for call in capture.calls:
        if call["method"] != "INVITE":
            assert {event.kind for event in events_of(capture, call)} == {EventKind.OTHER}


def test_kinds_of_all_captured_datagrams() -> None:
    kinds = Counter(event.kind.value for capture in ALL for event in capture.events())
    assert kinds == {
        "start": 77,
        "stop": 76,
        "failed": 17,
        "complete": 6,
        "interim": 3,
        "other": 2,
        "nas_on": 1,
        "nas_off": 1,
    }


def test_generic_session_of_a_gateway_is_keyed_by_its_nas() -> None:
    [gateway] = [event for capture in ALL for event in capture.events() if event.is_session]
    assert (gateway.kind, gateway.nas, gateway.call_id) == (EventKind.STOP, "127.0.0.1", "00000A1B")
    assert (gateway.duration_ms, gateway.caller_uri, gateway.called_uri) == (61_000, "34600123123", "34911000111")


def test_spiral_passes_are_told_apart_by_whose_address_sent_them() -> None:
    for capture in ALL:
        if capture.scenario == "cfu_spiral":
            passes = [(e.source_is_own, user_part(e.called_uri)) for e in capture.events() if e.kind is EventKind.START]
            assert (False, "cfubob") in passes
            assert sum(own for own, _ in passes) == 1


def test_latin1_display_name_stays_readable() -> None:
    [capture] = [c for c in ALL if c.scenario == "latin1_from"]
    assert {event.from_user for event in capture.events()} == {"alice@lab.example"}


def test_odd_user_part_is_kept_whole() -> None:
    [capture] = [c for c in ALL if c.scenario == "odd_user"]
    assert {user_part(event.caller_uri) for event in capture.events()} == {"o'brien;--%20drop+1_2*3!"}
