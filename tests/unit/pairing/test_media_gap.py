"""Media that tell their end as an instant, and media that were dead long before a BYE came."""

from cdr.call import CallState
from cdr.pairing import PairingLimits
from tests.unit.pairing.scenario import Paired, instant, pair

SECOND = 1_000_000


def test_media_end_a_call_without_bye_at_their_last_packet(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.released_by) == (245_000, "media", "system")
    assert (cdr.ended_us, cdr.flags) == (instant("10:04:05"), ("two_clocks",))


def test_last_of_several_media_ends_counts(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:02:00 media  c1  until=10:02:00 regular at=relay
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (245_000, "media")


def test_media_end_before_the_answer_ends_nothing(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    09:59:50 media  c1  until=09:59:50 timeout at=relay
    """
    [cdr] = paired.cdrs
    assert (cdr.stop_cause, cdr.exceptions) == ("max_age", ("no_stop",))


def test_media_end_waits_for_the_bye_for_the_grace_time(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 regular at=relay
    now 10:05:04
    """
    [call] = paired.open
    assert call.due_us == instant("10:05:05")


def test_bye_wins_over_media_that_end_with_it(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    10:06:05 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.flags) == (365_000, "bye", ())


def test_media_dead_long_before_the_bye_end_the_call(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.released_by) == (245_000, "media", "system")
    assert (cdr.ended_us, cdr.flags) == (instant("10:04:05"), ("media_gap", "two_clocks"))
    assert cdr.exceptions == ()


def test_media_gap_counts_the_durations_of_media_proxy(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:02:00 media  c1  115s timeout
    10:05:35 media  c1  120s timeout
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.flags) == (235_000, "media", ("media_gap",))


def test_media_gap_holds_for_a_complete_record_too(paired: Paired) -> None:
    """
    10:00:00 complete c1  alice > bob 10800s
    10:04:05 media    c1  until=10:04:05 timeout at=relay
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (245_000, "media")


def test_media_gap_is_a_setting(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    13:00:00 stop   c1  by alice
    """
    for gap_s, cause in ((0, "bye"), (10_554, "media"), (10_555, "bye")):
        [cdr] = pair(paired.scenario, PairingLimits(media_gap_us=gap_s * SECOND)).cdrs
        assert (gap_s, cdr.stop_cause) == (gap_s, cause)


def test_media_that_did_not_time_out_leave_the_bye_alone(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 regular at=relay
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (10_800_000, "bye")


def test_one_stream_that_did_not_time_out_leaves_the_bye_alone(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:02:00 media  c1  until=10:02:00 regular at=relay
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "bye"


def test_latest_of_two_relays_decides_on_the_gap(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    12:59:00 media  c1  until=12:59:00 timeout at=other
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "bye"


def test_silence_on_hold_leaves_the_bye_alone(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:04:05 media  c1  until=10:04:05 silent at=relay
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "bye"


def test_reinvite_before_the_silence_may_be_a_hold(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob
    10:04:00 interim  c1
    10:04:05 media    c1  until=10:04:05 timeout at=relay
    13:00:00 stop     c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "bye"


def test_reinvite_during_the_silence_shows_that_the_call_lived(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob
    10:04:05 media    c1  until=10:04:05 timeout at=relay
    11:00:00 interim  c1
    13:00:00 stop     c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "bye"


def test_reinvite_long_before_the_silence_is_no_hold(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob
    10:01:00 interim  c1
    10:04:05 media    c1  until=10:04:05 timeout at=relay
    13:00:00 stop     c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "media"


def test_media_past_the_relay_leave_the_bye_alone(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:00:30 media  c1  5s ice
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "bye"


def test_relay_that_saw_no_packet_leaves_the_bye_alone(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:01:00 media  c1  timeout at=relay
    13:00:00 stop   c1  by alice
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "bye"


def test_operator_wins_over_a_media_gap(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob
    10:04:05 media    c1  until=10:04:05 timeout at=relay
    13:00:00 stop     c1  by alice
    12:00:00 operator c1
    """
    [cdr] = paired.cdrs
    assert (cdr.stop_cause, cdr.ended_us) == ("operator", instant("12:00:00"))


def test_media_gap_of_a_call_whose_start_is_late_waits_for_it(paired: Paired) -> None:
    """
    13:00:00 stop   c1  alice > bob 10800s
    10:04:05 media  c1  until=10:04:05 timeout at=relay
    now 13:04:59
    """
    [call] = paired.calls
    assert (call.state, call.due_us) == (CallState.OPEN, instant("13:05:00"))
    [cdr] = pair(paired.scenario._replace(now_us=instant("13:05:00"))).cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (245_000, "media")
    assert {"media_gap", "start_missing"} <= set(cdr.flags)


def test_call_that_an_operator_closed_does_not_change_when_another_dialogs_media_grace_ends(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob
    10:00:00 start    c1  to=t2
    10:00:40 media    c1  to=t2 40s timeout
    10:05:00 operator c1
    now 10:00:41
    """
    [before] = paired.cdrs
    [after] = pair(paired.scenario._replace(now_us=instant("11:00:00"))).cdrs
    assert before == after
    assert before.flags == ("multi_answer",)
