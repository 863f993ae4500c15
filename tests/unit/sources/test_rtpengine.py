"""rtpengine's CDR lines: what media ended, when, and why."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.sources import translate
from accounting.sources.rtpengine import is_cdr_line
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, CORPUS, PEER, row

RELAY = Source(id=3, name="relay-1", kind="media", dialects=("rtpengine",), rank=2)
LINES = [
    told["line"].encode()
    for line in (CORPUS / "rtpengine-cdr-syslog.jsonl").read_text().splitlines()
    if (told := json.loads(line))["kind"] == "syslog"
]
LAST = ARRIVED - 70


def leg(
    number: int, tag: str, other: str, kind: str, *, last: Any = LAST, packets: int = 9, why: str = "TIMEOUT"
) -> str:
    stream = f"ml{number}_midx1_rtp"
    return (
        f"ml{number}_start_time={LAST - 60}.123456, ml{number}_end_time={ARRIVED}.000001, "
        f"ml{number}_duration=60.000000, ml{number}_termination={why}, ml{number}_local_tag={tag}, "
        f"ml{number}_local_tag_type={kind}, ml{number}_remote_tag={other}, payload_type=8, "
        f"{stream}_relayed_packets={packets}, {stream}_relayed_errors=0, {stream}_last_packet={last}, "
        f"{stream}_in_tos_tclass=0, ml{number}_midx1_rtcp_relayed_packets=5, "
        f"ml{number}_midx1_rtcp_last_packet={ARRIVED}, ml{number}_midx1_rtcp_in_tos_tclass=0, "
    )


def line(*legs: str, head: str = "<182>Nov 24 07:25:42 rtpengine: ") -> bytes:
    return f"{head}ci=c1, created_from=127.0.0.1:3829, last_signal={LAST}, tos=184, {''.join(legs)}".encode()


def caller(**words: Any) -> str:
    return leg(0, "f", "t", "FROM_TAG", **words)


def callee(**words: Any) -> str:
    return leg(1, "t", "f", "TO_TAG", **words)


def event(raw: bytes) -> AccountingEvent:
    got = translate(row(raw), RELAY)
    assert isinstance(got, AccountingEvent), got
    return got


@pytest.mark.parametrize(
    ("raw", "call_id", "tags", "last", "why"),
    [
        (LINES[0], "1-8253@127.0.0.2", ("8253uac1", "8252uas1"), 1_795_505_118, "REGULAR"),
        (LINES[1], "1-8311@127.0.0.2", ("8311uac1", "8310uas1"), 1_795_505_135, "TIMEOUT"),
    ],
)
def test_captured_lines_tell_the_last_packet(
    raw: bytes, call_id: str, tags: tuple[str, str], last: int, why: str
) -> None:
    assert is_cdr_line(raw)
    told = event(raw)
    assert (told.kind, told.call_id, (told.from_tag, told.to_tag)) == (EventKind.MEDIA, call_id, tags)
    assert (told.ended_us, told.at_us, told.timed, told.media_info) == (last * 1_000_000, last * 1_000_000, True, why)
    assert (told.duration_ms, told.source, told.rank, told.nas, told.flags) == (None, "relay-1", 2, "192.0.2.9", ())


def test_latest_packet_of_all_rtp_streams_counts_and_rtcp_does_not() -> None:
    assert event(line(caller(), callee(last=LAST + 5))).ended_us == (LAST + 5) * 1_000_000


def test_stream_without_packets_says_nothing() -> None:
    assert event(line(caller(), callee(last=LAST + 5, packets=0))).ended_us == LAST * 1_000_000
    silent = event(line(caller(packets=0), callee(packets=0)))
    assert (silent.ended_us, silent.duration_ms, silent.at_us) == (None, None, ARRIVED_US + 1)


def test_reasons_that_differ_are_all_told() -> None:
    assert event(line(caller(), callee(why="SILENT_TIMEOUT"))).media_info == "TIMEOUT, SILENT_TIMEOUT"
    assert event(line(caller(), callee())).media_info == "TIMEOUT"


def test_leg_of_the_caller_gives_the_tags_wherever_it_stands() -> None:
    told = event(line(leg(0, "t", "f", "TO_TAG"), leg(1, "f", "t", "FROM_TAG")))
    assert (told.from_tag, told.to_tag) == ("f", "t")


def test_forked_call_has_the_callee_that_sent_last() -> None:
    branch = leg(1, "lost", "f", "TO_TAG", last=LAST - 30)
    told = event(line(caller().replace("remote_tag=t", "remote_tag=lost"), branch, leg(2, "t", "f", "TO_TAG")))
    assert (told.from_tag, told.to_tag) == ("f", "t")


def test_offer_without_answer_has_no_callee() -> None:
    alone = caller(packets=0, why="OFFER_TIMEOUT").replace("ml0_remote_tag=t, ", "")
    assert (event(line(alone)).from_tag, event(line(alone)).to_tag) == ("f", "")


@pytest.mark.parametrize(
    "head", ["", "Nov 24 07:25:42 host rtpengine[712]: ", "<182>1 2026-11-24T07:25:42Z h rtpengine - "]
)
@pytest.mark.parametrize("tail", [b"", b"\n", b"\x00", b"\r\n"])
def test_framing_of_syslog_does_not_matter(head: str, tail: bytes) -> None:
    raw = line(caller(), callee(), head=head).rstrip() + tail
    assert is_cdr_line(raw)
    assert (event(raw).call_id, event(raw).ended_us, event(raw).flags) == ("c1", LAST * 1_000_000, ())


def test_line_that_was_cut_short_tells_no_end() -> None:
    whole = line(caller(), callee(last=LAST + 500))
    for size in range(whole.index(b"ml1_"), len(whole) - 2):
        told = event(whole[:size])
        assert told.flags == (() if whole[:size].rstrip().endswith(b",") else ("line_cut",))
        assert told.ended_us is None or not told.flags


def test_absurd_times_are_not_used() -> None:
    for last in ("0", "99999999999", "4294967296000", "x", "-5", ""):
        assert event(line(caller(last=last))).ended_us is None


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 1900), st.binary(max_size=3)), max_size=4))
def test_no_line_breaks_translation(noise: bytes, edits: list[tuple[int, bytes]]) -> None:
    broken = bytearray(LINES[1])
    for place, octets in edits:
        broken[place : place + 1] = octets
    for raw in (noise, bytes(broken)):
        assert isinstance(translate(row(raw), RELAY), AccountingEvent | Untranslatable)
        is_cdr_line(raw)


def test_what_is_no_cdr_is_refused() -> None:
    for raw in (b"", b"rtpengine: info: [c1] Creating new call", b"\xff\x00=,", line()):
        assert isinstance(translate(row(raw), RELAY), Untranslatable)
    assert not is_cdr_line(b"rtpengine: info: [ci=c1] Creating new call")
    assert not is_cdr_line(b"")


def test_line_of_a_file_has_no_sender() -> None:
    got = translate(row(LINES[0], peer=b""), RELAY)
    assert isinstance(got, AccountingEvent)
    assert got.nas == ""
    assert PEER
