"""The sample day of the demo: reports as a proxy sends them, all of them readable, and the same for the same seed."""

from collections import Counter

from accounting.event import AccountingEvent, EventKind, Source
from accounting.journal import JournalRow
from accounting.sample import (
    DAY_S,
    LOST_BYE,
    LOST_START,
    MESSAGE,
    PROXY,
    Copies,
    Report,
    day_of_calls,
    delayed,
)
from accounting.sources import translate

START_S = 1_795_392_000  # 2026-11-23T00:00:00Z
CLIENT = Source(id=1, name="proxy-1", dialects=("opensips",), own_addresses=(PROXY,), country="DE")


def events_of(reports: tuple[Report, ...]) -> list[AccountingEvent]:
    events = []
    for seq, report in enumerate(reports, start=1):
        raw = b"\x04\x01" + (20 + len(report.attributes)).to_bytes(2) + bytes(16) + report.attributes
        event = translate(JournalRow(seq, (START_S + DAY_S) * 10**6, 1, b"", raw), CLIENT)
        assert isinstance(event, AccountingEvent), event
        assert event.at_us == report.at_s * 10**6
        events.append(event)
    return events


def test_same_seed_makes_the_same_day() -> None:
    assert day_of_calls(START_S, 200, seed=7) == day_of_calls(START_S, 200, seed=7)
    assert day_of_calls(START_S, 200, seed=7) != day_of_calls(START_S, 200, seed=8)


def test_all_reports_are_of_the_day_in_the_order_of_their_times() -> None:
    times = [report.at_s for report in day_of_calls(START_S, 3000).reports]
    assert times == sorted(times)
    assert START_S <= times[0] < times[-1] < START_S + DAY_S


def test_every_kind_of_call_is_there_as_often_as_told() -> None:
    day = day_of_calls(START_S, 60)
    assert min(day.kinds.values()) >= 1
    assert sum(day.kinds.values()) - day.kinds[MESSAGE] == 60
    calls = {event.call_id: set[EventKind]() for event in events_of(day.reports)}
    for event in events_of(day.reports):
        calls[event.call_id].add(event.kind)
    told = Counter(frozenset(kinds) for kinds in calls.values())
    assert told[frozenset({EventKind.START})] == day.kinds[LOST_BYE]
    assert told[frozenset({EventKind.STOP})] == day.kinds[LOST_START]
    assert told[frozenset({EventKind.OTHER})] == day.kinds[MESSAGE]


def test_some_reports_are_sent_more_than_once() -> None:
    assert set(Counter(report.copies for report in day_of_calls(START_S, 60).reports)) == set(Copies)


def test_failover_changes_the_delay_only() -> None:
    report = day_of_calls(START_S, 60).reports[0]
    [told] = events_of((report,))
    [again] = events_of((report._replace(attributes=delayed(report, 2)),))
    assert report.attributes != delayed(report, 2)
    assert told == again
