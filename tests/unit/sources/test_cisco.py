"""What Cisco gateways say of the legs of a call, as events."""

from typing import Any

import pytest

from accounting.event import AccountingEvent, EventKind
from accounting.sources import translate
from tests.support.radius import vsa
from tests.support.switches import START, STOP, cisco
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, captures, event, refused, row, source

BY = source("cisco")
SECOND = 1_000_000
INTERIM = 3
STOPPED = (40, 2)


def of(raw: bytes) -> AccountingEvent:
    got = translate(row(raw), BY)
    assert isinstance(got, AccountingEvent), got
    return got


def leg(origin: str = "originate", call_type: str = "VoIP", status: int = STOP, **more: Any) -> AccountingEvent:
    times = {"setup": ARRIVED - 80.5, "connect": ARRIVED - 70.343, "end": ARRIVED - 9.093} | more
    return of(cisco(status, origin, call_type, **times))


def test_stop_of_an_answered_leg_is_complete_to_the_millisecond() -> None:
    got = leg()
    assert (got.kind, got.at_us, got.duration_ms) == (EventKind.COMPLETE, ARRIVED_US - 70_343_000, 61_250)
    assert (got.created_us, got.setup_ms, got.timed, got.flags) == (ARRIVED_US - 80_500_000, 10_157, True, ())
    assert (got.call_id, got.is_session, got.nas) == ("16000000 0 0 1234ABCD", False, "198.51.100.9")


def test_legs_name_their_ends_of_the_call() -> None:
    out = leg("originate", remote="203.0.113.7")
    assert (out.leg, out.source_ip, out.translated_uri) == ("originate", "", "sip:4915112345678@203.0.113.7")
    into = leg("answer", remote="203.0.113.7:1720")
    assert (into.leg, into.source_ip, into.translated_uri) == ("answer", "203.0.113.7", "")
    wire = leg("answer", "Telephony", remote="203.0.113.7")
    assert (wire.source_ip, wire.caller_uri, wire.called_uri, wire.auth_user) == (
        "", "34600123123", "4915112345678", "",
    )  # fmt: skip


def test_user_is_trusted_unless_it_is_only_the_calling_number() -> None:
    told = (STOPPED, vsa(9, 24, "1 2 3 4"), (31, "34600123123"))
    assert event(*told, (1, "34600123123"), by=BY).auth_user == ""
    card = event(*told, (1, "card-7"), by=BY)
    assert (card.auth_user, card.caller_uri, card.from_user) == ("card-7", "34600123123", "34600123123")


def test_ids_of_a_call_are_spelt_one_way() -> None:
    spelt = {leg(conf_id=text).call_id for text in ("16000000 0 0 1234ABCD", "16000000 00000000 00000000 1234abcd")}
    assert spelt == {"16000000 0 0 1234ABCD"}
    assert leg(conf_id="own form").call_id == "own form"


def test_start_is_no_answer_unless_it_tells_when_it_connected() -> None:
    assert leg(status=START, connect=None, end=None).kind is EventKind.OTHER
    got = leg(status=START, end=None)
    assert (got.kind, got.at_us, got.leg) == (EventKind.START, ARRIVED_US - 70_343_000, "originate")
    assert leg(status=INTERIM, connect=None, end=None, session_s=30).kind is EventKind.OTHER
    assert leg(status=INTERIM, end=None).kind is EventKind.START


@pytest.mark.parametrize(
    ("cause", "vendor", "code"),
    [
        ("11", 9, 486), ("13", 9, 480), ("10", 9, 487), ("1", 9, 404), ("1C", 9, 484), ("2f", 9, 503), ("33", 9, 500),
        ("17", 4923, 486), ("16", 4923, 487), ("0", 9, None), ("", 9, None),
    ],
)  # fmt: skip
def test_leg_that_never_connected_failed_with_a_code(cause: str, vendor: int, code: int | None) -> None:
    got = leg(connect=None, cause=cause, vendor=vendor)
    assert (got.kind, got.sip_code, got.at_us) == (EventKind.FAILED, code, ARRIVED_US - 9_093_000)
    assert got.setup_ms is None
    assert leg(connect=ARRIVED - 9.093, cause=cause, vendor=vendor).kind is EventKind.FAILED


def test_cause_that_is_no_number_is_told() -> None:
    got = leg(connect=None, cause="busy")
    assert (got.sip_code, got.flags) == (None, ("unknown_cause",))


@pytest.mark.parametrize(
    ("zone", "hours"), [("GMT", 0), ("CET", 1), ("EST", -5), ("EDT", -4), ("MSK", 3), ("+0530", 5.5), ("UTC-3", -3)]
)
def test_zones_are_read_where_their_names_are_plain(zone: str, hours: float) -> None:
    shift = hours * 3600
    got = leg(zone=zone, setup=ARRIVED - 80 + shift, connect=ARRIVED - 70.5 + shift, end=ARRIVED - 9 + shift)
    assert (got.at_us, got.duration_ms, got.flags) == (ARRIVED_US - 70_500_000, 61_500, ())


@pytest.mark.parametrize("zone", ["IST", "Moon", ""])
def test_unknown_zone_leaves_the_duration_and_the_time_of_the_report(zone: str) -> None:
    got = leg(zone=zone)
    assert (got.at_us, got.duration_ms, got.timed) == (ARRIVED_US - 61_250_000, 61_250, False)
    assert (got.flags, got.created_us) == (("unknown_zone",), None)


def test_clock_that_changes_its_zone_during_the_call_counts_right() -> None:
    got = event(
        STOPPED,
        vsa(9, 24, "1 2 3 4"),
        vsa(9, 28, "01:59:30.000 CET Sun Mar 29 2026"),
        vsa(9, 29, "03:00:31.500 CEST Sun Mar 29 2026"),
        by=BY,
    )
    assert (got.duration_ms, got.flags) == (61_500, ("old_timestamp",))


@pytest.mark.parametrize("sign", ["*", "."])
def test_clock_that_is_not_synchronised_is_told(sign: str) -> None:
    got = leg(clock=sign)
    assert (got.at_us, got.duration_ms, got.flags) == (ARRIVED_US - 70_343_000, 61_250, ("clock_unsynchronised",))


def test_clock_that_was_never_set_does_not_date_the_call() -> None:
    old = 1_014_984_000  # 2002-03-01, where Cisco's clocks begin
    got = leg(clock="*", setup=old, connect=old + 10.5, end=old + 71.75)
    assert (got.at_us, got.duration_ms, got.timed) == (ARRIVED_US - 61_250_000, 61_250, False)


def test_session_time_counts_where_the_clock_was_set_during_the_call() -> None:
    got = leg(connect=ARRIVED - 3_700, end=ARRIVED - 9, session_s=61)
    assert (got.duration_ms, got.at_us) == (61_000, ARRIVED_US - 70 * SECOND)
    assert got.flags == ("duration_mismatch",)


def test_session_time_alone_tells_an_answer() -> None:
    got = leg(connect=None, session_s=61)
    assert (got.kind, got.duration_ms, got.at_us) == (EventKind.COMPLETE, 61_000, ARRIVED_US - 70_093_000)


def test_values_stand_alone_after_their_name_or_in_an_avpair() -> None:
    got = event(
        STOPPED,
        vsa(9, 24, "h323-conf-id = 1 2 3 4"),
        vsa(9, 28, "07:58:50.000 UTC Fri Jan 15 2027"),
        vsa(9, 1, "h323-disconnect-time=07:59:51.000 UTC Fri Jan 15 2027"),
        vsa(9, 1, "h323-call-origin=answer"),
        by=BY,
    )
    assert (got.call_id, got.duration_ms, got.leg) == ("1 2 3 4", 61_000, "answer")


def test_incoming_id_serves_where_there_is_no_other() -> None:
    assert event(STOPPED, vsa(9, 35, "1 2 3 4"), by=BY).call_id == "1 2 3 4"
    assert refused(STOPPED, vsa(9, 26, "answer"), by=BY) == "no_call_id"


@pytest.mark.parametrize(
    "written", ["soon", "25:00:00.0 UTC Fri Jan 15 2027", "07:58:50 UTC Fri Foo 15 2027", "1:00:00"]
)
def test_times_that_cannot_be_are_told_and_not_used(written: str) -> None:
    got = event(STOPPED, vsa(9, 24, "1 2 3 4"), vsa(9, 28, written), (46, 61), by=BY)
    assert (got.at_us, got.duration_ms, got.flags) == (ARRIVED_US - 61 * SECOND, 61_000, ("bad_timestamp",))


def test_captured_stop_is_a_generic_session_and_a_leg_by_its_dialect() -> None:
    [capture] = [capture for capture in captures() if capture.proxy == "radclient"]
    captured = capture.rows[-2]
    generic, by_cisco = translate(captured, source("generic")), translate(captured, BY)
    assert isinstance(generic, AccountingEvent)
    assert isinstance(by_cisco, AccountingEvent)
    assert (generic.kind, generic.is_session, generic.call_id, generic.duration_ms) == (
        EventKind.STOP, True, "00000A1B", 61_000,
    )  # fmt: skip
    assert (by_cisco.kind, by_cisco.leg, by_cisco.duration_ms) == (EventKind.COMPLETE, "originate", 61_000)
    assert by_cisco.at_us == 1_795_504_800 * SECOND
    assert by_cisco.translated_uri == "sip:34911000111@127.0.0.5"
