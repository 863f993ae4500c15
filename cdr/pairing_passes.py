"""Which record of an INVITE names the parties, where a call passed the proxy more than once, and who forwarded it.

Says nothing of times and durations. Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind
from cdr.pairing_evidence import SECOND_US, in_order, told_ms

PASS_WINDOW_US = 4 * SECOND_US  # all passes are answered by one reply; what comes later is a re-INVITE


class Passes(NamedTuple):
    """The outer pass, which names the parties, and what the inner ones tell of a forwarding."""

    outer: AccountingEvent
    forwarder_uri: str = ""
    forwarded_to_uri: str = ""
    forwarded_via_uri: str = ""
    flags: tuple[str, ...] = ()


def passes_of(records: Sequence[AccountingEvent]) -> Passes:
    """Return the passes that one reporter saw of one answer. `records` are of one dialog and kind, in order."""
    if records[0].is_session and records[0].kind is EventKind.COMPLETE:  # a switch's CDRs of one time: the longest
        return Passes(min(records, key=lambda record: (-(told_ms(record) or 0), in_order(record))))
    first_us = records[0].at_us
    by_target: dict[tuple[str, str], AccountingEvent] = {}
    for record in records:
        if record.at_us <= first_us + PASS_WINDOW_US:
            by_target.setdefault((record.called_uri, record.source_ip), record)
    passes = list(by_target.values())
    if records[0].is_session or len(passes) == 1:
        return _single(passes[0])
    outside = [one for one in passes if not one.source_is_own]
    outer = _roots(outside or passes, passes)[0]
    chain, flags = _chain(outer, [one for one in passes if one is not outer])
    hops = [one for i, one in enumerate(chain) if i == 0 or not _same_user(one.called_uri, chain[i - 1].called_uri)]
    if not outside:
        flags = (*flags, "outer_pass_missing")
    if len(hops) == 1:
        return Passes(outer, flags=flags)
    if len(hops) > 2:
        flags = (*flags, "several_forwards")
    return Passes(outer, hops[-2].called_uri, hops[-1].called_uri, chain[-1].translated_uri, flags)


def _single(only: AccountingEvent) -> Passes:
    if not only.source_is_own or only.is_session:
        return Passes(only)
    if not only.divert_reason:  # it may as well be a loop
        return Passes(only, flags=("outer_pass_missing",))
    return Passes(only, "", only.called_uri, only.translated_uri, ("outer_pass_missing",))


def _roots(candidates: Sequence[AccountingEvent], passes: Sequence[AccountingEvent]) -> list[AccountingEvent]:
    """Return the candidates that no other pass led to, or all if each was led to."""
    led_to = [
        one
        for one in candidates
        if any(other is not one and other.translated_uri == one.called_uri for other in passes)
    ]
    return sorted((one for one in candidates if one not in led_to), key=in_order) or sorted(candidates, key=in_order)


def _chain(outer: AccountingEvent, inner: Iterable[AccountingEvent]) -> tuple[list[AccountingEvent], tuple[str, ...]]:
    """Return the passes in the way of the call. One that nothing links to the others is left out, unless it came from
    the proxy itself."""
    chain, rest, flags = [outer], sorted(inner, key=in_order), ()
    while rest:
        linked = [one for one in rest if one.called_uri == chain[-1].translated_uri]
        following = linked or [one for one in rest if one.source_is_own]
        if not following:
            return chain, ("passes_unlinked",)
        chain.append(following[0])
        rest.remove(following[0])
    return chain, flags


def _same_user(one: str, other: str) -> bool:
    return one.partition("@")[0] == other.partition("@")[0]
