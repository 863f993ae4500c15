"""Captured calls of Kamailio with rtpengine: the proxy's packets and the relay's lines together."""

import json

import pytest

from accounting.event import AccountingEvent, Source
from accounting.sources import translate
from cdr.call import Call
from cdr.pairing import pair_group
from tests.unit.sources.rows import CORPUS, Capture, captures, row

RELAY = Source(id=9, name="relay", kind="media", dialects=("rtpengine",), rank=2)
CAPTURES = {capture.scenario: capture for capture in captures() if capture.proxy == "kamailio-rtpengine"}


def call_of(capture: Capture, *, with_media: bool = True, after_s: int = 3600) -> Call:
    [truth] = capture.calls
    events = [event for event in capture.events() if event.call_id == truth["call_id"]]
    for place, line in enumerate((CORPUS / "rtpengine-cdr-syslog.jsonl").read_text().splitlines(), 100):
        told = json.loads(line)
        if told["kind"] == "syslog" and with_media:
            raw = row(told["line"].encode(), received_us=capture.rows[-1].received_us + 20_000_000)
            event = translate(raw._replace(ref=place), RELAY)
            assert isinstance(event, AccountingEvent)
            events += [event] if event.call_id == truth["call_id"] else []
    [call] = pair_group(events, now_us=capture.rows[-1].received_us + after_s * 1_000_000).calls
    return call


def test_lost_bye_is_made_good_by_the_last_packet() -> None:
    capture = CAPTURES["media_lost_bye"]
    [truth] = capture.calls
    call = call_of(capture)
    assert (call.stop_cause, call.released_by, call.disposition) == ("media", "system", "answered")
    assert call.answered_us is not None
    assert abs(call.answered_us / 1e6 - truth["answer_epoch"]) < 1.1
    assert abs(call.duration_ms - 5_000) <= 1_000  # five seconds of RTP, both clocks in whole seconds
    assert (call.from_tag, call.to_tag) == (truth["from_tag"], truth["to_tag"])
    assert call_of(capture, with_media=False).state == "open"


def test_bye_counts_where_there_is_one() -> None:
    capture = CAPTURES["media_bye"]
    [truth] = capture.calls
    call = call_of(capture)
    assert (call.stop_cause, call.released_by) == ("bye", truth["released_by"])
    assert abs(call.duration_ms - truth["billable_ms"]) <= 1_100
    without = call_of(capture, with_media=False)
    assert call._replace(events=(), reported_us=0) == without._replace(events=(), reported_us=0)


@pytest.mark.parametrize("scenario", ["media_lost_bye", "media_bye"])
def test_each_captured_line_belongs_to_its_call(scenario: str) -> None:
    capture = CAPTURES[scenario]
    assert len(call_of(capture).events) == len(call_of(capture, with_media=False).events) + 1
