"""All events of one group key -> its calls: CDRs, calls still open, exceptions, and the events that said nothing new.

A function of the set of events and of `now`: order, repeats and batch borders cannot matter. Pure: no I/O, no clock.
docs/decisions/pairing.md tells what was decided where the design is silent.
"""

from collections.abc import Sequence

from accounting.event import AccountingEvent, EventKind, group_key
from cdr.call import Call, CallState, PairedGroup
from cdr.pairing_calls import answer_code, call_of, disposition_of, setup_of
from cdr.pairing_ends import side_of
from cdr.pairing_evidence import (
    BEGINNINGS,
    DURATION_MAX_MS,
    UNPAIRED,
    Evidence,
    PairingLimits,
    distinct,
    in_order,
    reporter,
)
from cdr.pairing_split import split_calls

__all__ = ["PairingLimits", "disposition_of", "pair_group"]


def pair_group(
    events: Sequence[AccountingEvent],
    *,
    now_us: int,
    reboots: Sequence[int] = (),
    limits: PairingLimits | None = None,
) -> PairedGroup:
    """Return the calls of one group key, in order of time, and the positions of the events that need not be kept.

    `events` are all that are kept of the key and all that are new; `reboots` the times (us) of NAS_ON and NAS_OFF of
    their NAS. Every event is in exactly one call or among the duplicates. An open call tells the instant at which it
    changes if nothing comes.
    """
    limits = limits or PairingLimits()
    if len(events) == 2 and not reboots and (call := _plain_call(events[0], events[1], limits)):
        return PairedGroup((call,), ())
    if len(events) == 1 and events[0].kind in BEGINNINGS:
        only = Evidence(events[0].from_tag, tuple(events), ())
        return PairedGroup((call_of(only, now_us, reboots, limits),), ())
    assert not any(event.kind in UNPAIRED for event in events)
    kept, duplicates = distinct(events)
    found = sorted(split_calls(kept, reboots, limits), key=_first_of)
    return PairedGroup(tuple(call_of(call, now_us, reboots, limits) for call in found), tuple(duplicates))


def _first_of(evidence: Evidence) -> tuple[object, ...]:
    return min(map(in_order, (*evidence.beginnings, *evidence.others)))


# ---- nine calls of ten: one Start, one Stop


def _plain_call(start: AccountingEvent, stop: AccountingEvent, limits: PairingLimits) -> Call | None:
    """Return the call of one Start and its Stop, None if it is not as plain as that.

    Gives what the general way gives, without looking for what cannot be there.
    """
    if start.kind is EventKind.STOP:
        start, stop = stop, start
    if start.kind is not EventKind.START or stop.kind is not EventKind.STOP:
        return None
    lasted_us, caller, callee = stop.at_us - start.at_us, start.from_tag, start.to_tag
    tags = stop.from_tag, stop.to_tag
    if start.source_is_own or not 0 <= lasted_us <= DURATION_MAX_MS * 1000:
        return None
    if reporter(start) != reporter(stop) or start.is_session != stop.is_session or start.call_id != stop.call_id:
        return None
    if start.is_session:
        if caller or callee or any(tags):
            return None
    elif not (caller and callee and caller != callee) or (tags != (caller, callee) and tags != (callee, caller)):
        return None
    if stop.duration_ms is not None:
        unexplained_us = lasted_us - stop.duration_ms * 1000
        if stop.duration_ms < 0 or not 0 <= unexplained_us <= limits.max_age_us:
            return None
        lasted_us = stop.duration_ms * 1000
    answered_us = start.at_us
    created_us, setup_ms = setup_of(answered_us, (start,))
    return Call(
        CallState.CLOSED,
        group_key(start),
        start.call_id,
        caller,
        callee,
        start.source_id,
        start.source,
        start.role,
        start.nas,
        (start.ref, stop.ref) if start.ref < stop.ref else (stop.ref, start.ref),
        0,
        start.caller_uri,
        start.called_uri,
        start.translated_uri,
        start.auth_user,
        start.billing_party,
        start.from_user,
        start.source_ip,
        "",
        "",
        "",
        created_us,
        answered_us,
        answered_us + lasted_us,
        stop.at_us,
        setup_ms,
        lasted_us // 1000,
        "answered",
        answer_code(start),
        "bye",
        side_of(stop, caller, callee, start),
        (),
        tuple(sorted({*start.flags, *stop.flags})) if start.flags or stop.flags else (),
    )
