"""What FreeSWITCH's mod_radius_cdr says, as events."""

from datetime import timedelta
from typing import Any

import pytest

from accounting.event import AccountingEvent, EventKind
from accounting.sources import translate
from tests.support.radius import Attribute, vsa
from tests.support.switches import freeswitch, freeswitch_date, freeswitch_routing
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, CALL_ID, NOW, STOP, event, refused, row, source

BY = source("freeswitch")
SECOND = 1_000_000


def said(number: int, value: Any) -> Attribute:
    return vsa(27880, number, value)


def of(raw: bytes) -> AccountingEvent:
    got = translate(row(raw), BY)
    assert isinstance(got, AccountingEvent), got
    return got


def test_start_at_routing_begins_no_call() -> None:
    got = of(freeswitch_routing("u1", ARRIVED - 75))
    assert (got.kind, got.call_id, got.is_session) == (EventKind.OTHER, "u1", True)


def test_stop_of_an_answered_leg_is_complete_to_the_millisecond() -> None:
    got = of(freeswitch("u1", ARRIVED - 75.5, ARRIVED - 70.25, ARRIVED - 9))
    assert (got.kind, got.at_us, got.duration_ms) == (EventKind.COMPLETE, ARRIVED_US - 70_250_000, 61_250)
    assert (got.created_us, got.setup_ms, got.timed, got.flags) == (ARRIVED_US - 75_500_000, 5_250, True, ())


def test_parties_are_the_callers_word_and_his_address() -> None:
    got = of(freeswitch("u1", ARRIVED - 75, ARRIVED - 70, ARRIVED - 9))
    assert (got.caller_uri, got.called_uri, got.from_user) == ("alice", "4915112345678", "alice")
    assert (got.auth_user, got.source_ip, got.role) == ("", "192.0.2.10", "access")


def test_leg_that_freeswitch_made_sells_nothing() -> None:
    got = of(freeswitch("u2", ARRIVED - 75, ARRIVED - 70, ARRIVED - 9, direction="outbound"))
    assert (got.kind, got.role, got.source_ip) == (EventKind.COMPLETE, "egress", "")


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (17, 486),
        (19, 480),
        (18, 408),
        (16, 487),
        (487, 487),
        (1, 404),
        (34, 503),
        (606, 480),
        (616, 603),
        (999, 500),
        (0, None),
    ],
)
def test_leg_that_was_not_answered_failed_with_a_code(cause: int, code: int | None) -> None:
    got = of(freeswitch("u1", ARRIVED - 75, None, ARRIVED - 50, cause=cause))
    assert (got.kind, got.sip_code, got.at_us) == (EventKind.FAILED, code, ARRIVED_US - 50 * SECOND)


@pytest.mark.parametrize("cause", ["17", "USER_BUSY", "User-Busy"])
def test_cause_may_be_written_out(cause: str) -> None:
    assert event(STOP, (CALL_ID, "u1"), said(13, cause), by=BY).sip_code == 486


def test_cause_that_nobody_knows_is_told() -> None:
    got = event(STOP, (CALL_ID, "u1"), said(13, "GONE"), by=BY)
    assert (got.kind, got.sip_code, got.flags) == (EventKind.FAILED, None, ("unknown_cause",))


def test_call_of_more_than_71_minutes_keeps_the_turns_that_billusec_lost() -> None:
    got = of(freeswitch("u1", ARRIVED - 9_005, ARRIVED - 9_000.75, ARRIVED))
    assert (got.duration_ms, got.flags) == (9_000_750, ())
    got = event(STOP, (CALL_ID, "u1"), NOW, said(15, 4_999_999_999 % 2**32), (46, 4_999), by=BY)
    assert (got.duration_ms, got.flags) == (4_999_999, ())


def test_billusec_that_is_not_of_the_session_time_is_not_used() -> None:
    got = event(STOP, (CALL_ID, "u1"), NOW, said(15, 0), (46, 61), by=BY)
    assert (got.kind, got.duration_ms, got.flags) == (EventKind.COMPLETE, 61_000, ("duration_mismatch",))


def test_old_release_without_dates_answers_a_duration_before_its_report() -> None:
    got = event(STOP, (CALL_ID, "u1"), said(15, 21_460_442), said(13, 16), by=BY)
    assert (got.kind, got.duration_ms, got.at_us) == (EventKind.COMPLETE, 21_460, ARRIVED_US - 21_460_000)
    assert not got.timed


def test_session_time_or_dates_alone_tell_the_duration() -> None:
    assert event(STOP, (CALL_ID, "u1"), NOW, said(4, "alice"), (46, 61), by=BY).duration_ms == 61_000
    dates = [said(n, freeswitch_date(ARRIVED - at, timedelta(0))) for n, at in ((21, 70.5), (23, 9))]
    assert event(STOP, (CALL_ID, "u1"), *dates, by=BY).duration_ms == 61_500
    assert event(STOP, (CALL_ID, "u1"), *dates, (46, 61), by=BY).duration_ms == 61_500


@pytest.mark.parametrize("minutes", [0, 60, -300, 330, 345, 525, -210, -570, 765])
def test_dates_are_read_in_every_zone_as_the_module_writes_them(minutes: int) -> None:
    got = of(freeswitch("u1", ARRIVED - 75, ARRIVED - 70.25, ARRIVED - 9, offset=timedelta(minutes=minutes)))
    assert (got.at_us, got.duration_ms, got.flags) == (ARRIVED_US - 70_250_000, 61_250, ())


@pytest.mark.parametrize(
    "written",
    ["1970-01-01T00:00:00.000000+0000", "1970-01-01T01:00:00.000000+0100", "1969-12-31T19:00:00.000000-0500"],
)
def test_epoch_zero_is_no_answer(written: str) -> None:
    assert event(STOP, (CALL_ID, "u1"), said(21, written), said(15, 0), (46, 0), by=BY).kind is EventKind.FAILED


@pytest.mark.parametrize("written", ["soon", "2027-13-01T00:00:00.0+0000", "2027-01-15T07:58:50.0+0577"])
def test_dates_that_cannot_be_are_told_and_not_used(written: str) -> None:
    got = event(STOP, (CALL_ID, "u1"), said(21, written), said(15, 61_250_000), (46, 61), by=BY)
    assert (got.at_us, got.duration_ms, got.flags) == (ARRIVED_US - 61_250_000, 61_250, ("bad_timestamp",))


def test_stop_without_a_session_id_is_set_aside() -> None:
    assert refused(STOP, said(13, 16), by=BY) == "no_call_id"
