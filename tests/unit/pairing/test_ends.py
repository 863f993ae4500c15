"""When a call ended, and what said so."""

from cdr.pairing import PairingLimits
from tests.unit.pairing.scenario import Paired, instant, pair

SECOND = 1_000_000


def test_bye_wins_over_media_timeout(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > +4915112345
    10:01:01 stop   c1  by alice
    10:10:00 media  c1  95s timeout
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (61_000, "bye")
    assert (cdr.caller_uri, cdr.called_uri, cdr.released_by) == ("alice", "+4915112345", "caller")


def test_bye_of_the_callee_carries_the_tags_swapped(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:01:40 stop   c1  481 by callee
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.released_by, cdr.from_tag, cdr.to_tag) == (100_000, "callee", "f", "t")
    assert (cdr.caller_uri, cdr.called_uri) == ("alice", "bob")


def test_bye_of_the_callee_is_told_by_its_parties_where_the_proxy_puts_the_tags_back(paired: Paired) -> None:
    """
    10:00:00 start  c1  sip:alice@lab > sip:bob@lab
    10:01:40 stop   c1  sip:bob@lab > sip:alice@lab
    """
    [cdr] = paired.cdrs
    assert (cdr.released_by, cdr.caller_uri) == ("callee", "sip:alice@lab")


def test_stop_before_start_in_the_journal_is_the_same_call(paired: Paired) -> None:
    """
    10:01:30 stop   c1
    10:00:00 start  c1  alice > bob
    """
    [cdr] = paired.cdrs
    assert cdr.duration_ms == 90_000


def test_first_bye_counts_when_it_is_repeated_later(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:00:02 stop   c1  200
    10:00:12 stop   c1  481
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.ended_us, len(cdr.events)) == (2_000, instant("10:00:02"), 3)
    assert not paired.duplicates


def test_crossing_byes_leave_open_who_hung_up(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:00:02 stop   c1
    10:00:02 stop   c1  481 by callee
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.released_by) == (2_000, "unknown")


def test_complete_record_tells_answer_and_duration(paired: Paired) -> None:
    """
    10:00:10 complete c1  alice > bob 61250ms created=10:00:02 setup=8s 503
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.released_by) == (61_250, "complete", "unknown")
    assert (cdr.started_us, cdr.answered_us) == (instant("10:00:02"), instant("10:00:10"))
    assert (cdr.ended_us, cdr.setup_ms) == (instant("10:01:11.25"), 8_000)
    assert (cdr.sip_code, cdr.disposition) == (200, "answered")  # 503 is of another call of the same process


def test_bye_comes_before_the_complete_record_of_an_equal_source(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob at=proxy
    10:01:00 stop     c1  at=proxy
    10:00:00 complete c1  alice > bob 60200ms at=sql
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.flags) == (60_000, "bye", ())


def test_complete_record_counts_where_its_source_writes_stops_too(paired: Paired) -> None:
    """
    10:00:00 complete c1  alice > bob 60200ms
    10:01:00 stop     c1
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (60_200, "complete")


def test_wrapped_duration_of_a_complete_record_gives_way_to_the_bye(paired: Paired) -> None:
    """
    10:00:00 complete c1  alice > bob 4294967000ms
    10:01:00 stop     c1
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.flags) == (60_000, "bye", ("absurd_evidence",))


def test_wrapped_duration_alone_is_an_exception(paired: Paired) -> None:
    """
    10:00:00 complete c1  alice > bob 4294967000ms
    """
    [call] = paired.exceptions
    assert (call.reason, call.duration_ms, call.caller_uri) == ("absurd_duration", 0, "alice")


def test_bye_before_the_answer_is_an_exception_and_not_zero(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    09:59:50 stop   c1
    """
    [call] = paired.exceptions
    assert call.reason == "negative_duration"


def test_bye_one_second_before_the_answer_is_the_grain_of_the_clock(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    09:59:59 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.flags, cdr.ended_us) == (0, ("stop_before_start",), instant("10:00:00"))


def test_impossible_bye_gives_way_to_a_possible_one(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    09:00:00 stop   c1
    10:03:00 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.flags) == (180_000, ("absurd_evidence",))


def test_bye_after_two_months_is_an_exception(paired: Paired) -> None:
    """
    10:00:00    start  c1  alice > bob
    60+10:00:00 stop   c1
    """
    [call] = paired.exceptions
    assert call.reason == "absurd_duration"


def test_call_of_more_than_a_day_keeps_its_length(paired: Paired) -> None:
    """
    10:00:00   start  c1  alice > bob
    1+12:00:00 stop   c1
    """
    [cdr] = paired.cdrs
    assert cdr.duration_ms == 93_600_000


def test_media_end_a_call_without_bye(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:05:05 media  c1  245s timeout
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.released_by) == (245_000, "media", "system")


def test_media_durations_add_up(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:02:00 media  c1  115s
    10:05:05 media  c1  120s timeout
    """
    [cdr] = paired.cdrs
    assert cdr.duration_ms == 235_000


def test_media_report_without_a_time_of_its_own_is_not_added_twice(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:05:05 media  c1  245s timeout untimed
    10:05:08 media  c1  245s timeout untimed
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, len(cdr.events), paired.duplicates) == (245_000, 3, ())


def test_media_wait_for_the_bye_for_the_grace_time(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:05:00 media  c1  245s timeout
    now 10:05:59
    """
    [call] = paired.open
    assert call.due_us == instant("10:06:00")
    [cdr] = pair(paired.scenario._replace(now_us=call.due_us)).cdrs
    assert cdr.stop_cause == "media"


def test_ice_session_tells_no_end(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:05:05 media  c1  5s ice
    """
    [cdr] = paired.cdrs
    assert (cdr.stop_cause, cdr.duration_ms, cdr.exceptions) == ("max_age", 0, ("no_stop",))


def test_call_that_lived_on_is_not_ended_by_its_media(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob
    10:05:05 media    c1  245s timeout
    10:20:00 interim  c1
    """
    [cdr] = paired.cdrs
    assert cdr.stop_cause == "max_age"


def test_restart_of_the_nas_ends_a_session(paired: Paired) -> None:
    """
    09:00:00 reboot
    10:00:00 start  c1  session alice > bob
    10:07:00 reboot
    11:00:00 reboot
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.released_by) == (420_000, "nas_reboot", "system")


def test_session_that_lived_on_was_not_ended_by_the_restart(paired: Paired) -> None:
    """
    10:00:00 start    c1  session alice > bob
    10:07:00 reboot
    10:09:00 interim  c1  session
    10:20:00 stop     c1  session 1200s
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (1_200_000, "bye")


def test_restart_long_after_the_last_sign_of_life_ends_nothing(paired: Paired) -> None:
    """
    10:00:00    start  c1  session alice > bob
    10+10:00:00 reboot
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause) == (0, "max_age")


def test_call_without_an_end_waits_for_max_age(paired: Paired) -> None:
    """
    10:00:00   start    c1  alice > bob
    10:30:00   interim  c1
    now 1+10:29:59
    """
    [call] = paired.open
    assert (call.due_us, call.answered_us, call.stop_cause) == (instant("1+10:30:00"), instant("10:00:00"), "")


def test_call_older_than_max_age_is_closed_without_an_end(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    """
    [cdr] = paired.cdrs
    assert (cdr.disposition, cdr.stop_cause, cdr.ended_us, cdr.duration_ms) == ("answered", "max_age", None, 0)
    assert (cdr.exceptions, cdr.released_by, cdr.due_us) == (("no_stop",), "system", None)


def test_operator_has_the_last_word(paired: Paired) -> None:
    """
    10:00:00 start     c1  alice > bob
    10:01:00 stop      c1
    10:30:00 operator  c1  said=1+09:00:00
    10:20:00 operator  c1  said=1+10:00:00
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.released_by) == (1_200_000, "operator", "system")
    assert cdr.reported_us == instant("10:01:00")


def test_operator_may_return_to_what_was_said_before(paired: Paired) -> None:
    """
    10:00:00 start     c1  alice > bob
    10:30:00 operator  c1  said=1+09:00:00
    10:20:00 operator  c1  said=1+10:00:00
    10:30:00 operator  c1  said=1+11:00:00
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, paired.duplicates) == (1_800_000, ())


def test_impossible_correction_is_not_used(paired: Paired) -> None:
    """
    10:00:00 start     c1  alice > bob
    10:01:00 stop      c1
    09:00:00 operator  c1
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.stop_cause, cdr.flags) == (60_000, "bye", ("absurd_evidence",))


def test_bye_with_another_tag_ends_the_only_dialog_and_is_flagged(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:01:00 stop   c1  to=other
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.flags) == (60_000, ("tag_mismatch",))


def test_bye_of_the_dialog_comes_before_one_with_another_tag(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:00:05 stop   c1  to=other
    10:01:00 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.flags) == (60_000, ())


def test_bye_without_tags_ends_the_only_call(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:01:00 stop   c1  from=- to=-
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.released_by) == (60_000, "unknown")


def test_limits_are_the_settings(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    now 10:10:00
    """
    assert len(pair(paired.scenario).open) == 1
    [cdr] = pair(paired.scenario, PairingLimits(max_age_us=600 * SECOND)).cdrs
    assert cdr.stop_cause == "max_age"
