"""What pairing knows of one call: its events, sorted by what they can prove, and the limits of the rules.

Nothing here decides how a call ended; cdr.pairing_ends does. Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
CLOCK_SLACK_US = 2 * SECOND_US  # reports are dated in whole seconds: two of one instant may differ by this
DURATION_MAX_MS = 30 * 86_400_000  # longer is no call but a clock that jumped (a uint32 wraps at 49.7 days)
APART_US = HOUR_US  # by this a session's Start may lie before what its length is counted from: ringing, a voice menu
RINGING_MAX_US = 180 * SECOND_US  # a proxy lets a branch ring for so long (RFC 3261 16.6, Timer C)

BEGINNINGS = frozenset((EventKind.START, EventKind.FAILED, EventKind.COMPLETE))  # records of an INVITE
ANSWERS = frozenset((EventKind.START, EventKind.COMPLETE))
UNPAIRED = frozenset((EventKind.OTHER, EventKind.NAS_ON, EventKind.NAS_OFF))


class PairingLimits(NamedTuple):
    """`[pairing]` of the settings, in microseconds."""

    max_age_us: int = 86_400 * SECOND_US
    stop_grace_us: int = 300 * SECOND_US
    media_grace_us: int = 60 * SECOND_US
    reuse_gap_us: int = 60 * SECOND_US
    media_gap_us: int = 120 * SECOND_US  # 0: a BYE counts, however long the media were dead


class Evidence(NamedTuple):
    """The events of one call. `beginnings` is empty for an orphan, whose beginning nobody reported."""

    caller_tag: str
    beginnings: tuple[AccountingEvent, ...]  # START, FAILED, COMPLETE as the caller sent the INVITE
    others: tuple[AccountingEvent, ...]  # the rest, with INVITEs that were sent in the middle of the call


def content(event: AccountingEvent) -> tuple[object, ...]:
    """Return what the source said: all but position, arrival, version of the settings and oddities."""
    return event[1:3] + event[5:-1]


def in_order(event: AccountingEvent) -> tuple[int, str]:
    """Sort by time, then by content: never by arrival."""
    return event.at_us, repr(content(event))


def same_but_time(one: AccountingEvent, other: AccountingEvent) -> bool:
    """Return whether both say the same, perhaps at different times."""
    return one.kind == other.kind and one[5:-1] == other[5:-1]


def told_ms(event: AccountingEvent) -> int | None:
    """Return the duration that the record tells, None if it tells none or an absurd one."""
    told = event.duration_ms
    return told if told is not None and 0 <= told <= DURATION_MAX_MS else None


def told_began_us(event: AccountingEvent) -> int | None:
    """Return when the call began, if an event that is not of its beginning tells: to the second."""
    told = told_ms(event)
    return None if told is None else (event.at_us - told * 1000) // SECOND_US * SECOND_US


def reporter(event: AccountingEvent) -> tuple[str, str]:
    """Return whose clock dated the event: client and NAS, for one client entry may stand for several hosts."""
    return event.source, event.nas


def strength(event: AccountingEvent) -> tuple[int, bool, str, str]:
    """Sort by how much the reporter's word weighs: rank first, then inner sources, then names."""
    return event.rank, event.role == "egress", event.source, event.nas


def by_reporter(events: Iterable[AccountingEvent]) -> list[list[AccountingEvent]]:
    """Return the events of each reporter in order, the strongest reporter first."""
    groups: dict[tuple[str, str], list[AccountingEvent]] = {}
    for event in events:
        groups.setdefault(reporter(event), []).append(event)
    for group in groups.values():
        group.sort(key=in_order)
    return sorted(groups.values(), key=lambda group: min(map(strength, group)))


def distinct(events: Sequence[AccountingEvent]) -> tuple[list[AccountingEvent], list[int]]:
    """Return the events that say something of their own, in order, and the positions of the others.

    For each key the best event by a total order is kept. So the result for a whole is that of its parts' results,
    which makes pairing independent of order and batch borders.
    """
    best: dict[tuple[object, ...], AccountingEvent] = {}
    dropped: list[int] = []
    for event in events:
        key = _identity(event)
        rival = best.setdefault(key, event)
        if rival.ref == event.ref:
            continue
        if _is_preferred(event, rival):
            best[key] = event
            dropped.append(rival.ref)
        else:
            dropped.append(event.ref)
    return sorted(best.values(), key=in_order), sorted(dropped)


def _identity(event: AccountingEvent) -> tuple[object, ...]:
    if event.kind is EventKind.INTERIM:  # only that the call still lived then can matter: the latest tells all
        tags = (event.from_tag, event.to_tag) if event.from_tag < event.to_tag else (event.to_tag, event.from_tag)
        return (event.kind, *tags, event.source, event.nas, *_call_of(event))
    if event.kind is EventKind.OPERATOR:  # the last word counts, so saying it again later is a word of its own
        return event.received_us, *content(event)
    return content(event)


def _call_of(event: AccountingEvent) -> tuple[object, ...]:
    """Return what tells an interim update's call from others of its id: its beginning, else the hour; the parties.

    An id is used again: the update of a later session must not take the place of an earlier one's, all that may be
    left of it.
    """
    began_us = told_began_us(event)
    when = (True, event.at_us // HOUR_US) if began_us is None else (False, began_us)
    return *when, *sorted((event.caller_uri, event.called_uri)), event.translated_uri, event.auth_user


def _is_preferred(event: AccountingEvent, rival: AccountingEvent) -> bool:
    if event.at_us != rival.at_us:  # interim updates
        return event.at_us > rival.at_us
    return _preference(event) < _preference(rival)


def _preference(event: AccountingEvent) -> tuple[object, ...]:
    return repr(content(event)), event.source_id, event.flags, event.ref
