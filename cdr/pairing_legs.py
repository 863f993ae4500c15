"""The legs of one call through gateways -> the one record that counts, with both ends of the call in it.

A gateway reports each leg for itself: the one that came in (answer) and the one that it made (originate), two gateways
four. Which call a leg is of is known by then; nothing here decides how the call ended. Pure: no I/O, no clock.
"""

from collections.abc import Sequence

from accounting.event import AccountingEvent, EventKind
from cdr.pairing_evidence import Evidence, in_order, reporter, same_but_time, strength, told_ms

_ANSWER, _ORIGINATE = "answer", "originate"
_KINDS = (EventKind.COMPLETE, EventKind.START, EventKind.FAILED)  # what ends the call first


def join_legs(evidence: Evidence) -> Evidence:
    """Return the evidence with one record in the place of all its legs; the other legs only say that they were.

    Times and outcome are those of the leg that goes out, the last of a chain; the caller is who the first leg that
    came in names. A call whose every outgoing leg failed was not answered, even if its caller heard an announcement.
    """
    legs = [event for event in evidence.beginnings if event.leg]
    if len(legs) < 2:
        return evidence
    counting = _counting(legs)
    came_in = [event for event in legs if event.leg == _ANSWER]
    joined = _joined(counting, min(came_in, key=_first_in)) if came_in else counting
    attempts = []
    if counting.kind is not EventKind.FAILED:
        attempts = [event for event in legs if event.kind is EventKind.FAILED and event is not counting]
    beside = [event for event in legs if event is not counting and event not in attempts]
    told = [event for event in evidence.beginnings if not event.leg]
    return Evidence(
        evidence.caller_tag,
        tuple(sorted([joined, *attempts, *told], key=in_order)),
        tuple(sorted([*evidence.others, *beside], key=in_order)),
    )


def is_next_call(event: AccountingEvent, call: Sequence[AccountingEvent], began_us: int) -> bool:
    """Return whether a leg begins another call of the same caller's: one that goes out after another's end.

    So a calling card, or a transfer, shows it. By one gateway's clock only: another's may run ahead. A report without
    a time of its own may only say again, later, what was said before.
    """
    if event.leg != _ORIGINATE or event.kind is EventKind.FAILED:
        return False
    if not event.timed and any(same_but_time(event, other) for other in call):
        return False
    ends = [
        other.at_us + (told_ms(other) or 0) * 1000
        for other in call
        if other.leg == _ORIGINATE and other.kind is EventKind.COMPLETE and reporter(other) == reporter(event)
    ]
    return bool(ends) and began_us >= max(ends)


def _counting(legs: Sequence[AccountingEvent]) -> AccountingEvent:
    going_out = [event for event in legs if event.leg == _ORIGINATE]
    if going_out and all(event.kind is EventKind.FAILED for event in going_out):
        return min(going_out, key=lambda event: (strength(event)[:2], -event.at_us, in_order(event)))
    for kind in _KINDS:
        for origin in (_ORIGINATE, _ANSWER):
            found = [event for event in legs if event.kind is kind and event.leg == origin]
            if found:
                return min(found, key=_last_out)
    raise AssertionError(legs)


def _last_out(event: AccountingEvent) -> tuple[object, ...]:
    """Sort by rank; then the longest chain of gateways first, for each sets up its leg after the one before it."""
    failed_us = event.at_us if event.kind is EventKind.FAILED else 0
    return strength(event)[:2], -failed_us, -(event.created_us or 0), in_order(event)


def _first_in(event: AccountingEvent) -> tuple[object, ...]:
    return strength(event)[:2], event.created_us is None, event.created_us or 0, in_order(event)


def _joined(counting: AccountingEvent, first: AccountingEvent) -> AccountingEvent:
    """Return the counting leg with the parties of the first: who called, what was dialled, whose settings count."""
    joined = counting._replace(
        source_id=first.source_id,
        source=first.source,
        rank=first.rank,
        role=first.role,
        nas=first.nas,
        caller_uri=first.caller_uri or counting.caller_uri,
        called_uri=first.called_uri or counting.called_uri,
        auth_user=first.auth_user or counting.auth_user,
        billing_party=first.billing_party or counting.billing_party,
        from_user=first.from_user or counting.from_user,
        source_ip=first.source_ip,
        source_is_own=first.source_is_own,
        flags=tuple(sorted({*counting.flags, *first.flags})),
    )
    is_one_clock = reporter(first) == reporter(counting)
    if first.created_us is None or not is_one_clock or first.created_us > counting.at_us:
        return joined
    is_answered = counting.kind is not EventKind.FAILED
    setup_ms = (counting.at_us - first.created_us) // 1000 if is_answered else None
    return joined._replace(created_us=first.created_us, setup_ms=setup_ms)
