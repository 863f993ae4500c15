"""Sessions without tags: of several NASes under one id, told by packets and by a table's rows, beside SIP calls."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.event import AccountingEvent, EventKind
from cdr.call import Call, CallState
from cdr.pairing import pair_group
from tests.unit.pairing.scenario import DAY_0_US, DAY_US, Scenario, parse

ROW = "10.0.0.1"


def calls_of(text: str, **addresses: str) -> tuple[Scenario, list[Call]]:
    """Return the calls of a scenario in which radacct is a table, which knows the NAS by its address only.

    `addresses` are what packets tell of NASes beside their names. The word `silent` takes the parties off a line.
    """
    scenario = parse(text)
    is_silent = [line.split()[-1] == "silent" for line in text.splitlines() if line.split()]
    events = [
        e._replace(nas_address=e.nas if e.source == "radacct" else addresses.get(e.nas, ""))
        for e in (
            e._replace(caller_uri="", called_uri="") if silent else e
            for e, silent in zip(scenario.events, is_silent, strict=True)
        )
    ]
    found = {calls_in(order, scenario.now_us) for order in permutations(events[:5])}
    assert len(found) == 1, "the order matters"
    return scenario, list(found.pop())


def calls_in(events: Sequence[AccountingEvent], now_us: int) -> tuple[Call, ...]:
    assert len({e.call_id for e in events}) == 1
    return pair_group(events, now_us=now_us).calls


def states(calls: Sequence[Call]) -> list[tuple[str, int, str]]:
    return [(call.state.value, call.duration_ms, call.reason) for call in calls]


@pytest.mark.parametrize("address", [ROW, ""])
def test_row_of_a_named_nas_is_the_session_of_its_packets(address: str) -> None:
    scenario = parse(
        """
        10:00:00 start    s1  alice > 4930  session nas=gw1
        10:01:30 stop     s1                session nas=gw1
        10:00:01 complete s1  alice > 4930 90s session nas=10.0.0.1 at=radacct rank=2
        """
    )
    start, stop, row = scenario.events
    events = [
        start._replace(nas_address=address), stop._replace(nas_address=address), row._replace(nas_address=row.nas),
    ]  # fmt: skip
    for order in permutations(events):
        assert states(calls_in(order, scenario.now_us)) == [("closed", 90_000, "")]


def test_two_nases_may_use_one_session_id() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    s1  alice > 4930  session nas=gw1
        10:01:30 stop     s1                session nas=gw1
        10:00:05 complete s1  carol > 4940 20s session nas=10.0.0.9 at=radacct
        """
    )
    assert states(calls) == [("closed", 90_000, ""), ("closed", 20_000, "")]


def test_row_that_two_nases_may_have_sent_is_held() -> None:
    _, calls = calls_of(
        """
        10:00:00 complete s1  alice > 4930 90s session nas=gw1
        10:00:00 complete s1  alice > 4930 90s session nas=gw2
        10:00:01 complete s1  alice > 4930 90s session nas=10.0.0.9 at=radacct
        """
    )
    assert sorted(states(calls)) == [
        ("closed", 90_000, ""), ("closed", 90_000, ""), ("exception", 90_000, "ambiguous_session"),
    ]  # fmt: skip


def test_row_in_another_time_zone_is_held_and_not_charged() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    s1  alice > 4930  session nas=gw1
        10:01:30 stop     s1                session nas=gw1
        12:00:00 complete s1  alice > 4930 90s session nas=10.0.0.9 at=radacct
        """
    )
    assert sorted(states(calls)) == [("closed", 90_000, ""), ("exception", 90_000, "ambiguous_session")]


def test_row_without_tags_is_of_the_sip_call_with_its_id() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    c1  alice > 4930
        10:01:30 stop     c1
        10:00:01 complete c1  alice > 4930 90s session nas=10.0.0.1 at=radacct rank=2
        """
    )
    assert states(calls) == [("closed", 90_000, "")]


def test_row_beside_two_callers_is_of_the_one_that_began_with_it() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    c1  alice > 4930  from=a to=x
        10:01:30 stop     c1                from=a to=x
        11:00:00 start    c1  alice > 4930  from=b to=y
        11:00:30 stop     c1                from=b to=y
        11:00:01 complete c1  alice > 4930 30s session nas=10.0.0.1 at=radacct rank=2
        """
    )
    assert states(calls) == [("closed", 90_000, ""), ("closed", 30_000, "")]


def test_row_in_another_time_zone_than_the_sip_call_is_held() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    c1  alice > 4930
        10:01:30 stop     c1
        12:00:00 complete c1  alice > 4930 90s session nas=10.0.0.1 at=radacct rank=2
        """
    )
    assert sorted(states(calls)) == [("closed", 90_000, ""), ("exception", 90_000, "ambiguous_session")]


def test_row_tells_the_end_of_a_sip_call_that_lost_its_bye() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    c1  alice > 4930
        10:00:01 complete c1  alice > 4930 90s session nas=10.0.0.1 at=radacct rank=2
        """
    )
    assert [(call.state, call.duration_ms, call.from_tag) for call in calls] == [(CallState.CLOSED, 90_000, "f")]


def test_session_beside_a_word_on_its_media_is_one_call() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    c1  alice > 4930  session
        10:01:30 stop     c1                session
        10:01:30 media    c1  90s timeout at=relay
        """
    )
    assert states(calls) == [("closed", 90_000, "")]


def test_call_id_that_a_caller_chose_takes_nothing_from_sessions() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    7  alice > 4930  session nas=gw1
        10:01:30 stop     7                session nas=gw1
        40+10:00:00 start 7  mallory > 4940  from=x to=y
        40+10:00:10 stop  7                  from=x to=y silent
        """
    )
    assert states(calls) == [("closed", 10_000, ""), ("closed", 90_000, "")]


def test_session_of_others_beside_a_sip_call_of_that_day_is_a_call() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    7  alice > 4930  session nas=gw1
        10:01:30 stop     7  90s           session nas=gw1
        11:00:00 start    7  mallory > 4940  from=x to=y
        11:00:10 stop     7                  from=x to=y silent
        """
    )
    assert states(calls) == [("closed", 10_000, ""), ("closed", 90_000, "")]


def test_session_of_others_in_the_minute_of_a_sip_call_is_held_and_not_lost_in_it() -> None:
    _, calls = calls_of(
        """
        10:00:00 complete 7  alice > 4930 90s session nas=gw1
        10:00:05 start    7  mallory > 4940  from=x to=y
        10:00:10 stop     7                  from=x to=y silent
        """
    )
    assert sorted(states(calls)) == [("closed", 5_000, ""), ("exception", 90_000, "ambiguous_session")]


def test_words_on_media_join_no_sessions_of_several_nases() -> None:
    _, calls = calls_of(
        """
        10:00:00 complete 7  alice > 4930 90s session nas=gw1
        10:00:20 complete 7  carol > 4940 60s session nas=gw2
        10:01:30 media    7  90s timeout at=relay
        """
    )
    assert [one for one in states(calls) if one[0] == "closed"] == [("closed", 90_000, ""), ("closed", 60_000, "")]


def test_stop_that_names_nobody_draws_no_row_of_others_to_it() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    s1  alice > 4930  session nas=gw1
        10:01:30 stop     s1                session nas=gw1 silent
        10:00:05 complete s1  carol > 4940 85s session nas=10.0.0.9 at=radacct
        """
    )
    assert states(calls) == [("closed", 90_000, ""), ("closed", 85_000, "")]


def test_row_in_another_time_zone_is_held_though_packets_name_the_nas_by_its_address() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    s1  alice > 4930  session nas=10.0.0.1
        10:01:30 stop     s1                session nas=10.0.0.1
        12:00:00 complete s1  alice > 4930 90s session nas=10.0.0.1 at=radacct
        """
    )
    assert sorted(states(calls)) == [("closed", 90_000, ""), ("exception", 90_000, "ambiguous_session")]


def test_row_of_an_address_that_two_nases_tell_is_a_call_if_they_had_none_that_day() -> None:
    _, calls = calls_of(
        """
        10:00:00 complete s1  alice > 4930 90s session nas=gw1
        10:00:00 complete s1  bob > 4940 80s   session nas=gw2
        2+10:00:00 complete s1  carol > 4950 70s session nas=127.0.0.1 at=radacct
        """,
        gw1="127.0.0.1",
        gw2="127.0.0.1",
    )
    assert sorted(states(calls)) == [("closed", 70_000, ""), ("closed", 80_000, ""), ("closed", 90_000, "")]


def test_restart_of_a_nas_ends_no_session_of_another_with_the_same_address() -> None:
    scenario = parse("10:00:00 start s1 alice > 4930 session nas=gw1")
    events = [event._replace(nas_address="127.0.0.1") for event in scenario.events]
    restart = (events[0].at_us + 60_000_000,)
    for nas, cause in (("gw2", "max_age"), ("gw1", "nas_reboot")):
        reboots = {nas: restart, "127.0.0.1": restart}
        [call] = pair_group(events, now_us=scenario.now_us, reboots=reboots).calls
        assert call.stop_cause == cause


@pytest.mark.parametrize(
    "reports",
    [
        "10:00:00 start    s1  alice > 4930  session",
        "10:00:00 interim  s1  alice > 4930 500s session",
        """
        10:00:00 start    s1  alice > 4930  session
        10:08:20 interim  s1  500s session
        """,
    ],
)
@pytest.mark.parametrize(
    "next_day",
    [
        """
        1+09:00:00 start  s1  carol > 4940  session
        1+09:10:00 stop   s1  600s          session
        """,
        """
        1+09:00:00 start    s1  carol > 4940  session
        1+09:05:00 interim  s1  300s        session
        1+09:10:00 stop     s1              session
        """,
        "1+09:10:00 stop     s1  carol > 4940 600s session",
    ],
)
def test_id_that_is_used_again_the_next_day_is_another_call_though_a_stop_was_lost(reports: str, next_day: str) -> None:
    scenario = parse(f"{reports}\n{next_day}")
    first = reports.strip().count("\n") + 1
    events = [
        e._replace(caller_uri="alice" if n < first else "carol", called_uri="4930" if n < first else "4940")
        for n, e in enumerate(scenario.events)
    ]
    for order in permutations(events):
        calls = pair_group(order, now_us=scenario.now_us).calls
        assert [(call.caller_uri, call.duration_ms, call.stop_cause) for call in calls] == [
            ("alice", 0, "max_age"), ("carol", 600_000, "bye"),
        ]  # fmt: skip


def test_start_told_again_much_later_is_the_same_session_if_its_length_says_so() -> None:
    _, calls = calls_of(
        """
        10:00:00 start    s1  alice > 4930  session
        12:00:00 start    s1  alice > 4930  session
        13:00:00 stop     s1  10800s        session
        """
    )
    assert states(calls) == [("closed", 10_800_000, "")]


@given(st.permutations(range(4)), st.integers(-50, 50), st.sampled_from(["gw1", "10.0.0.1"]))
def test_packets_and_a_row_of_one_session_are_one_charge(order: list[int], late_s: int, nas: str) -> None:
    scenario = parse(
        f"""
        10:00:00 start    s1  alice > 4930  session nas={nas}
        10:00:30 interim  s1  30s           session nas={nas}
        10:01:30 stop     s1  90s           session nas={nas}
        10:02:00 complete s1  alice > 4930 90s session nas=10.0.0.7 at=radacct rank=2
        """
    )
    events = list(scenario.events)
    events[3] = events[3]._replace(at_us=events[0].at_us + late_s * 1_000_000, nas_address="10.0.0.7")
    for count in range(1, 5):
        calls = calls_in([events[n] for n in order[:count]], scenario.now_us + DAY_US)
        assert sum(call.state is CallState.CLOSED for call in calls) == len(calls) <= 1 or count < 4
    assert [(call.state, call.duration_ms) for call in calls] == [(CallState.CLOSED, 90_000)]


# ---- several NASes, rows and SIP calls under one id

NASES = (("gw1", "10.0.0.1"), ("gw2", "10.0.0.2"), ("gw3", ""), ("10.0.0.4", ""), ("gw5", "10.0.0.1"))
PARTIES = (("alice", "4930"), ("carol", "4940"), ("alice", "4940"))
SECOND = 1_000_000


def report(kind: EventKind, at: int, said: dict[str, Any], told: int | None = None) -> AccountingEvent:
    base = AccountingEvent(0, kind, DAY_0_US + at * SECOND, 0, 1, "radius", 1, "access", "7", is_session=True)
    return base._replace(duration_ms=None if told is None else told * 1000, **said)


@st.composite
def told_of_a_call(draw: st.DrawFn) -> list[AccountingEvent]:
    """Return what packets, a table's rows and a proxy with the same id tell; some of it is lost."""
    nas, address = draw(st.sampled_from(NASES))
    at = draw(st.sampled_from([0, 20, 59, 61, 300, 4_000, 40_000, 90_000, 200_000]))
    lasted = draw(st.sampled_from([0, 10, 59, 60, 600, 5_000]))
    parties = dict(zip(("caller_uri", "called_uri"), draw(st.sampled_from(PARTIES)), strict=True))
    told = []
    if draw(st.integers(0, 3)):
        own = {"nas": nas, "nas_address": address}
        ends_with = draw(st.sampled_from([{}, parties]))
        told.append(report(EventKind.START, at, own | parties))
        told.append(report(EventKind.STOP, at + lasted, own | ends_with, draw(st.sampled_from([None, lasted]))))
        for gone in draw(st.lists(st.integers(0, lasted), max_size=3)):
            tells = draw(st.sampled_from([None, gone]))
            told.append(report(EventKind.INTERIM, at + gone, own | parties, tells))
    if draw(st.booleans()):
        row_nas = draw(st.sampled_from([address or "10.0.0.9", "10.0.0.9"])) if nas.startswith("gw") else nas
        row = {"nas": row_nas, "nas_address": row_nas, "source": "radacct", "rank": 2} | parties
        began = at + draw(st.sampled_from([0, 1, 50, 70, 3_600]))
        told.append(report(EventKind.START, began, row))
        told.append(report(EventKind.INTERIM, began + lasted // 2, row, lasted // 2))
        told.append(report(EventKind.COMPLETE, began, row, lasted))
    if draw(st.integers(0, 4)) == 0:
        tags = draw(st.sampled_from([("a", "b"), ("c", "d")]))
        sip = {"nas": "px", "source": "sip", "is_session": False, "from_tag": tags[0], "to_tag": tags[1]}
        began = at + draw(st.sampled_from([0, 1, 100, 3_600, 200_000]))
        told.append(report(EventKind.START, began, sip | parties))
        told.append(report(EventKind.STOP, began + lasted, sip))
    return [event for event in told if draw(st.integers(0, 5))]


@settings(max_examples=300)
@given(st.lists(told_of_a_call(), min_size=1, max_size=4), st.sampled_from([None, "gw1", "10.0.0.1"]), st.data())
def test_nothing_depends_on_order_or_batches_where_many_share_an_id(
    told: list[list[AccountingEvent]], restarted: str | None, data: st.DataObject
) -> None:
    events = [event._replace(ref=n) for n, event in enumerate((e for one in told for e in one), 1)]
    reboots = {restarted: (DAY_0_US + 5_000 * SECOND,)} if restarted else {}
    now_us = DAY_0_US + 30 * DAY_US
    whole = pair_group(events, now_us=now_us, reboots=reboots) if events else None
    coming = data.draw(st.permutations(events))
    borders = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    kept: list[AccountingEvent] = []
    result = whole
    for begin, end in zip([0, *borders], [*borders, len(events)], strict=True):
        if seen := kept + coming[begin:end]:
            result = pair_group(seen, now_us=data.draw(st.sampled_from([now_us, DAY_0_US])), reboots=reboots)
            kept = [event for event in seen if any(event.ref in call.events for call in result.calls)]
    if whole is None:
        return
    result = pair_group(kept, now_us=now_us, reboots=reboots)
    assert sorted(map(repr, result.calls)) == sorted(map(repr, whole.calls))
    owned = [ref for call in whole.calls for ref in call.events]
    assert sorted([*owned, *whole.duplicates]) == [event.ref for event in events]
