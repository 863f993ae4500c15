"""Calls that gateways report leg by leg, and switches CDR by CDR."""

from itertools import permutations

import pytest

from accounting.event import AccountingEvent, EventKind
from cdr.call import Call, CallState
from cdr.pairing import pair_group
from tests.unit.pairing.scenario import DAY_0_US, DAY_US, without_refs

COMPLETE, FAILED, START = EventKind.COMPLETE, EventKind.FAILED, EventKind.START
SECOND = 1_000_000


def leg(
    origin: str, at: float, lasted: float | None = None, *, kind: EventKind = COMPLETE, created: float = 0,
    nas: str = "gw1", source: str = "gws", rank: int = 1, code: int | None = None, ref: int = 1, **more: str,
) -> AccountingEvent:  # fmt: skip
    """Return a leg's event; times in seconds."""
    at_us = DAY_0_US + round(at * SECOND)
    return AccountingEvent(
        ref, kind, at_us, at_us, 1, source, rank, "access", "1 2 3 4", nas=nas, leg=origin, sip_code=code,
        duration_ms=None if lasted is None else round(lasted * 1000), created_us=DAY_0_US + round(created * SECOND),
    )._replace(**more)  # type: ignore[arg-type]  # fmt: skip


def cdr(call_id: str, at: float, lasted: float, *, ref: int = 1) -> AccountingEvent:
    """Return a switch's CDR of an answered session."""
    event = leg("", at, lasted, ref=ref)
    return event._replace(call_id=call_id, is_session=True, created_us=None)


def calls_of(*events: AccountingEvent) -> list[Call]:
    """Return the calls, which must be the same in whatever order the events come."""
    numbered = [event._replace(ref=ref) for ref, event in enumerate(events, 1)]
    results = [pair_group(order, now_us=DAY_0_US + 7 * DAY_US) for order in permutations(numbered)]
    assert all(without_refs(result) == without_refs(results[0]) for result in results)
    refs = sorted([ref for call in results[0].calls for ref in call.events] + list(results[0].duplicates))
    assert refs == list(range(1, len(events) + 1))
    return list(results[0].calls)


FOUR = (
    leg("answer", 10.02, 61.3, created=0, caller_uri="alice", called_uri="0049151", auth_user="card-7"),
    leg("originate", 10.01, 61.28, created=0.1, caller_uri="alice", called_uri="49151", translated_uri="sip:49151@h"),
    leg("answer", 10.01, 61.27, created=0.2, nas="gw2", caller_uri="34600", called_uri="49151", source_ip="192.0.2.1"),
    leg("originate", 10, 61.25, created=0.3, nas="gw2", caller_uri="34600", called_uri="49151"),
)


def test_four_legs_on_two_gateways_are_one_call() -> None:
    [call] = calls_of(*FOUR)
    assert (call.state, call.stop_cause, call.disposition) == (CallState.CLOSED, "complete", "answered")
    assert (call.caller_uri, call.called_uri, call.auth_user) == ("alice", "0049151", "card-7")
    assert (call.duration_ms, call.answered_us) == (61_250, DAY_0_US + 10 * SECOND)
    assert call.flags == ()


def test_two_legs_join_the_callers_end_and_the_called_end() -> None:
    [call] = calls_of(*FOUR[:2])
    assert (call.caller_uri, call.called_uri, call.translated_uri) == ("alice", "0049151", "sip:49151@h")
    assert (call.duration_ms, call.setup_ms, call.started_us) == (61_280, 10_010, DAY_0_US)
    assert (call.attempts, call.flags) == (0, ())


@pytest.mark.parametrize("lone", FOUR)
def test_one_leg_alone_is_a_call(lone: AccountingEvent) -> None:
    [call] = calls_of(lone)
    assert (call.state, call.duration_ms) == (CallState.CLOSED, lone.duration_ms)


def test_repeat_of_a_leg_changes_nothing() -> None:
    assert without_refs(pair_group([FOUR[0], FOUR[0]._replace(ref=9)], now_us=DAY_0_US + DAY_US)) == without_refs(
        pair_group([FOUR[0]], now_us=DAY_0_US + DAY_US)
    )


def test_call_whose_outgoing_legs_all_failed_was_not_answered() -> None:
    """The caller heard an announcement, which the gateway answered with."""
    [call] = calls_of(FOUR[0], leg("originate", 5, kind=FAILED, code=486, created=1))
    assert (call.disposition, call.sip_code, call.duration_ms, call.caller_uri) == ("busy", 486, 0, "alice")


def test_failed_attempts_before_the_answer_are_attempts_of_the_call() -> None:
    busy = leg("originate", 3, kind=FAILED, code=486, created=1)
    silent = leg("originate", 200, kind=FAILED, code=480, created=3.1)
    [call] = calls_of(busy, silent, leg("originate", 320, 30, created=200.1), leg("answer", 320.1, 29.9, created=0))
    assert (call.disposition, call.duration_ms, call.attempts) == ("answered", 30_000, 2)


def test_call_fails_with_the_last_word_of_its_outgoing_legs() -> None:
    legs = [leg("originate", at, kind=FAILED, code=code, created=at - 1) for at, code in ((3, 486), (9, 480))]
    [call] = calls_of(*legs, leg("answer", 9.1, kind=FAILED, code=503, created=0, caller_uri="alice"))
    assert (call.disposition, call.sip_code, call.caller_uri) == ("unavailable", 480, "alice")


def test_leg_that_connected_is_open_until_its_stop() -> None:
    start = leg("originate", 10, kind=START)
    assert pair_group([start], now_us=DAY_0_US + 60 * SECOND).calls[0].state is CallState.OPEN
    [call] = calls_of(start, leg("originate", 10, 61.25), leg("answer", 10.1, kind=START))
    assert (call.state, call.duration_ms, call.stop_cause) == (CallState.CLOSED, 61_250, "complete")


def test_calls_one_after_the_other_under_one_id_are_each_a_call() -> None:
    """A calling card: one leg in, two calls out."""
    first, second = leg("originate", 20, 60, called_uri="49151"), leg("originate", 100, 30, called_uri="49152")
    calls = calls_of(leg("answer", 5, 140), first, second)
    assert [(call.called_uri, call.duration_ms) for call in calls] == [("49151", 60_000), ("49152", 30_000)]


def test_repeat_of_a_leg_without_a_time_of_its_own_is_no_next_call() -> None:
    first = leg("originate", 10, 3, called_uri="49151")._replace(timed=False, created_us=None)
    [call] = calls_of(first, first._replace(at_us=first.at_us + 20 * SECOND))
    assert call.duration_ms == 3_000


def test_leg_by_a_clock_that_runs_ahead_is_of_the_same_call() -> None:
    [call] = calls_of(leg("originate", 10, 5, created=1), leg("originate", 40, 5, created=31, nas="gw2"))
    assert call.duration_ms == 5_000


def test_better_ranked_client_names_parties_and_duration() -> None:
    worse = leg("originate", 10, 59, created=5, source="b", rank=2, called_uri="x")
    [call] = calls_of(leg("originate", 10, 61, created=1, source="a", called_uri="y"), worse)
    assert (call.source, call.called_uri, call.duration_ms) == ("a", "y", 61_000)


def test_cdrs_of_one_channel_one_after_the_other_are_each_a_call() -> None:
    """A transfer: 30 s with the first, then 60 s with the second party."""
    calls = calls_of(cdr("1.42", 10, 30), cdr("1.42", 40, 60))
    assert [call.duration_ms for call in calls] == [30_000, 60_000]


def test_cdrs_of_one_channel_at_one_time_are_one_call_of_the_longest() -> None:
    """ForkCDR."""
    [call] = calls_of(cdr("1.42", 10, 0), cdr("1.42", 10, 90), cdr("1.42", 40, 30))
    assert (call.duration_ms, call.stop_cause) == (90_000, "complete")


def test_cdr_of_a_failed_attempt_is_of_the_call_that_was_answered_after_it() -> None:
    busy = cdr("1.42", 5, 0)._replace(kind=FAILED, duration_ms=None, sip_code=486)
    [call] = calls_of(busy, cdr("1.42", 10, 30))
    assert (call.disposition, call.duration_ms, call.attempts) == ("answered", 30_000, 1)
