"""Which events of one Call-ID, or of one session id, make one call: by tags first, then by time.

Nothing here asks how a call ended, except to see that a key was used again. Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Sequence

from accounting.event import AccountingEvent, EventKind
from cdr.pairing_evidence import (
    ANSWERS,
    APART_US,
    BEGINNINGS,
    CLOCK_SLACK_US,
    RINGING_MAX_US,
    Evidence,
    PairingLimits,
    in_order,
    reporter,
    same_but_time,
    told_ms,
)
from cdr.pairing_legs import is_next_call

Tags = tuple[str, str]
LENGTHS = (EventKind.STOP, EventKind.COMPLETE)  # what tells how long a session lasted
CLAIMS = (EventKind.COMPLETE, EventKind.START, EventKind.FAILED)  # whose tags are the caller's, if they differ


def split_calls(events: Sequence[AccountingEvent], reboots: Sequence[int], limits: PairingLimits) -> list[Evidence]:
    """Return the calls of one group, the orphans last; each event is in one. `events` are distinct, in order."""
    beginnings, others = _sort_out(events)
    by_caller: dict[str, list[AccountingEvent]] = {}
    for event in beginnings:
        by_caller.setdefault(event.from_tag, []).append(event)
    attached: dict[str, list[AccountingEvent]] = {caller: [] for caller in by_caller}
    orphans: list[AccountingEvent] = []
    find = _Finder(beginnings)
    for event in others:
        caller = find(event)
        (orphans if caller is None else attached[caller]).append(event)
    calls = []
    for caller in sorted(by_caller):
        for found in _calls_of(caller, by_caller[caller], attached[caller], reboots, limits):
            call, lost = _without_unanswered_stops(found)
            calls.append(call)
            orphans += lost
    return calls + _orphans(orphans)


def matches(event: AccountingEvent, caller_tag: str, to_tag: str) -> bool:
    """Return whether the event is of this dialog: both tags in either order, or it does not name them both."""
    tags = event.from_tag, event.to_tag
    return not (all(tags) and to_tag) or tags in ((caller_tag, to_tag), (to_tag, caller_tag))


def is_exact(event: AccountingEvent, caller_tag: str, to_tag: str) -> bool:
    """Return whether the event names both tags of this very dialog."""
    return bool(to_tag) and (event.from_tag, event.to_tag) in ((caller_tag, to_tag), (to_tag, caller_tag))


def _sort_out(events: Iterable[AccountingEvent]) -> tuple[list[AccountingEvent], list[AccountingEvent]]:
    """Return the records of what began a call, and the rest.

    Where a dialog has INVITEs of both parties, that of the second is a re-INVITE, and not a call. A session that
    tells how long it lasts tells its beginning too.
    """
    first: dict[Tags, tuple[object, ...]] = {}
    for event in events:
        if event.kind in BEGINNINGS:
            tags = (event.from_tag, event.to_tag)
            claim = (CLAIMS.index(event.kind), event.at_us, event.from_tag)
            first[tags] = min(first.get(tags, claim), claim)
    beginnings: list[AccountingEvent] = []
    others: list[AccountingEvent] = []
    for event in events:
        if event.kind in BEGINNINGS:
            tags, reverse = (event.from_tag, event.to_tag), (event.to_tag, event.from_tag)
            is_reply = all(tags) and reverse in first and first[reverse] < first[tags]
        else:
            implied = event.kind in (EventKind.STOP, EventKind.INTERIM) and told_ms(event) is not None
            is_reply = not (event.is_session and implied)
        (others if is_reply else beginnings).append(event)
    return beginnings, others


def _began_us(event: AccountingEvent) -> int:
    return event.at_us if event.kind in BEGINNINGS else event.at_us - (told_ms(event) or 0) * 1000


class _Finder:
    """Find the caller's tag of the call that an event belongs to; None if it cannot be told."""

    def __init__(self, beginnings: Iterable[AccountingEvent]) -> None:
        self.dialogs = {(event.from_tag, event.to_tag) for event in beginnings}
        self.callers = {caller for caller, _ in self.dialogs}
        self.callees: dict[str, set[str]] = {}
        for caller, callee in self.dialogs:
            self.callees.setdefault(callee, set()).add(caller)

    def __call__(self, event: AccountingEvent) -> str | None:
        tags = (event.from_tag, event.to_tag)
        if all(tags):
            if tags in self.dialogs:
                return event.from_tag
            if tags[::-1] in self.dialogs:
                return event.to_tag
        named = [tag for tag in tags if tag]
        for tag in named:
            if tag in self.callers:
                return tag
        candidates = set().union(*(self.callees.get(tag, ()) for tag in named)) if named else self.callers
        return next(iter(candidates)) if len(candidates) == 1 else None


def _calls_of(
    caller: str,
    beginnings: list[AccountingEvent],
    others: list[AccountingEvent],
    reboots: Sequence[int],
    limits: PairingLimits,
) -> list[Evidence]:
    """Return the calls of one caller's tag: more than one if the key was used again."""
    beginnings = sorted(beginnings, key=lambda event: (_began_us(event), in_order(event)))
    everything = beginnings + others
    parts: list[list[AccountingEvent]] = [beginnings[:1]]
    for index, event in enumerate(beginnings[1:], 1):
        is_new = _is_reuse(event, parts[-1], beginnings[:index], everything, reboots, limits)
        if is_new:
            parts.append([event])
        else:
            parts[-1].append(event)
    homes: list[list[AccountingEvent]] = [[] for _ in parts]
    for event in others:
        homes[_home(event, caller, parts)].append(event)
    calls = []
    for part, home in zip(parts, homes, strict=True):
        implied = [event for event in part if event.kind not in BEGINNINGS]
        told = tuple(sorted((event for event in part if event.kind in BEGINNINGS), key=in_order))
        calls.append(Evidence(caller, told, tuple(sorted(home + implied, key=in_order))))
    return calls


def _home(event: AccountingEvent, caller: str, parts: list[list[AccountingEvent]]) -> int:
    """Return which of the calls under one key an event falls into: the last one that had begun by then."""
    if len(parts) == 1:
        return 0
    own = [i for i, part in enumerate(parts) if any(is_exact(event, caller, b.to_tag) for b in part)]
    candidates = own or range(len(parts))
    begun = [i for i in candidates if _began_us(parts[i][0]) <= event.at_us]
    return begun[-1] if begun else candidates[0]


def _is_reuse(
    event: AccountingEvent,
    call: list[AccountingEvent],
    earlier: Sequence[AccountingEvent],
    everything: Sequence[AccountingEvent],
    reboots: Sequence[int],
    limits: PairingLimits,
) -> bool:
    """Return whether `event` begins a new call after `call`, whose key it bears."""
    began_us = _began_us(event)
    if event.leg:  # the id of a call through gateways is never used again
        return is_next_call(event, call, began_us)
    answered = {b.to_tag for b in call if b.kind is not EventKind.FAILED}
    if not answered:
        failed_us = max(b.at_us for b in call)
        if event.created_us is not None:  # it says when its INVITE came
            return event.created_us > failed_us and began_us > failed_us + limits.reuse_gap_us
        gap_us = max(limits.reuse_gap_us, RINGING_MAX_US)  # the next branch may have rung for so long
        return began_us > failed_us + gap_us and not _is_repeat(event, earlier)
    seen_us = _last_seen_us(call, everything, began_us)
    if event.is_session and any(seen_us < reboot <= began_us for reboot in reboots):
        return True
    if _is_repeat(event, earlier):
        return False
    ends = []
    for to_tag in answered:
        end_us = _recorded_end_us(call, to_tag, everything, began_us)
        if end_us is None and _is_other_session(event, call, everything):
            return True
        if end_us is None:  # silent for so long that it was closed without an end
            end_us = seen_us + limits.max_age_us
        ends.append(end_us)
    if event.is_session and event.kind is EventKind.COMPLETE and all(b.kind is EventKind.COMPLETE for b in call):
        return began_us >= max(ends) > _began_us(call[0])  # CDRs of one channel, one after the other: a transfer
    return began_us > max(ends) + limits.reuse_gap_us


def _is_other_session(
    event: AccountingEvent,
    call: Iterable[AccountingEvent],
    everything: Iterable[AccountingEvent],
) -> bool:
    """Return whether a NAS gave an id again though the end of the call before was not reported.

    A Start later than its Starts shows it if it names others, or if a record tells that it began with it; a record of
    how long the call lasted shows it by itself. By one reporter's own times only.
    """
    own = [other for other in call if other.timed and reporter(other) == reporter(event)]
    began_us = _began_us(event)
    if not (event.is_session and event.timed and own) or began_us <= max(map(_began_us, own)) + APART_US:
        return False
    if event.kind is EventKind.START:
        named = [other for other in own if other.caller_uri or other.called_uri]
        is_others = event.caller_uri or event.called_uri
        if is_others and named and all(_parties(other) != _parties(event) for other in named):
            return True
        told = [e for e in everything if e.kind in LENGTHS and e.timed and told_ms(e) is not None]
        return any(abs(_began_us(e) - began_us) <= APART_US for e in told if reporter(e) == reporter(event))
    return event.kind in LENGTHS


def _parties(event: AccountingEvent) -> tuple[str, str]:
    return event.caller_uri, event.called_uri


def _is_repeat(event: AccountingEvent, earlier: Iterable[AccountingEvent]) -> bool:
    """Return whether a report without a time of its own only says again what was said before."""
    return not event.timed and any(same_but_time(event, other) for other in earlier)


def _last_seen_us(call: list[AccountingEvent], everything: Iterable[AccountingEvent], before_us: int) -> int:
    start_us = _began_us(call[0])
    seen = [b.at_us for b in call if b.at_us <= before_us]
    alive = (EventKind.INTERIM, EventKind.MEDIA, *BEGINNINGS)
    seen += [e.at_us for e in everything if e.kind in alive and start_us <= e.at_us < before_us]
    return max(seen, default=start_us)


def _recorded_end_us(
    call: list[AccountingEvent], to_tag: str, everything: Iterable[AccountingEvent], before_us: int
) -> int | None:
    """Return when a dialog ended, of what is dated before the next beginning; None if nothing tells."""
    caller, start_us = call[0].from_tag, _began_us(call[0]) - CLOCK_SLACK_US
    ends = [
        event.at_us
        for event in everything
        if event.kind is EventKind.STOP and start_us <= event.at_us <= before_us and matches(event, caller, to_tag)
    ]
    for event in call:
        told = told_ms(event)
        if event.kind is EventKind.COMPLETE and event.to_tag == to_tag and told is not None:
            ends.append(event.at_us + told * 1000)
    return min(ends, default=None)


def _without_unanswered_stops(evidence: Evidence) -> tuple[Evidence, list[AccountingEvent]]:
    """Take from a failed call the BYEs of dialogs that did not fail: they are of an answer that was not reported."""
    if any(b.kind in ANSWERS for b in evidence.beginnings) or not evidence.beginnings:
        return evidence, []
    failed = {b.to_tag for b in evidence.beginnings}
    lost = [
        event
        for event in evidence.others
        if event.kind is EventKind.STOP
        and event.from_tag
        and event.to_tag
        and not any(is_exact(event, evidence.caller_tag, to_tag) for to_tag in failed)
    ]
    rest = tuple(event for event in evidence.others if event not in lost)
    return evidence._replace(others=rest), lost


def _orphans(events: Iterable[AccountingEvent]) -> list[Evidence]:
    """Return calls without a beginning: events that share a tag are of one; those without tags, of one or their own."""
    groups: list[tuple[set[str], list[AccountingEvent]]] = []
    tagless: list[AccountingEvent] = []
    for event in sorted(events, key=in_order):
        tags = {tag for tag in (event.from_tag, event.to_tag) if tag}
        if not tags:
            tagless.append(event)
            continue
        joined = [event]
        for group in [group for group in groups if group[0] & tags]:
            groups.remove(group)
            tags |= group[0]
            joined += group[1]
        groups.append((tags, joined))
    if tagless:
        if len(groups) == 1:
            groups[0][1].extend(tagless)
        else:
            groups.append((set(), tagless))
    orphans = []
    for _, group_events in groups:
        ordered = tuple(sorted(group_events, key=in_order))
        orphans.append(Evidence(ordered[0].from_tag, (), ordered))
    return orphans
