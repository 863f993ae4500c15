"""What Asterisk's cdr_radius says, as events."""

from typing import Any

import pytest

from accounting.event import AccountingEvent, EventKind, Untranslatable
from accounting.sources import translate
from tests.support.radius import Attribute, vsa
from tests.support.switches import asterisk
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, CALL_ID, NOW, STOP, event, refused, row, source

BY = source("asterisk")
SECOND = 1_000_000


def said(number: int, value: Any) -> Attribute:
    return vsa(22736, number, value)


def of(raw: bytes) -> AccountingEvent:
    got = translate(row(raw), BY)
    assert isinstance(got, AccountingEvent), got
    return got


def test_answered_call_is_complete_in_one_report() -> None:
    got = of(asterisk("1.42", ARRIVED - 75, ARRIVED - 70, ARRIVED - 9))
    assert (got.kind, got.at_us, got.duration_ms, got.timed) == (
        EventKind.COMPLETE,
        ARRIVED_US - 70 * SECOND,
        61_000,
        True,
    )
    assert (got.created_us, got.setup_ms, got.sip_code) == (ARRIVED_US - 75 * SECOND, 5_000, None)
    assert (got.call_id, got.is_session, got.nas, got.flags) == ("1.42", True, "198.51.100.9", ())


def test_parties_are_the_endpoint_the_account_code_and_the_numbers() -> None:
    got = of(asterisk("1.42", ARRIVED - 75, ARRIVED - 70, ARRIVED - 9, src="493012345", acc_code="acme"))
    assert (got.caller_uri, got.called_uri, got.from_user) == ("493012345", "4915112345678", "493012345")
    assert (got.auth_user, got.billing_party) == ("alice", "acme")
    assert got.translated_uri == "sip:4915112345678@trunk"


def test_caller_without_a_number_is_named_by_his_caller_id() -> None:
    got = of(asterisk("1.42", ARRIVED - 75, ARRIVED - 70, ARRIVED - 9, src="", clid='"A" <493012345>', acc_code=""))
    assert (got.caller_uri, got.from_user, got.billing_party) == ("493012345", "493012345", "")


@pytest.mark.parametrize(
    ("channel", "endpoint"),
    [
        ("PJSIP/alice-0000002a", "alice"),
        ("SIP/alice-home-0000002a", "alice-home"),
        ("IAX2/office-123", "office"),
        ("Local/100@ctx-00000001;1", ""),
        ("DAHDI/i1/4930-1", ""),
        ("", ""),
    ],
)
def test_endpoint_stands_in_the_channels_name(channel: str, endpoint: str) -> None:
    got = of(asterisk("1.42", ARRIVED - 75, ARRIVED - 70, ARRIVED - 9, chan=channel, dst_chan=channel))
    assert got.auth_user == endpoint
    assert got.translated_uri == (f"sip:4915112345678@{endpoint}" if endpoint else "")


@pytest.mark.parametrize(
    ("disposition", "code"),
    [("NO ANSWER", 408), ("BUSY", 486), ("FAILED", 503), ("CONGESTION", 503), ("UNKNOWN", None)],
)
def test_call_that_was_not_answered_failed_with_a_code(disposition: str, code: int | None) -> None:
    got = of(asterisk("1.42", ARRIVED - 75, None, ARRIVED - 50, disposition=disposition))
    assert (got.kind, got.sip_code, got.duration_ms) == (EventKind.FAILED, code, None)
    assert (got.at_us, got.created_us) == (ARRIVED_US - 50 * SECOND, ARRIVED_US - 75 * SECOND)
    assert got.flags == (() if code else ("unknown_disposition",))


@pytest.mark.parametrize(
    "written",
    ["2027-01-15 07:58:50 +0000", "2027-01-15 07:58:50", "2027-01-15T08:58:50 +0100", "2027-01-15 13:28:50 +05:30"],
)
def test_times_have_a_zone_or_are_utc(written: str) -> None:
    got = event(STOP, (CALL_ID, "1"), said(111, written), said(114, 61), said(115, "ANSWERED"), by=BY)
    assert (got.at_us, got.flags) == (ARRIVED_US - 70 * SECOND, ())


def test_answer_is_reckoned_from_the_end_where_it_is_not_told() -> None:
    end = "2027-01-15 07:59:51 +0000"
    got = event(STOP, (CALL_ID, "1"), said(112, end), said(114, 61), said(115, "ANSWERED"), by=BY)
    assert (got.at_us, got.timed, got.duration_ms) == (ARRIVED_US - 70 * SECOND, True, 61_000)
    got = event(STOP, (CALL_ID, "1"), said(114, 61), said(115, "ANSWERED"), by=BY)
    assert (got.at_us, got.timed) == (ARRIVED_US - 61 * SECOND, False)
    got = event(STOP, (CALL_ID, "1"), NOW, said(114, 61), said(115, "ANSWERED"), by=BY)
    assert (got.at_us, got.timed) == (ARRIVED_US - 63 * SECOND, True)


def test_duration_is_that_of_the_times_where_none_is_told() -> None:
    times = (said(111, "2027-01-15 07:58:50 +0000"), said(112, "2027-01-15 07:59:51 +0000"))
    assert event(STOP, (CALL_ID, "1"), *times, said(115, "ANSWERED"), by=BY).duration_ms == 61_000
    got = event(STOP, (CALL_ID, "1"), *times, said(114, 50), said(115, "ANSWERED"), by=BY)
    assert (got.duration_ms, got.flags) == (50_000, ("duration_mismatch",))
    assert refused(STOP, (CALL_ID, "1"), said(115, "ANSWERED"), by=BY) == "bad_attribute"


@pytest.mark.parametrize(
    "written", ["2027-13-15 07:58:50 +0000", "soon", "2027-01-15 07:58:50 +9999", "2099-01-01 00:00:00"]
)
def test_times_that_cannot_be_are_told_and_not_used(written: str) -> None:
    got = event(STOP, (CALL_ID, "1"), said(111, written), said(114, 61), said(115, "ANSWERED"), by=BY)
    assert (got.at_us, got.flags) == (ARRIVED_US - 61 * SECOND, ("bad_timestamp",))


def test_other_reports_are_set_aside() -> None:
    assert refused((40, 1), (CALL_ID, "1"), said(115, "ANSWERED"), by=BY) == "unknown_status_type"
    assert refused(STOP, said(115, "BUSY"), by=BY) == "no_call_id"
    got = translate(row(asterisk("", ARRIVED - 9, None, ARRIVED, disposition="BUSY")), BY)
    assert isinstance(got, Untranslatable)
