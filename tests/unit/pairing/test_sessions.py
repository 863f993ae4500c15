"""Sessions without tags: of several NASes under one id, told by packets and by a table's rows, beside SIP calls."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.event import AccountingEvent
from cdr.call import Call, CallState
from cdr.pairing import pair_group
from tests.unit.pairing.scenario import DAY_US, Scenario, parse

ROW = "10.0.0.1"


def calls_of(text: str, rows: Sequence[str] = ("radacct",)) -> tuple[Scenario, list[Call]]:
    """Return the calls of a scenario in which the sources `rows` are tables: they know the NAS by its address only."""
    scenario = parse(text)
    events = [e._replace(nas_address=e.nas) if e.source in rows else e for e in scenario.events]
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
