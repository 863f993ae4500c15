"""OpenSIPS in cdr mode: one Stop per answered call; and what its numbers are in transaction mode."""

from accounting.event import EventKind
from tests.support.radius import Attribute
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, STAMP, STOP, event, refused, source

BY = source("opensips")
DURATION, SETUP, CREATED, MS = 227, 228, 229, 230
ANSWERED = ARRIVED - 70
TAGGED: tuple[Attribute, ...] = ((44, "c1"), (206, "f"), (207, "t"))
CDR: tuple[Attribute, ...] = (STOP, (204, 1), (STAMP, ANSWERED), *TAGGED)


def test_cdr_tells_answer_exact_duration_and_setup() -> None:
    got = event(*CDR, (205, 486), (DURATION, 62), (MS, 61_250), (SETUP, 8), (CREATED, ANSWERED - 8), by=BY)
    assert (got.kind, got.at_us, got.timed) == (EventKind.COMPLETE, ANSWERED * 1_000_000, True)
    assert (got.duration_ms, got.setup_ms, got.created_us) == (61_250, 8_000, (ANSWERED - 8) * 1_000_000)
    assert got.flags == ()


def test_code_of_a_cdr_is_another_calls() -> None:
    assert event(*CDR, (205, 503), (MS, 1000), by=BY).sip_code is None


def test_rounded_duration_counts_where_there_is_no_exact_one() -> None:
    assert event(*CDR, (DURATION, 62), by=BY).duration_ms == 62_000
    assert event(*CDR, (DURATION, 62), (MS, b""), by=BY).duration_ms == 62_000


def test_unreadable_exact_duration_is_told() -> None:
    got = event(*CDR, (DURATION, 62), (MS, b"\x01"), by=BY)
    assert (got.duration_ms, got.flags) == (62_000, ("bad_integer",))


def test_cdr_without_a_readable_duration_waits_for_a_person() -> None:
    assert refused(*CDR, (MS, b"\x01"), by=BY) == "bad_attribute"


def test_durations_that_disagree_are_told() -> None:
    assert event(*CDR, (DURATION, 62), (MS, 5_000), by=BY).flags == ("duration_mismatch",)


def test_clock_stepped_back_keeps_its_duration_and_is_told() -> None:
    wrapped = 2**32 - 5_000
    got = event(*CDR, (MS, wrapped), by=BY)
    assert (got.kind, got.duration_ms, got.flags) == (EventKind.COMPLETE, wrapped, ("absurd_duration",))


def test_cdr_without_a_time_was_answered_its_duration_before_it_came() -> None:
    got = event(STOP, (204, 1), *TAGGED, (MS, 61_250), (41, 2), by=BY)
    assert (got.at_us, got.timed) == (ARRIVED_US - 2_000_000 - 61_250_000, False)


def test_method_by_name_makes_a_cdr_too() -> None:
    assert event(STOP, (204, "INVITE"), (STAMP, ANSWERED), *TAGGED, (MS, 1), by=BY).kind is EventKind.COMPLETE


def test_transaction_mode_sends_the_time_of_day_as_setup_time() -> None:
    got = event((40, 1), (204, 1), (205, 200), *TAGGED, (SETUP, ARRIVED), (CREATED, 0), by=BY)
    assert (got.kind, got.setup_ms, got.created_us, got.flags) == (EventKind.START, None, None, ())


def test_leg_fields_shift_the_durations_of_transaction_mode() -> None:
    """With leg_fields a Stop for BYE holds a unix time as Sip-Call-Duration: it is no cdr."""
    got = event(STOP, (204, 8), (205, 200), (STAMP, ANSWERED), *TAGGED, (DURATION, ARRIVED), (MS, 0), by=BY)
    assert (got.kind, got.duration_ms, got.flags) == (EventKind.STOP, None, ())


def test_leg_values_come_after_the_calls_own() -> None:
    got = event(*CDR, (MS, 1), (1, "alice@h"), (31, "sip:alice@h"), (1, "leg1"), (31, "leg2"), by=BY)
    assert (got.auth_user, got.caller_uri) == ("alice@h", "sip:alice@h")


def test_failed_call_of_cdr_mode_tells_when_it_began() -> None:
    got = event((40, 15), (204, 1), (205, 486), (STAMP, ARRIVED), *TAGGED, (SETUP, 3), (CREATED, ARRIVED - 3), by=BY)
    assert (got.kind, got.setup_ms, got.created_us) == (EventKind.FAILED, 3_000, (ARRIVED - 3) * 1_000_000)


def test_created_out_of_range_is_left_out() -> None:
    assert event(*CDR, (MS, 1), (CREATED, 2**32 - 1), by=BY).created_us is None
