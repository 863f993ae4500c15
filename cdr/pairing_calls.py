"""The call that one set of evidence makes: its parties, times and state.

Decides which of several dialogs counts; asks cdr.pairing_ends how each ended. Pure: no I/O; `now` is an argument.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind, group_key
from cdr.call import Call, CallState
from cdr.pairing_ends import MEDIA_GAP, Answer, Dialog, End, end_of
from cdr.pairing_evidence import (
    ANSWERS,
    CLOCK_SLACK_US,
    Evidence,
    PairingLimits,
    by_reporter,
    in_order,
    strength,
    told_ms,
)
from cdr.pairing_passes import Passes, passes_of
from cdr.pairing_split import is_exact, matches

SETUP_MAX_MS = 86_400_000  # a longer setup is a unix time in the wrong field (OpenSIPS, transaction mode)

DISPOSITIONS = {
    486: "busy", 600: "busy", 480: "unavailable", 487: "cancelled", 603: "declined",
    404: "not_found", 410: "not_found", 484: "not_found", 604: "not_found", 408: "no_answer",
}  # fmt: skip
ORPHAN_REASONS = {
    EventKind.STOP: "stop_without_start",
    EventKind.MEDIA: "media_without_start",
    EventKind.INTERIM: "interim_without_start",
    EventKind.OPERATOR: "correction_without_start",
}


class _Standing(NamedTuple):
    """An answered dialog, its parties and how it stands."""

    dialog: Dialog
    passes: Passes
    end: End


def call_of(evidence: Evidence, now_us: int, reboots: Sequence[int], limits: PairingLimits) -> Call:
    """Return what the evidence makes of the call at `now_us`."""
    failed = [event for event in evidence.beginnings if event.kind is EventKind.FAILED]
    if any(event.kind in ANSWERS for event in evidence.beginnings):
        return _answered_call(evidence, now_us, reboots, limits)
    implied = _implied_answers(evidence, is_failed=bool(failed))
    if implied:
        return _call_without_start(evidence, implied, now_us, reboots, limits)
    if failed:
        return _failed_call(evidence, failed)
    return _orphan(evidence, now_us, limits)


def disposition_of(sip_code: int | None) -> str:
    """Return the disposition of a call that was not answered (contracts.md)."""
    return DISPOSITIONS.get(sip_code or 0, "failed")


# ---- a call that was answered


def _answered_call(evidence: Evidence, now_us: int, reboots: Sequence[int], limits: PairingLimits) -> Call:
    to_tags = sorted({event.to_tag for event in evidence.beginnings if event.kind in ANSWERS})
    standings = []
    for to_tag in to_tags:
        dialog, passes = _dialog(evidence, to_tag, to_tags)
        standings.append(_Standing(dialog, passes, end_of(dialog, now_us, reboots, limits)))
    main, due_us = _counting(standings)
    extra = []
    if len(standings) > 1:
        extra.append("multi_answer")
        if due_us is None and main.end.cause:
            # a correction closes the call while others are open: what they will be if nothing comes, counts already
            others = [
                one.end if one.end.due_us is None else end_of(one.dialog, one.end.due_us, reboots, limits)
                for one in standings
                if one is not main
            ]
            extra += ["dialog_without_end"] if any(end.cause in ("", "max_age") for end in others) else []
    return _call(evidence, main.dialog, main.passes, main.end, due_us, extra)


def _dialog(evidence: Evidence, to_tag: str, answered: Sequence[str]) -> tuple[Dialog, Passes]:
    """Return what concerns one answered dialog, and the parties by the strongest reporter of it."""
    records = [e for e in evidence.beginnings if e.kind in ANSWERS and e.to_tag == to_tag]
    answers, completes, seen_passes = [], [], []
    for group in by_reporter(records):
        by_kind = [[e for e in group if e.kind is kind] for kind in (EventKind.START, EventKind.COMPLETE)]
        outer = [passes_of(same) for same in by_kind if same]
        answers.append(Answer(outer[0].outer.at_us, outer[0].outer))
        completes += [outer[-1].outer] if by_kind[1] else []
        seen_passes.append(outer[0])
    naming = min(seen_passes, key=lambda seen: _naming_order(seen.outer))
    own, open_, other = _tiers(evidence, to_tag, answered)
    stops = tuple([e for e in tier if e.kind is EventKind.STOP] for tier in (own, open_, other))
    ours = own + open_
    alive = [e for e in (*ours, *other) if e.kind not in (EventKind.STOP, EventKind.OPERATOR)]
    dialog = Dialog(
        evidence.caller_tag,
        to_tag,
        tuple(answers),
        tuple(completes),
        (stops[0], stops[1], stops[2]),
        [e for e in ours if e.kind is EventKind.MEDIA],
        [e for e in ours if e.kind is EventKind.OPERATOR],
        max(e.at_us for e in (*alive, *records)),
        max((e.at_us for e in alive if e.kind is not EventKind.MEDIA), default=0),
    )
    return dialog, naming


def _tiers(
    evidence: Evidence, to_tag: str, answered: Sequence[str]
) -> tuple[list[AccountingEvent], list[AccountingEvent], list[AccountingEvent]]:
    """Return the other events by how well they name the dialog: it, no dialog, or one that nobody reported."""
    tiers: tuple[list[AccountingEvent], ...] = ([], [], [])
    caller = evidence.caller_tag
    known = {event.to_tag for event in evidence.beginnings}
    for event in evidence.others:
        if is_exact(event, caller, to_tag):
            tiers[0].append(event)
        elif any(is_exact(event, caller, tag) for tag in known):
            continue  # of another dialog, answered or failed
        elif matches(event, caller, to_tag):
            tiers[1].append(event)
        elif len(answered) == 1:
            tiers[2].append(event)
    return tiers[0], tiers[1], tiers[2]


def _naming_order(record: AccountingEvent) -> tuple[object, ...]:
    """Sort by whose word on the parties counts: access sources first, then rank, then the outer one of two proxies."""
    rank, is_egress, *names = strength(record)
    return (is_egress, rank, record.source_is_own, *names)


def _counting(standings: Sequence[_Standing]) -> tuple[_Standing, int | None]:
    """Return the dialog that counts, and when to look again: the longest, once all have ended or are too old."""
    corrected = [one for one in standings if one.end.cause == "operator"]
    exact = [one for one in corrected if _is_named(one)]
    due = [one.end.due_us for one in standings if one.end.due_us is not None]
    if due and not corrected:
        return min(standings, key=lambda one: (one.end.answered_us, one.dialog.to_tag)), max(due)

    def weight(one: _Standing) -> tuple[bool, bool, int, int, str]:
        told = one.end.ended_us is not None
        return not told, not one.end.problem, -one.end.duration_ms, one.end.answered_us, one.dialog.to_tag

    return min(exact or corrected or standings, key=weight), None


def _is_named(one: _Standing) -> bool:
    record = one.end.record
    return record is not None and is_exact(record, one.dialog.caller_tag, one.dialog.to_tag)


def _call(
    evidence: Evidence, dialog: Dialog, passes: Passes, end: End, due_us: int | None, extra: Iterable[str] = ()
) -> Call:
    """Return an answered call: parties by `passes`, times by `end`."""
    party = passes.outer
    created_us, setup_ms = setup_of(end.answered_us, [party, *(answer.record for answer in dialog.answers)])
    if created_us is None:
        created_us = _first_attempt_us(evidence, end.answered_us)
    state = CallState.OPEN if due_us is not None else CallState.CLOSED if end.cause else CallState.EXCEPTION
    events = (*evidence.beginnings, *evidence.others)
    closed = state is CallState.CLOSED
    flags = {*party.flags, *passes.flags, *extra}
    if state is not CallState.OPEN:  # while a dialog is open, how another one ended says nothing yet
        flags.update(end.flags, end.record.flags if end.record else ())
    return party_of(party)._replace(
        state=state,
        from_tag=dialog.caller_tag,
        to_tag=dialog.to_tag,
        events=tuple(sorted(event.ref for event in events)),
        attempts=_attempts(evidence, dialog.to_tag),
        forwarder_uri=passes.forwarder_uri,
        forwarded_to_uri=passes.forwarded_to_uri,
        forwarded_via_uri=passes.forwarded_via_uri,
        started_us=created_us,
        answered_us=end.answered_us,
        ended_us=end.ended_us if closed else None,
        reported_us=_reported_us(events),
        setup_ms=setup_ms,
        duration_ms=end.duration_ms if closed else 0,
        disposition="answered",
        sip_code=answer_code(party),
        stop_cause=end.cause if closed else "",
        released_by=end.released_by if closed else "unknown",
        exceptions=("no_stop",) if closed and end.cause == "max_age" else (),
        flags=tuple(sorted(flags)),
        reason=end.problem if state is CallState.EXCEPTION else "",
        due_us=due_us,
    )


def setup_of(answered_us: int, records: Iterable[AccountingEvent]) -> tuple[int | None, int | None]:
    """Return when the INVITE came and how long the setup took, by the first record that tells."""
    created_us = setup_ms = None
    for record in records:
        if created_us is None and record.created_us is not None:
            created_us = record.created_us if 0 < record.created_us <= answered_us + CLOCK_SLACK_US else None
        if setup_ms is None and record.setup_ms is not None and 0 <= record.setup_ms <= SETUP_MAX_MS:
            setup_ms = record.setup_ms
    if created_us is None and setup_ms is not None:
        created_us = answered_us - setup_ms * 1000
    return created_us, setup_ms


def _first_attempt_us(evidence: Evidence, answered_us: int) -> int | None:
    """Return the time of the first failed branch before the answer: the INVITE came no later."""
    failed = [e.at_us for e in evidence.beginnings if e.kind is EventKind.FAILED and e.at_us <= answered_us]
    return min(failed, default=None)


def _attempts(evidence: Evidence, to_tag: str) -> int:
    """Return how many events are of failed branches and of other answered dialogs."""
    other_tags = {event.to_tag for event in evidence.beginnings} - {to_tag}
    beside = sum(e.kind is EventKind.FAILED or e.to_tag != to_tag for e in evidence.beginnings)
    return beside + sum(any(is_exact(e, evidence.caller_tag, tag) for tag in other_tags) for e in evidence.others)


def answer_code(record: AccountingEvent) -> int | None:
    """Return the code of the answer. A complete record has that of some other call (OpenSIPS, cdr mode)."""
    if record.sip_code is not None and 200 <= record.sip_code < 300:
        return record.sip_code
    return None if record.is_session else 200


def _reported_us(events: Sequence[AccountingEvent]) -> int:
    """Return the latest time that a source reported; a correction's time is the end that it gives."""
    told = [event.at_us for event in events if event.kind is not EventKind.OPERATOR]
    return max(told or [event.at_us for event in events])


# ---- a call whose beginning only its later records tell


def _implied_answers(evidence: Evidence, *, is_failed: bool) -> list[AccountingEvent]:
    """Return the records that tell how long the call has lasted: a beginning, if the one reported was lost."""
    kinds = (
        (EventKind.STOP, EventKind.INTERIM) if evidence.others and evidence.others[0].is_session else (EventKind.STOP,)
    )
    told = [e for e in evidence.others if e.kind in kinds and told_ms(e) is not None]
    if is_failed:  # a session that failed may report a Stop with time 0 beside
        told = [e for e in told if e.is_session and told_ms(e)]
    return told


def _call_without_start(
    evidence: Evidence, implied: Sequence[AccountingEvent], now_us: int, reboots: Sequence[int], limits: PairingLimits
) -> Call:
    """Return a call that begins where its Stop, or last interim update, says that it began."""
    stops = [event for event in implied if event.kind is EventKind.STOP]
    groups = by_reporter(stops) or by_reporter(implied)
    records = [group[0] if stops else group[-1] for group in groups]
    answers = tuple(Answer(record.at_us - (told_ms(record) or 0) * 1000, record) for record in records)
    others = evidence.others
    dialog = Dialog(
        "",
        records[0].to_tag,
        answers,
        (),
        ([e for e in others if e.kind is EventKind.STOP], [], []),
        [e for e in others if e.kind is EventKind.MEDIA],
        [e for e in others if e.kind is EventKind.OPERATOR],
        max((e.at_us for e in others if e.kind in (EventKind.INTERIM, EventKind.MEDIA)), default=answers[0].at_us),
        max((e.at_us for e in others if e.kind is EventKind.INTERIM), default=0),
    )
    end = end_of(dialog, now_us, reboots, limits)
    due_us = end.due_us
    if end.cause == "bye" or MEDIA_GAP in end.flags:  # the Start may only be late
        grace_us = min(e.at_us for e in others if e.kind is EventKind.STOP) + limits.stop_grace_us
        due_us = grace_us if now_us < grace_us else None
    if end.cause == "bye":  # by a Stop alone it cannot be told which of its tags is the caller's
        end = end._replace(released_by="unknown")
    party = min(records, key=_naming_order)
    call = _call(evidence, dialog, Passes(party), end, due_us, ["start_missing"])
    return call._replace(from_tag=party.from_tag, to_tag=party.to_tag)


# ---- a call that failed as a whole


def _failed_call(evidence: Evidence, failed: Sequence[AccountingEvent]) -> Call:
    """Return the CDR of a call that nobody answered, with the last code that the strongest reporter gave the caller."""
    words = by_reporter(failed)
    words.sort(key=lambda group: (all(e.sip_code is None for e in group), min(map(_naming_order, group))))
    records = [e for e in words[0] if not e.source_is_own] or words[0]
    last_us = max(e.at_us for e in records)
    deciding = min((e for e in records if e.at_us == last_us), key=_final_order)
    passes = passes_of(_passes_beside(words[0], deciding))
    party = passes.outer
    events = (*evidence.beginnings, *evidence.others)
    branches = {e.to_tag for e in failed} - {deciding.to_tag}
    of_branches = [e for e in evidence.others if any(is_exact(e, evidence.caller_tag, tag) for tag in branches)]
    flags = {*party.flags, *deciding.flags, *passes.flags}
    if any(e.kind is EventKind.OPERATOR for e in evidence.others):
        flags.add("correction_unused")
    created = [e.created_us for e in failed if e.created_us and e.created_us <= last_us + CLOCK_SLACK_US]
    return party_of(party)._replace(
        state=CallState.CLOSED,
        from_tag=evidence.caller_tag,
        to_tag=deciding.to_tag,
        events=tuple(sorted(event.ref for event in events)),
        attempts=sum(e.to_tag in branches for e in failed) + len(of_branches),
        forwarder_uri=passes.forwarder_uri,
        forwarded_to_uri=passes.forwarded_to_uri,
        forwarded_via_uri=passes.forwarded_via_uri,
        started_us=min(created, default=min(e.at_us for e in failed)),
        ended_us=last_us,
        reported_us=_reported_us(events),
        disposition=disposition_of(deciding.sip_code),
        sip_code=deciding.sip_code,
        flags=tuple(sorted(flags)),
    )


def _final_order(event: AccountingEvent) -> tuple[object, ...]:
    """Sort codes of one second as a proxy chooses: 6xx, then the lowest (RFC 3261 16.7). It makes 500 of a 503."""
    code = event.sip_code or 999
    return not 600 <= code < 700, code, in_order(event)


def _passes_beside(records: Sequence[AccountingEvent], deciding: AccountingEvent) -> list[AccountingEvent]:
    """Return the record that decides and the other passes of its moment; other branches of a pass are not of them."""
    own_target = (deciding.called_uri, deciding.source_ip)
    beside = [
        e
        for e in records
        if abs(e.at_us - deciding.at_us) <= CLOCK_SLACK_US and (e.called_uri, e.source_ip) != own_target
    ]
    return sorted([deciding, *beside], key=in_order)


# ---- what has no beginning


def _orphan(evidence: Evidence, now_us: int, limits: PairingLimits) -> Call:
    """Return an open call until the Start can hardly come any more, then an exception."""
    events = evidence.others
    reason_of = min(events, key=lambda event: (list(ORPHAN_REASONS).index(event.kind), in_order(event)))
    due_us = max(event.at_us for event in events) + limits.stop_grace_us
    is_open = now_us < due_us
    absurd = any(e.kind is EventKind.STOP and e.duration_ms is not None for e in events)
    reason = "absurd_duration" if absurd else ORPHAN_REASONS[reason_of.kind]
    if (
        "duration_includes_ringing" in reason_of.flags
    ):  # acc_cdrs: it ended then, but nothing tells when it was answered
        reason = "answer_unknown"
    return party_of(reason_of)._replace(
        state=CallState.OPEN if is_open else CallState.EXCEPTION,
        from_tag=reason_of.from_tag,
        to_tag=reason_of.to_tag,
        events=tuple(sorted(event.ref for event in events)),
        reported_us=_reported_us(events),
        flags=tuple(sorted(reason_of.flags)),
        reason="" if is_open else reason,
        due_us=due_us if is_open else None,
    )


def party_of(event: AccountingEvent) -> Call:
    """Return a call of which nothing is known but who took part."""
    return Call(
        CallState.OPEN,
        group_key(event),
        event.call_id,
        event.from_tag,
        event.to_tag,
        event.source_id,
        event.source,
        event.role,
        event.nas,
        (),
        0,
        event.caller_uri,
        event.called_uri,
        event.translated_uri,
        event.auth_user,
        event.billing_party,
        event.from_user,
        event.source_ip,
    )
