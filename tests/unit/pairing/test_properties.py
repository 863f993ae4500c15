"""Whatever the order, the repeats and the batch borders: the calls are the same, and no event is lost."""

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.event import AccountingEvent, EventKind
from cdr.call import Call, CallState, PairedGroup
from cdr.pairing import PairingLimits, pair_group
from cdr.pairing_calls import call_of
from cdr.pairing_evidence import distinct
from cdr.pairing_split import split_calls

EXAMPLES = 300
SECOND = 1_000_000
START_US = 1_772_445_600 * SECOND
LIMITS = PairingLimits(
    max_age_us=2_000 * SECOND,
    stop_grace_us=90 * SECOND,
    media_grace_us=40 * SECOND,
    reuse_gap_us=60 * SECOND,
    media_gap_us=120 * SECOND,
)

# few values, so that they meet: what is interesting happens where times and tags are equal or nearly so
TIMES = st.one_of(
    st.sampled_from(
        [0, 1, 2, 3, 5, 10, 59, 60, 61, 62, 100, 160, 161, 190, 250, 300, 1000, 2059, 2060, 2061, 2500, 5000]
    ),
    st.integers(-5, 7_000),
)
SOURCES = st.sampled_from(
    [("one", 1, "access", "n1"), ("one", 1, "access", "n2"), ("two", 1, "access", "n1"), ("three", 2, "egress", "n3")]
)
DURATIONS = st.sampled_from([None, None, 0, 1_000, 60_000, 61_250, 5_000_000, -1_000, 2**32 - 5_000])
URIS = st.sampled_from(["alice", "bob", "carol", "+493"])


class Story(NamedTuple):
    events: tuple[AccountingEvent, ...]
    reboots: tuple[int, ...]
    now_us: int


@st.composite
def reports(draw: st.DrawFn, is_session: bool, begun: bool) -> AccountingEvent:
    """One report of a group. Its position and arrival are set later."""
    kinds = [EventKind.START, EventKind.STOP, EventKind.FAILED, EventKind.COMPLETE]
    if not begun:
        kinds += [EventKind.START, EventKind.STOP, EventKind.INTERIM, EventKind.MEDIA, EventKind.OPERATOR]
    kind = draw(st.sampled_from(kinds))
    source, rank, role, nas = draw(SOURCES)
    at_us = START_US + draw(TIMES) * SECOND + draw(st.sampled_from([0, 0, 0, 250_000]))
    event = AccountingEvent(
        0, kind, at_us, 0, draw(st.integers(1, 2)), source, rank, role, "c1", nas="n" if is_session else nas,
        is_session=is_session, timed=draw(st.sampled_from([True, True, True, False])),
        caller_uri=draw(URIS), called_uri=draw(URIS), translated_uri=draw(URIS),
        source_ip=draw(st.sampled_from(["192.0.2.1", "10.0.0.9"])), source_is_own=draw(st.booleans()),
        divert_reason=draw(st.sampled_from(["", "busy"])),
        flags=draw(st.sampled_from([(), ("old_timestamp",)])),
    )  # fmt: skip
    if kind not in (EventKind.START, EventKind.FAILED):
        event = event._replace(duration_ms=draw(DURATIONS))
    if kind in (EventKind.FAILED, EventKind.START, EventKind.COMPLETE):
        created = draw(st.sampled_from([None, None, 0, 3, 200]))
        event = event._replace(
            sip_code=draw(st.sampled_from([None, 200, 408, 486, 503, 603])),
            created_us=None if created is None else at_us - created * SECOND,
            setup_ms=draw(st.sampled_from([None, 4_000])),
        )
    if kind is EventKind.MEDIA:
        event = event._replace(media_info=draw(st.sampled_from(["", "timeout", "TIMEOUT", "ICE session"])))
        if draw(st.booleans()):
            event = event._replace(duration_ms=None, ended_us=draw(st.sampled_from([at_us, at_us - 70 * SECOND])))
    if is_session:
        return event
    tags = draw(st.sampled_from([("f", "t1"), ("f", "t1"), ("f", "t2"), ("f", ""), ("g", "t3"), ("", ""), ("f", "x")]))
    if draw(st.integers(0, 3)) == 0:
        tags = tags[::-1]
    return event._replace(from_tag=tags[0], to_tag=tags[1])


@st.composite
def likely_calls(draw: st.DrawFn) -> list[AccountingEvent]:
    """A call as proxies report it: two passes, two sources, forks; some reports lost."""
    is_session = draw(st.booleans())
    begin, lasts = draw(st.integers(0, 200)), draw(st.integers(0, 1_500))
    told: list[AccountingEvent] = []
    for source, rank, role, nas in draw(st.lists(SOURCES, min_size=1, max_size=2, unique=True)):
        skew = draw(st.sampled_from([0, 0, 1, 7]))
        base = AccountingEvent(
            0, EventKind.START, START_US + (begin + skew) * SECOND, 0, 1, source, rank, role, "c1",
            from_tag="" if is_session else "f", to_tag="" if is_session else "t1", nas="n" if is_session else nas,
            is_session=is_session, caller_uri="alice", called_uri="bob", translated_uri="carol", source_ip="192.0.2.1",
        )  # fmt: skip
        end = base._replace(kind=EventKind.STOP, at_us=base.at_us + lasts * SECOND)
        if draw(st.booleans()):
            end = end._replace(from_tag=end.to_tag, to_tag=end.from_tag)
        if is_session:
            end = end._replace(duration_ms=draw(st.sampled_from([None, lasts * 1000])))
        if draw(st.integers(0, 3)) == 0:
            told.append(base._replace(kind=EventKind.COMPLETE, duration_ms=lasts * 1000 + 250))
        else:
            told += [base, end]
        if draw(st.booleans()):
            inner = {"called_uri": "carol", "translated_uri": "gw", "source_ip": "10.0.0.9", "source_is_own": True}
            told += [base._replace(**inner), end._replace(**inner)]
        if draw(st.booleans()):
            told.append(base._replace(kind=EventKind.FAILED, to_tag="t0" if base.to_tag else "", sip_code=486))
        if draw(st.booleans()):
            told += [_media(draw, base, end, lasts)]
        for ago in draw(st.lists(st.integers(0, 1_500), max_size=4)):
            told.append(base._replace(kind=EventKind.INTERIM, at_us=base.at_us + ago * SECOND))
    return [one for one in told if draw(st.integers(0, 5))]


def _media(draw: st.DrawFn, base: AccountingEvent, end: AccountingEvent, lasts: int) -> AccountingEvent:
    """A media report of a call: at the end, or long before it, as a duration or as an instant."""
    media = end._replace(kind=EventKind.MEDIA, media_info=draw(st.sampled_from(["timeout", "timeout", "REGULAR"])))
    lasted = draw(st.sampled_from([lasts, lasts // 2, 0]))
    if draw(st.booleans()):
        return media._replace(duration_ms=lasted * 1000)
    ended_us = base.at_us + lasted * SECOND
    return media._replace(source="relay", rank=2, at_us=ended_us, ended_us=ended_us, duration_ms=None)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """All that was ever reported of one group key, with the time at which it is looked at."""
    events = draw(likely_calls()) if draw(st.booleans()) else []
    is_session = events[0].is_session if events else draw(st.booleans())
    events += draw(st.lists(reports(is_session, False), min_size=0 if events else 1, max_size=6))
    if draw(st.booleans()):  # the same again: a key that is used twice, or a replay
        later = draw(st.sampled_from([0, 1, 30, 1_700, 6_000]))
        events += [one._replace(at_us=one.at_us + later * SECOND) for one in events]
    events += draw(st.lists(st.sampled_from(events), max_size=3))
    arrivals = draw(st.permutations(range(len(events))))
    events = [one._replace(ref=100 + n, received_us=START_US + n * 7) for one, n in zip(events, arrivals, strict=True)]
    reboots = tuple(START_US + t * SECOND for t in draw(st.lists(TIMES, max_size=2)))
    return Story(tuple(events), reboots, START_US + draw(st.sampled_from([-100, 50, 300, 2_100, 10_000])) * SECOND)


def paired(story: Story, events: Sequence[AccountingEvent], now_us: int | None = None) -> PairedGroup:
    reboots = {event.nas: story.reboots for event in events}
    return pair_group(events, now_us=story.now_us if now_us is None else now_us, reboots=reboots, limits=LIMITS)


def by_event(call: Call) -> int:
    return call.events[0]


def without_positions(calls: Sequence[Call]) -> list[Call]:
    return [call._replace(events=(len(call.events),)) for call in calls]


@settings(max_examples=EXAMPLES)
@given(stories(), st.data())
def test_any_order_in_any_batches_gives_the_same_calls(story: Story, data: st.DataObject) -> None:
    whole = paired(story, story.events)
    note(", ".join(sorted({f"{call.state}:{call.stop_cause or call.reason}" for call in whole.calls})))
    coming = data.draw(st.permutations(story.events))
    borders = sorted(data.draw(st.lists(st.integers(0, len(coming)), max_size=4)))
    kept: list[AccountingEvent] = []
    result = whole
    for begin, end in zip([0, *borders], [*borders, len(coming)], strict=True):
        result = paired(story, kept + coming[begin:end], data.draw(st.sampled_from([story.now_us, START_US])))
        known = {event.ref: event for event in kept + coming[begin:end]}
        kept = [known[ref] for call in result.calls for ref in call.events]
    assert paired(story, kept).calls == whole.calls


@settings(max_examples=EXAMPLES)
@given(stories(), st.data())
def test_positions_and_arrivals_do_not_matter(story: Story, data: st.DataObject) -> None:
    refs = data.draw(st.permutations([event.ref for event in story.events]))
    moved = [
        event._replace(ref=ref, received_us=event.received_us if event.kind is EventKind.OPERATOR else ref)
        for event, ref in zip(story.events, refs, strict=True)
    ]
    assert without_positions(paired(story, moved).calls) == without_positions(paired(story, story.events).calls)


@settings(max_examples=EXAMPLES)
@given(stories())
def test_repeats_change_nothing(story: Story) -> None:
    again = [event._replace(ref=event.ref + 1000, source_id=2) for event in story.events]
    whole = paired(story, story.events)
    twice = paired(story, [*again, *story.events])
    assert twice.calls == whole.calls
    assert len(twice.duplicates) == len(whole.duplicates) + len(again)


@settings(max_examples=EXAMPLES)
@given(stories())
def test_every_event_is_in_one_call_or_a_duplicate(story: Story) -> None:
    group = paired(story, story.events)
    places = [ref for call in group.calls for ref in call.events] + list(group.duplicates)
    assert sorted(places) == sorted(event.ref for event in story.events)
    assert list(group.duplicates) == sorted(group.duplicates)


@settings(max_examples=EXAMPLES)
@given(stories())
def test_calls_hold_what_their_state_promises(story: Story) -> None:
    for call in paired(story, story.events).calls:
        assert call.events == tuple(sorted(call.events))
        assert call.flags == tuple(sorted(set(call.flags)))
        assert 0 <= call.attempts < len(call.events) or (call.attempts == 0 and not call.disposition)
        assert (call.due_us is not None) == (call.state is CallState.OPEN)
        assert bool(call.reason) == (call.state is CallState.EXCEPTION)
        assert bool(call.stop_cause) == (call.state is CallState.CLOSED and call.disposition == "answered")
        if call.state is CallState.CLOSED and call.stop_cause not in ("", "max_age"):
            assert call.answered_us is not None
            assert call.ended_us is not None
            assert 0 <= call.duration_ms == (call.ended_us - call.answered_us) // 1000
        else:
            assert call.duration_ms == 0
        assert (call.exceptions == ("no_stop",)) == (call.stop_cause == "max_age")


@settings(max_examples=EXAMPLES)
@given(stories())
def test_open_call_changes_when_it_is_due_and_not_before(story: Story) -> None:
    group = paired(story, story.events)
    for place, call in enumerate(group.calls):
        if call.due_us is not None:
            assert call.due_us > story.now_us
            assert paired(story, story.events, call.due_us - 1).calls[place] == call
            assert paired(story, story.events, call.due_us).calls[place].state is not CallState.OPEN
        else:
            assert paired(story, story.events, story.now_us + 10_000 * SECOND).calls[place] == call


@settings(max_examples=EXAMPLES)
@given(stories())
def test_short_way_gives_what_the_long_way_gives(story: Story) -> None:
    for first in story.events:
        for second in story.events:
            pair = [first, second] if first.ref < second.ref else [first]
            kept, duplicates = distinct(pair)
            long_way = [call_of(found, story.now_us, (), LIMITS) for found in split_calls(kept, (), LIMITS)]
            group = pair_group(pair, now_us=story.now_us, limits=LIMITS)
            assert sorted(group.calls, key=by_event) == sorted(long_way, key=by_event)
            assert list(group.duplicates) == duplicates
