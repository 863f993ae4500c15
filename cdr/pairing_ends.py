"""When and how an answered dialog ended: the best evidence that there is at this time.

Decides nothing about parties or about which of several dialogs counts. Pure: no I/O; `now` is an argument.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind
from cdr.pairing_evidence import (
    CLOCK_SLACK_US,
    DURATION_MAX_MS,
    HOUR_US,
    SECOND_US,
    PairingLimits,
    by_reporter,
    content,
    in_order,
    reporter,
    strength,
    told_ms,
)

DISAGREE_MS = 2_500  # reports in whole seconds of one call differ by up to this
NO_MEDIA_END = "ICE session"  # the media went past the relay: their end is not known
HOLD_US = 10 * SECOND_US  # media that stop so soon after a re-INVITE are on hold, not dead
MEDIA_GAP = "media_gap"  # a flag: the media were dead long before the BYE, and their end counts


class Answer(NamedTuple):
    """One reporter's word on the answer, from its outer pass."""

    at_us: int
    record: AccountingEvent  # the INVITE's record; a Stop or interim update if there is none


class Dialog(NamedTuple):
    """An answered dialog. Each list in `stops` is taken only if the ones before it end nothing."""

    caller_tag: str
    to_tag: str
    answers: tuple[Answer, ...]  # strongest first, at least one
    completes: tuple[AccountingEvent, ...]  # outer passes, one of each reporter
    stops: tuple[
        Sequence[AccountingEvent], Sequence[AccountingEvent], Sequence[AccountingEvent]
    ]  # exact, open, other tag
    media: Sequence[AccountingEvent]
    corrections: Sequence[AccountingEvent]
    seen_us: int  # the last sign of life within the dialog
    signalled_us: int  # the last re-INVITE or update within it, 0 without any


class End(NamedTuple):
    """How a dialog stands: ended (`cause`), open (`due_us`), or without a possible end (`problem`)."""

    answered_us: int
    ended_us: int | None = None
    duration_ms: int = 0
    cause: str = ""
    released_by: str = "unknown"
    flags: tuple[str, ...] = ()
    problem: str = ""
    due_us: int | None = None
    record: AccountingEvent | None = None  # what told it


class _Candidate(NamedTuple):
    order: tuple[object, ...]
    end: End
    is_mixed: bool


def end_of(dialog: Dialog, now_us: int, reboots: Sequence[int], limits: PairingLimits) -> End:
    """Return how the dialog stands at `now_us`, by the order of design.md section 5."""
    answered_us = dialog.answers[0].at_us
    problems: list[str] = []
    end = _corrected(dialog, problems)
    if end is None and (reported := _reported(dialog, problems)):
        end = _before_dead_media(dialog, reported, limits) or reported
    end = end or _media_end(dialog, now_us, limits) or _reboot_end(dialog, reboots, limits)
    if end is None and problems:
        return End(answered_us, problem=min(problems, key=lambda code: (code != "negative_duration", code)))
    if end is None:
        due_us = dialog.seen_us + limits.max_age_us
        if now_us < due_us:
            return End(answered_us, due_us=due_us)
        end = End(answered_us, cause="max_age", released_by="system")
    if problems:
        end = end._replace(flags=(*end.flags, "absurd_evidence"))
    return end


def _corrected(dialog: Dialog, problems: list[str]) -> End | None:
    """Return the end that an operator gave: the latest word counts."""
    if not dialog.corrections:
        return None
    last = max(dialog.corrections, key=lambda event: (event.received_us, event.reason, in_order(event)))
    answered_us = dialog.answers[0].at_us
    problem = _absurd(last.at_us - answered_us)
    if problem:
        problems.append(problem)
        return None
    return _ended(answered_us, max(0, last.at_us - answered_us), "operator", "system", last)


def _reported(dialog: Dialog, problems: list[str]) -> End | None:
    """Return the end by BYE, Stop or complete record: of one clock before two, then by rank, then Stop first.

    Of one reporter that wrote both, the complete record counts: it has the milliseconds.
    """
    candidates: list[_Candidate] = []
    for tier, stops in enumerate(dialog.stops):
        if not candidates:
            candidates += [found for group in by_reporter(stops) if (found := _stopped(dialog, group, tier, problems))]
    stopped = {reporter(found.end.record) for found in candidates if found.end.record}
    for record in dialog.completes:
        if record.duration_ms is None:
            continue
        if told_ms(record) is None:
            problems.append("negative_duration" if record.duration_ms < 0 else "absurd_duration")
            continue
        end = _ended(record.at_us, record.duration_ms * 1000, "complete", "unknown", record)
        weight = -1 if reporter(record) in stopped else 1
        rank, *rest = strength(record)
        candidates.append(_Candidate((0, False, rank, weight, *rest), end, False))
    if not candidates:
        return None
    best = min(candidates, key=lambda found: found.order)
    own_clock = [found.end.duration_ms for found in candidates if not found.is_mixed]
    if own_clock and max(own_clock) - min(own_clock) > DISAGREE_MS:
        return best.end._replace(flags=(*best.end.flags, "sources_disagree"))
    return best.end


def _stopped(dialog: Dialog, stops: list[AccountingEvent], tier: int, problems: list[str]) -> _Candidate | None:
    """Return the end by the first possible Stop of one reporter, counted from its own answer if it gave one."""
    own = [answer for answer in dialog.answers if reporter(answer.record) == reporter(stops[0])]
    answer = own[0] if own else dialog.answers[0]
    is_implied = answer.record.kind in (EventKind.STOP, EventKind.INTERIM)
    for stop in stops:
        told = told_ms(stop)
        flags: tuple[str, ...] = ("tag_mismatch",) if tier == 2 else ()
        rank, *rest = strength(stop)
        if told is not None:
            answered_us = stop.at_us - told * 1000 if is_implied else answer.at_us
            end = _ended(answered_us, told * 1000, "bye", _released_by(stops, stop, dialog, answer.record), stop)
            return _Candidate((tier, False, rank, 0, *rest), end._replace(flags=flags), False)
        lasted_us = stop.at_us - answer.at_us
        if lasted_us < -CLOCK_SLACK_US and "ambiguous_hour" in stop.flags and lasted_us >= -HOUR_US:
            lasted_us += HOUR_US  # its local time came twice that night: it was the second time
        problem = _absurd(lasted_us)
        if problem:
            problems.append(problem)
            continue
        flags += () if own else ("two_clocks",)
        flags += ("stop_before_start",) if lasted_us < 0 else ()
        end = _ended(answer.at_us, max(0, lasted_us), "bye", _released_by(stops, stop, dialog, answer.record), stop)
        return _Candidate((tier, not own, rank, 0, *rest), end._replace(flags=flags), not own)
    return None


def _media_end(dialog: Dialog, now_us: int, limits: PairingLimits) -> End | None:
    """Return the end of the media, once no BYE came within the grace time: a BYE and a media report race."""
    answer = dialog.answers[0]
    for group in by_reporter(event for event in dialog.media if _tells_end(event)):
        updates = _updates(group)
        last_us = max(event.at_us for event in updates)
        if dialog.seen_us > max(last_us, group[-1].at_us) + CLOCK_SLACK_US:
            continue  # the call went on
        end = _ended_by_media(answer.at_us, answer.record, updates, group[-1])
        if end is None:
            continue
        due_us = last_us + limits.media_grace_us
        return End(answer.at_us, due_us=due_us) if now_us < due_us else end
    return None


def _before_dead_media(dialog: Dialog, reported: End, limits: PairingLimits) -> End | None:
    """Return the end of the media if all had timed out long before the BYE: a proxy's at dialog timeout.

    Not if any report says that media ended otherwise or that the relay never saw them, nor where the call may have
    been on hold: a re-INVITE just before the silence, or during it.
    """
    if not limits.media_gap_us or not dialog.media or reported.ended_us is None:
        return None
    if not all(_tells_end(event) and event.media_info.lower() == "timeout" for event in dialog.media):
        return None
    answer = next((a for a in dialog.answers if a.at_us == reported.answered_us), dialog.answers[0])
    ends = [
        _ended_by_media(reported.answered_us, answer.record, _updates(group), group[-1])
        for group in by_reporter(dialog.media)
    ]
    told = [(end.ended_us, end) for end in ends if end is not None and end.ended_us is not None]
    if len(told) < len(ends):
        return None
    media_us, end = max(told, key=lambda one: one[0])
    if media_us + limits.media_gap_us >= reported.ended_us or dialog.signalled_us > media_us - HOLD_US:
        return None
    return end._replace(flags=(*end.flags, MEDIA_GAP))


def _tells_end(event: AccountingEvent) -> bool:
    """Return whether a media report tells when the media ended."""
    return event.media_info != NO_MEDIA_END and (event.ended_us is not None or told_ms(event) is not None)


def _updates(group: Iterable[AccountingEvent]) -> list[AccountingEvent]:
    """Return one reporter's words on the media; a repeat without a time of its own is no second stream."""
    updates: dict[tuple[object, ...], AccountingEvent] = {}
    for event in group:
        updates.setdefault(content(event) if event.timed else content(event)[2:], event)
    return list(updates.values())


def _ended_by_media(
    answered_us: int, answer: AccountingEvent, updates: Sequence[AccountingEvent], last: AccountingEvent
) -> End | None:
    """Return the end at the last instant that one reporter dates, else by the sum of the durations it tells."""
    instants = [event.ended_us for event in updates if event.ended_us is not None]
    lasted_us = max(instants) - answered_us if instants else sum(told_ms(event) or 0 for event in updates) * 1000
    if _absurd(lasted_us):
        return None
    end = _ended(answered_us, max(0, lasted_us), "media", "system", last)
    is_mixed = instants and reporter(last) != reporter(answer)
    return end._replace(flags=("two_clocks",)) if is_mixed else end


def _reboot_end(dialog: Dialog, reboots: Sequence[int], limits: PairingLimits) -> End | None:
    """Return the first restart of the NAS after the last sign of life; one after `max_age` ended nothing."""
    after = [at for at in reboots if dialog.seen_us < at <= dialog.seen_us + limits.max_age_us]
    if not after:
        return None
    answered_us = dialog.answers[0].at_us
    return _ended(answered_us, min(after) - answered_us, "nas_reboot", "system", None)


def _ended(answered_us: int, lasted_us: int, cause: str, by: str, record: AccountingEvent | None) -> End:
    return End(answered_us, answered_us + lasted_us, lasted_us // 1000, cause, by, record=record)


def _absurd(lasted_us: int) -> str:
    """Return what is wrong with a duration, '' if nothing is."""
    if lasted_us < -CLOCK_SLACK_US:
        return "negative_duration"
    return "absurd_duration" if lasted_us > DURATION_MAX_MS * 1000 else ""


def _released_by(
    stops: Iterable[AccountingEvent], deciding: AccountingEvent, dialog: Dialog, start: AccountingEvent
) -> str:
    """Return who hung up, from the first Stop; unknown if both did in the same instant."""
    sides = {side_of(stop, dialog.caller_tag, dialog.to_tag, start) for stop in stops if stop.at_us == deciding.at_us}
    return sides.pop() if len(sides) == 1 else "unknown"


def side_of(stop: AccountingEvent, caller_tag: str, to_tag: str, start: AccountingEvent) -> str:
    """Return who sent the BYE: caller, callee or unknown."""
    if not (stop.from_tag and stop.to_tag):
        return "unknown"
    if stop.from_tag == to_tag != caller_tag:
        return "callee"
    if stop.from_tag != caller_tag:
        return "unknown"
    # detect_direction=1 puts back the tags but leaves the parties as they were in the BYE
    party, caller = _party(stop), _party(start)
    if party and party != caller:
        is_theirs = party in (_address(start.called_uri), _address(start.translated_uri))
        if is_theirs or (caller and _address(stop.called_uri) == caller):
            return "callee"
    return "caller"


def _party(event: AccountingEvent) -> str:
    return _address(event.caller_uri or event.auth_user)


def _address(uri: str) -> str:
    """Return a SIP URI without its scheme and parameters."""
    return uri.partition(";")[0].removeprefix("sips:").removeprefix("sip:")
