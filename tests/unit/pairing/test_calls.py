"""Which reports make one call, and which of its dialogs counts."""

from tests.unit.pairing.scenario import Paired, instant, pair


def test_failed_branch_of_an_answered_call_is_an_attempt(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > hunt to=t1 486
    10:00:20 start   c1  to=t2 via=sip:bob@10.0.0.1
    10:01:20 stop    c1  to=t2
    """
    [cdr] = paired.cdrs
    assert (cdr.disposition, cdr.duration_ms, cdr.to_tag, cdr.attempts) == ("answered", 60_000, "t2", 1)
    assert (cdr.started_us, cdr.translated_uri) == (instant("10:00:05"), "sip:bob@10.0.0.1")


def test_answer_reported_at_hang_up_takes_over_the_failed_call(paired: Paired) -> None:
    """
    10:00:05 failed    c1  alice > hunt to=t1 486
    10:00:20 complete  c1  to=t2 60000ms
    """
    first = pair(paired.scenario._replace(events=paired.events[:1]))
    assert [cdr.disposition for cdr in first.cdrs] == ["busy"]
    [cdr] = paired.cdrs
    assert (cdr.disposition, cdr.attempts, cdr.duration_ms) == ("answered", 1, 60_000)


def test_branch_may_ring_for_three_minutes_after_another_failed(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > hunt to=t1 486
    10:02:50 start   c1  to=t2
    10:03:50 stop    c1  to=t2
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.attempts) == (60_000, 1)


def test_call_long_after_a_failed_one_is_another(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > bob to=t1 486
    10:03:06 start   c1  to=t2
    10:04:06 stop    c1  to=t2
    """
    assert [(cdr.disposition, cdr.duration_ms) for cdr in paired.cdrs] == [("busy", 0), ("answered", 60_000)]


def test_invite_after_the_failure_makes_another_call(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > bob to=t1 486
    10:01:30 start   c1  to=t2 created=10:01:00
    10:02:30 stop    c1  to=t2
    """
    assert [cdr.disposition for cdr in paired.cdrs] == ["busy", "answered"]


def test_two_packets_of_one_failure_are_one(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > bob 486
    10:00:05 failed  c1  alice > bob 486
    """
    [cdr] = paired.cdrs
    assert (cdr.disposition, cdr.sip_code, cdr.duration_ms, cdr.stop_cause) == ("busy", 486, 0, "")
    assert (cdr.events, paired.duplicates, cdr.attempts) == ((1,), (2,), 0)
    assert (cdr.started_us, cdr.answered_us, cdr.ended_us) == (instant("10:00:05"), None, instant("10:00:05"))


def test_last_code_is_that_of_a_call_that_fails_as_a_whole(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > hunt to=t1 486
    10:00:35 failed  c1  to=- 408
    """
    [cdr] = paired.cdrs
    assert (cdr.disposition, cdr.sip_code, cdr.to_tag, cdr.attempts) == ("no_answer", 408, "", 1)
    assert (cdr.started_us, cdr.ended_us) == (instant("10:00:05"), instant("10:00:35"))


def test_of_codes_of_one_second_the_one_that_a_proxy_forwards_counts(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > bob 503
    10:00:05 failed  c1  alice > bob 500
    10:00:05 failed  c2  alice > bob 486
    10:00:05 failed  c2  alice > bob 603
    """
    assert [cdr.sip_code for cdr in paired.cdrs] == [500, 603]


def test_bye_of_an_early_dialog_belongs_to_the_failed_call(paired: Paired) -> None:
    """
    10:00:05 stop    c1
    10:00:05 failed  c1  alice > bob 487
    """
    [cdr] = paired.calls
    assert (cdr.disposition, cdr.attempts, len(cdr.events)) == ("cancelled", 0, 2)


def test_bye_of_a_dialog_that_did_not_fail_tells_of_a_lost_start(paired: Paired) -> None:
    """
    10:00:05 failed  c1  alice > hunt to=t1 486
    10:01:20 stop    c1  to=t2
    """
    [call] = paired.exceptions
    assert (call.reason, call.events) == ("stop_without_start", (2,))
    assert [cdr.disposition for cdr in paired.cdrs] == ["busy"]


def test_longest_of_several_answered_dialogs_counts(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob to=t1
    10:00:01 start  c1  alice > bob to=t2
    10:00:03 stop   c1  to=t2
    10:05:00 stop   c1  to=t1
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.to_tag, cdr.attempts, cdr.flags) == (300_000, "t1", 2, ("multi_answer",))


def test_several_answered_dialogs_wait_until_all_have_ended(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob to=t1
    10:00:01 start  c1  alice > bob to=t2
    10:00:03 stop   c1  to=t2
    now 10:04:00
    """
    [call] = paired.open
    assert (call.due_us, call.flags) == (instant("1+10:00:00"), ("multi_answer",))
    [cdr] = pair(paired.scenario._replace(now_us=call.due_us)).cdrs
    assert (cdr.to_tag, cdr.duration_ms, cdr.flags) == ("t2", 2_000, ("dialog_without_end", "multi_answer"))


def test_invite_in_the_middle_of_a_call_is_not_a_second_one(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:00:30 start  c1  alice > sip:bob@10.0.0.1
    10:00:40 start  c1  bob > sip:alice@10.0.0.2 from=t to=f
    10:00:45 failed c1  bob > sip:alice@10.0.0.2 from=t to=f 488
    10:01:00 stop   c1  by callee
    """
    [cdr] = paired.calls
    assert (cdr.duration_ms, cdr.caller_uri, cdr.called_uri, cdr.from_tag) == (60_000, "alice", "bob", "f")
    assert (cdr.forwarder_uri, cdr.released_by, len(cdr.events)) == ("", "callee", 5)


def test_invites_that_lack_a_tag_are_no_replies_to_each_other(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob from=t1 to=f
    10:00:00 start  c1  alice > bob from=- to=f
    10:00:00 start  c1  alice > bob from=f to=-
    """
    assert [(call.from_tag, call.stop_cause) for call in paired.cdrs] == [
        ("", "max_age"),
        ("f", "max_age"),
        ("t1", "max_age"),
    ]


def test_two_callers_tags_are_two_calls(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob from=f1 to=t1
    10:01:00 stop   c1  from=t1 to=f1
    10:01:10 start  c1  alice > carol from=f2 to=t2
    10:03:10 stop   c1  from=f2 to=t2
    """
    assert [(cdr.from_tag, cdr.duration_ms) for cdr in paired.cdrs] == [("f1", 60_000), ("f2", 120_000)]


def test_key_used_again_after_the_gap_is_a_new_call(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:01:00 stop   c1
    10:01:10 stop   c1  481
    12:00:00 stop   c1  408
    13:00:00 start  c1  alice > carol
    13:02:00 stop   c1
    """
    assert [(cdr.called_uri, cdr.duration_ms) for cdr in paired.cdrs] == [("bob", 60_000), ("carol", 120_000)]
    assert [cdr.events for cdr in paired.cdrs] == [(1, 2, 3, 4), (5, 6)]


def test_start_within_the_gap_is_of_the_same_call(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    10:01:00 stop   c1
    10:02:00 start  c1  alice > bob untimed
    """
    [cdr] = paired.calls
    assert cdr.duration_ms == 60_000


def test_start_while_no_end_is_known_is_not_a_new_call(paired: Paired) -> None:
    """
    10:00:00 start  c1  alice > bob
    12:00:00 start  c1  alice > bob
    13:00:00 stop   c1
    """
    [cdr] = paired.calls
    assert cdr.duration_ms == 10_800_000


def test_start_after_a_day_of_silence_is_a_new_call(paired: Paired) -> None:
    """
    10:00:00   start  c1  alice > bob
    2+10:00:00 start  c1  alice > bob
    2+11:00:00 stop   c1
    """
    assert [(cdr.stop_cause, cdr.duration_ms) for cdr in paired.cdrs] == [("max_age", 0), ("bye", 3_600_000)]


def test_repeat_without_a_time_of_its_own_is_not_a_new_call(paired: Paired) -> None:
    """
    10:00:00 start  c1  session untimed alice > bob
    10:01:00 stop   c1  session untimed 60s
    15:00:00 start  c1  session untimed alice > bob
    15:01:00 stop   c1  session untimed 60s
    """
    [cdr] = paired.calls
    assert (cdr.duration_ms, paired.duplicates) == (60_000, ())


def test_session_id_used_again_after_a_restart_is_a_new_call(paired: Paired) -> None:
    """
    10:00:00 start  c1  session untimed alice > bob
    10:05:00 reboot
    10:05:10 start  c1  session untimed alice > bob
    10:06:10 stop   c1  session untimed
    """
    assert [(c.stop_cause, c.duration_ms) for c in paired.cdrs] == [("nas_reboot", 300_000), ("bye", 60_000)]


def test_sessions_of_two_nas_are_two_calls(paired: Paired) -> None:
    """
    10:00:00 start  c1  session alice > bob nas=a
    10:00:00 start  c1  session alice > bob nas=b
    10:01:00 stop   c1  session nas=a
    """
    assert sorted((call.nas, call.stop_cause) for call in paired.calls) == [("a", "bye"), ("b", "max_age")]


def test_session_time_is_the_measure_of_the_nas(paired: Paired) -> None:
    """
    10:00:00 start  c1  session alice > bob
    10:02:05 stop   c1  session 120s
    """
    [cdr] = paired.cdrs
    assert (cdr.answered_us, cdr.ended_us) == (instant("10:00:00"), instant("10:02:00"))
    assert (cdr.duration_ms, cdr.released_by) == (120_000, "unknown")


def test_absurd_session_time_gives_way_to_the_times(paired: Paired) -> None:
    """
    10:00:00 start  c1  session alice > bob
    10:02:00 stop   c1  session 4294967295s
    """
    [cdr] = paired.cdrs
    assert cdr.duration_ms == 120_000


def test_stop_without_start_waits_then_is_an_exception(paired: Paired) -> None:
    """
    10:00:00 stop  c1  alice > bob
    now 10:04:59
    """
    [call] = paired.open
    assert (call.due_us, call.reason, call.caller_uri) == (instant("10:05:00"), "", "alice")
    [call] = pair(paired.scenario._replace(now_us=call.due_us)).exceptions
    assert (call.reason, call.due_us) == ("stop_without_start", None)


def test_stop_without_start_is_a_cdr_if_it_tells_the_duration(paired: Paired) -> None:
    """
    10:02:00 stop  c1  session alice > bob 120s
    now 10:06:59
    """
    [call] = paired.open
    [cdr] = pair(paired.scenario._replace(now_us=call.due_us)).cdrs
    assert (cdr.answered_us, cdr.ended_us, cdr.duration_ms) == (instant("10:00:00"), instant("10:02:00"), 120_000)
    assert (cdr.stop_cause, cdr.flags, cdr.caller_uri) == ("bye", ("start_missing",), "alice")


def test_sip_stop_that_tells_its_duration_is_a_cdr(paired: Paired) -> None:
    """
    10:02:00 stop  c1  alice > bob 120s
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.released_by, cdr.from_tag, cdr.to_tag) == (120_000, "unknown", "f", "t")


def test_stops_of_a_session_id_used_again_are_calls_of_their_own(paired: Paired) -> None:
    """
    10:02:00 stop  c1  session alice > bob 120s
    12:02:00 stop  c1  session alice > bob 60s
    14:00:00 start c1  session alice > bob
    14:01:00 stop  c1  session alice > bob 59s
    """
    assert [cdr.duration_ms for cdr in paired.cdrs] == [120_000, 60_000, 59_000]
    assert [cdr.flags for cdr in paired.cdrs] == [("start_missing",), ("start_missing",), ()]


def test_interim_update_tells_the_beginning_of_a_session(paired: Paired) -> None:
    """
    10:00:30 interim  c1  session alice > bob 30s
    10:10:30 interim  c1  session alice > bob 630s
    now 12:00:00
    """
    [call] = paired.open
    assert (call.answered_us, call.due_us) == (instant("10:00:00"), instant("1+10:10:30"))
    assert (call.events, paired.duplicates, call.flags) == ((2,), (1,), ("start_missing",))


def test_late_start_heals_the_orphan(paired: Paired) -> None:
    """
    10:00:30 interim  c1  session alice > bob 30s
    10:01:00 stop     c1  session alice > bob 60s
    10:00:00 start    c1  session alice > bob
    """
    [cdr] = paired.cdrs
    assert (cdr.duration_ms, cdr.flags) == (60_000, ())


def test_orphans_that_share_a_tag_are_one(paired: Paired) -> None:
    """
    10:00:00 media    c1  from=f to=- 60s timeout
    10:00:10 interim  c1  from=x to=y
    10:00:20 stop     c1  from=t to=f
    10:00:30 media    c2  60s
    10:00:30 interim  c3
    10:00:30 operator c4
    """
    assert [(call.reason, call.events) for call in paired.exceptions] == [
        ("stop_without_start", (1, 3)),
        ("interim_without_start", (2,)),
        ("media_without_start", (4,)),
        ("interim_without_start", (5,)),
        ("correction_without_start", (6,)),
    ]


def test_only_the_latest_interim_update_is_kept(paired: Paired) -> None:
    """
    10:00:00 start    c1  alice > bob
    10:10:00 interim  c1
    10:30:00 interim  c1
    10:20:00 interim  c1  by callee
    now 11:00:00
    """
    [call] = paired.open
    assert (call.events, paired.duplicates, call.due_us) == ((1, 3), (2, 4), instant("1+10:30:00"))


def test_setup_time_tells_when_the_invite_came(paired: Paired) -> None:
    """
    10:00:08 start  c1  alice > bob setup=8s
    10:01:00 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.started_us, cdr.setup_ms) == (instant("10:00:00"), 8_000)


def test_setup_time_that_is_a_unix_time_is_not_one(paired: Paired) -> None:
    """
    10:00:08 start  c1  alice > bob setup=1772445608s created=23:00:00
    10:01:00 stop   c1
    """
    [cdr] = paired.cdrs
    assert (cdr.started_us, cdr.setup_ms) == (None, None)
