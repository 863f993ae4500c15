"""Rows of MediaProxy's media_sessions: how long the media lasted, and why they ended."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.sources import translate
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, row

RELAY = Source(id=4, name="relay-1", kind="sql", dialects=("mediaproxy",), rank=2)
BEGAN = ARRIVED - 1_000.5


def stream(status: str = "conntrack timeout", end: int | None = 300, wait: int = 180, **more: Any) -> dict[str, Any]:
    return {"media_type": "audio", "status": status, "timeout_wait": wait, "start_time": 0, "end_time": end, **more}


def raw(*streams: dict[str, Any], columns: dict[str, Any] | None = None, **info: Any) -> bytes:
    told = {
        "call_id": "c1", "from_tag": "f", "to_tag": "t", "from_uri": "alice@lab", "start_time": BEGAN, "duration": 300,
        "timed_out": True, "caller_ua": "LabPhone", "streams": list(streams),
    }  # fmt: skip
    cells = {"id": "7", "call_id": "c1", "from_tag": "f", "to_tag": "t", "info": json.dumps(told | info)}
    return json.dumps({"table": "media_sessions", "row": cells | (columns or {})}).encode()


def event(*streams: dict[str, Any], columns: dict[str, Any] | None = None, **info: Any) -> AccountingEvent:
    got = translate(row(raw(*streams, columns=columns, **info)), RELAY)
    assert isinstance(got, AccountingEvent), got
    return got


def test_timeout_takes_off_the_time_that_the_relay_waited() -> None:
    told = event(stream())
    assert (told.kind, told.call_id, told.from_tag, told.to_tag) == (EventKind.MEDIA, "c1", "f", "t")
    assert (told.duration_ms, told.media_info, told.ended_us) == (120_000, "timeout", None)
    assert (told.at_us, told.timed) == (ARRIVED_US - 880_500_000, True)
    assert (told.source, told.rank, told.role) == ("relay-1", 2, "access")


def test_stream_that_lasted_longest_counts() -> None:
    assert event(stream(), stream("no-traffic timeout", 300, 90)).duration_ms == 210_000
    assert event(stream(), stream("closed", 250, 0)).duration_ms == 250_000
    assert event(stream(), stream("rejected", 300, 0), stream(end=None)).duration_ms == 120_000
    assert event().duration_ms == 300_000


def test_media_that_ended_with_the_call_have_the_sessions_duration() -> None:
    told = event(stream("closed", wait=0), timed_out=False)
    assert (told.duration_ms, told.media_info) == (300_000, "")


def test_timeout_of_a_hold_is_told_apart() -> None:
    told = event(stream("no-traffic timeout", 7_500, 7_200), duration=7_500)
    assert (told.duration_ms, told.media_info) == (7_500_000, "timeout on hold")


def test_ice_says_nothing_of_the_end() -> None:
    assert event(stream("unselected ICE candidate")).media_info == "ICE session"
    assert event(stream(), all_streams_ice=True).media_info == "ICE session"
    assert event(stream("unselected ICE candidate"), stream()).media_info == "timeout"


def test_session_that_was_never_answered_tells_no_duration() -> None:
    told = event(start_time=None, duration=0, timed_out=False)
    assert (told.duration_ms, told.at_us, told.timed) == (None, ARRIVED_US, False)


def test_keys_come_from_the_columns_else_from_the_statistics() -> None:
    assert event(stream(), columns={"to_tag": None}).to_tag == "t"
    assert event(stream(), columns={"to_tag": None}, to_tag=None).to_tag == ""
    assert event(stream(), columns={"call_id": "c2"}).call_id == "c2"


def test_statistics_that_are_no_text_of_utf8_are_read() -> None:
    info = json.dumps({"call_id": "c1", "start_time": BEGAN, "duration": 5}).encode() + b" "
    assert event(columns={"info": {"hex": info.hex()}}).duration_ms == 5_000


def test_value_that_fills_its_column_is_flagged() -> None:
    cut = json.loads(raw(stream()))
    got = translate(row(json.dumps({**cut, "full": ["from_tag"]}).encode()), RELAY)
    assert isinstance(got, AccountingEvent)
    assert got.flags == ("maybe_cut",)


@pytest.mark.parametrize("info", [None, "", "[]", "{", "null", 5, {"hex": "zz"}, "[" * 100_000])
def test_what_is_no_statistics_is_refused(info: Any) -> None:
    got = translate(row(raw(columns={"info": info})), RELAY)
    assert isinstance(got, Untranslatable)
    assert got.reason == "bad_row"


@pytest.mark.parametrize("odd", [-1, 1e300, True, "5", [], {}, 2**70])
def test_absurd_figures_are_not_used(odd: Any) -> None:
    told = event(stream(end=odd, wait=odd), {"status": odd}, odd, duration=odd, start_time=odd)  # type: ignore[arg-type]
    assert told.duration_ms is None
    assert (told.at_us, told.timed) == (ARRIVED_US, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["call_id", "streams", "status", "end_time", "timeout_wait", "duration", "start_time", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_no_statistics_break_translation(info: Any, timed_out: bool) -> None:
    told = info | {"timed_out": timed_out} if isinstance(info, dict) else info
    got = translate(row(raw(columns={"info": json.dumps(told)})), RELAY)
    assert isinstance(got, AccountingEvent | Untranslatable)
