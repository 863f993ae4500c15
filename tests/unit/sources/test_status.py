"""What a report's status, method and code make of it."""

import pytest

from accounting.event import EventKind, Untranslatable
from accounting.sources import translate
from tests.support.radius import SECRET, request
from tests.unit.sources.rows import (
    ARRIVED_US,
    BYE,
    CALL,
    CALL_ID,
    CANCEL,
    CODE,
    FAILED,
    FROM_TAG,
    INTERIM,
    INVITE,
    METHOD,
    NOW,
    START,
    STATUS,
    STOP,
    event,
    refused,
    row,
    source,
)


@pytest.mark.parametrize("code", [200, 481, 408])
def test_bye_is_a_stop_whatever_its_code(code: int) -> None:
    got = event(STOP, BYE, (CODE, code), *CALL)
    assert (got.kind, got.sip_code) == (EventKind.STOP, code)


def test_answered_invite_is_a_start() -> None:
    got = event(START, INVITE, (CODE, 200), *CALL)
    assert (got.kind, got.call_id, got.from_tag, got.to_tag) == (EventKind.START, "c1", "f", "t")
    assert got.flags == ()


def test_stop_for_cancel_ends_nothing() -> None:
    assert event(STOP, CANCEL, (CODE, 200), *CALL).kind is EventKind.OTHER


@pytest.mark.parametrize("code", [300, 302, 486, 699])
def test_failed_invite_is_a_failure_from_300_on(code: int) -> None:
    got = event(FAILED, INVITE, (CODE, code), *CALL)
    assert (got.kind, got.sip_code) == (EventKind.FAILED, code)


def test_provisional_answer_reported_as_failed_is_no_failure() -> None:
    assert event(FAILED, INVITE, (CODE, 183), *CALL).kind is EventKind.OTHER


def test_failed_invite_with_2xx_is_told() -> None:
    got = event(FAILED, INVITE, (CODE, 200), *CALL)
    assert (got.kind, got.flags) == (EventKind.OTHER, ("failed_2xx",))


@pytest.mark.parametrize("method", [32, 64, 256, 2048, 524_288, "MESSAGE", "OPTIONS"])
def test_failed_other_method_is_no_call(method: int | str) -> None:
    assert event(FAILED, (METHOD, method), (CODE, 200), *CALL).kind is EventKind.OTHER


@pytest.mark.parametrize("method", [1, 64, 2048])
def test_in_dialog_request_is_an_interim_whatever_its_method_and_code(method: int) -> None:
    assert event(INTERIM, (METHOD, method), (CODE, 488), *CALL).kind is EventKind.INTERIM


@pytest.mark.parametrize(
    ("status", "kind"),
    [(START, EventKind.START), (STOP, EventKind.STOP), (FAILED, EventKind.FAILED), (INTERIM, EventKind.INTERIM)],
)
def test_missing_method_is_assumed(status: tuple[int, int], kind: EventKind) -> None:
    assert event(status, *CALL).kind is kind


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("BYE", EventKind.STOP),
        ("bye", EventKind.STOP),
        ("8", EventKind.STOP),
        (b"BYE\x00", EventKind.STOP),
        ("CANCEL", EventKind.OTHER),
        ("INFO", EventKind.OTHER),  # four octets, as an integer has
        ("PING", EventKind.OTHER),
    ],
)
def test_method_may_be_text_where_a_number_is_usual(method: str | bytes, kind: EventKind) -> None:
    for by in (source("kamailio"), source("generic")):
        got = event(STOP, (METHOD, method), *CALL, by=by)
        assert (got.kind, got.flags) == (kind, ())


def test_method_may_be_a_number_where_the_dictionary_says_text() -> None:
    ser = source("kamailio", dictionary="ATTRIBUTE Sip-Method 101 string\nATTRIBUTE Sip-From-Tag 105 string\n")
    assert event(STOP, CANCEL, *CALL, by=ser).kind is EventKind.OTHER
    assert event(STOP, (METHOD, "CANCEL"), *CALL, by=ser).kind is EventKind.OTHER


def test_unreadable_method_is_told_and_then_assumed() -> None:
    got = event(STOP, (METHOD, b"\x00\x01\x02"), *CALL)
    assert (got.kind, got.flags) == (EventKind.STOP, ("bad_integer",))


def test_undefined_method_is_assumed() -> None:
    assert event(START, (METHOD, 0), *CALL).kind is EventKind.START


def test_stop_with_invite_but_no_duration_is_told() -> None:
    got = event(STOP, INVITE, *CALL)
    assert (got.kind, got.flags) == (EventKind.STOP, ("stop_with_invite",))


@pytest.mark.parametrize(("status", "kind"), [(7, EventKind.NAS_ON), (8, EventKind.NAS_OFF)])
def test_nas_reports_are_of_the_nas_and_of_no_call(status: int, kind: EventKind) -> None:
    got = event((STATUS, status), (CALL_ID, "00000000"), (32, "proxy1"), NOW)
    assert (got.kind, got.nas, got.call_id, got.is_session) == (kind, "proxy1", "", False)


def test_nas_report_needs_no_session_id() -> None:
    assert event((STATUS, 7)).kind is EventKind.NAS_ON


@pytest.mark.parametrize("status", [0, 4, 5, 9, 10, 16, 2**32 - 1])
def test_unknown_status_is_untranslatable(status: int) -> None:
    assert refused((STATUS, status), *CALL) == "unknown_status_type"


def test_no_status_is_untranslatable() -> None:
    assert refused(*CALL) == "unknown_status_type"
    assert refused((STATUS, b""), *CALL) == "unknown_status_type"


def test_status_of_a_wrong_length_is_untranslatable() -> None:
    assert refused((STATUS, b"\x00\x01"), *CALL) == "bad_attribute"


@pytest.mark.parametrize("status", [START, STOP, INTERIM, FAILED])
def test_call_without_call_id_is_untranslatable(status: tuple[int, int]) -> None:
    assert refused(status, INVITE, (FROM_TAG, "f")) == "no_call_id"
    assert refused(status, INVITE, (CALL_ID, b""), (FROM_TAG, "f")) == "no_call_id"


def test_failed_may_have_another_number_in_a_clients_dictionary() -> None:
    by = source(
        "kamailio",
        dictionary="ATTRIBUTE Acct-Status-Type 40 integer\nVALUE Acct-Status-Type Failed 16\n"
        "ATTRIBUTE Sip-Method 101 integer\nATTRIBUTE Sip-From-Tag 105 string\n",
    )
    assert event((STATUS, 16), INVITE, *CALL, by=by).kind is EventKind.FAILED


@pytest.mark.parametrize("code", [0, 99, 700, 2**32 - 1])
def test_code_that_is_none_of_sips_is_left_out(code: int) -> None:
    got = event(FAILED, INVITE, (CODE, code), *CALL)
    assert (got.kind, got.sip_code) == (EventKind.FAILED, None)
    assert got.flags == (("bad_integer",) if code else ())


def test_code_may_be_text() -> None:
    assert event(FAILED, INVITE, (CODE, "486"), *CALL).sip_code == 486


def test_packet_that_is_no_accounting_request_is_untranslatable() -> None:
    got = translate(row(request(SECRET, START, *CALL, code=12)), source())
    assert isinstance(got, Untranslatable)
    assert got.reason == "bad_packet"


def test_proxy_packet_without_any_sip_attribute_is_told() -> None:
    """A dictionary setting of the wrong family looks like this."""
    got = event(START, (204, 1), (205, 200), (206, "f"), (207, "t"), (CALL_ID, "c1"), NOW, by=source("kamailio"))
    assert (got.kind, got.from_tag, got.flags) == (EventKind.START, "", ("no_sip_attributes",))


def test_event_names_its_row_and_source() -> None:
    got = event(START, INVITE, *CALL, by=source("kamailio", rank=3, role="egress"))
    assert (got.ref, got.received_us, got.source_id, got.source) == (7, ARRIVED_US, 1, "lab")
    assert (got.rank, got.role) == (3, "egress")
