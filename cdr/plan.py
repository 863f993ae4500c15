"""What one batch will write, worked out before anything is written.

Pure: it is given the paired groups and what is stored of them, and adds up rows, marks and counts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from accounting.event import AccountingEvent, key_hash
from accounting.sources.uri import user_part
from cdr.call import Call, CallState, PairedGroup
from cdr.reconcile import Match, Stored, match
from cdr.settle import CdrRow, ChargeRow, digest, instant, pack_refs


class Closing(NamedTuple):
    """A closed call whose CDR is to be made."""

    id: int
    replaces: int  # the revision that it replaces; 0: none
    call: Call
    only_if_figures_differ: bool = False  # nothing new is known of the call, it is only rated again
    only_if_it_matters: bool = False  # another source's word on a call that has its CDR: no revision for a trifle


@dataclass(slots=True)
class Plan:
    """Rows and marks of one batch; lists of rows are in their table's column order."""

    rate_again: frozenset[int] = frozenset()  # CDRs to rate though nothing new is known of the call
    newest_us: int = 0  # of its events' own times; 0: there is none
    counts: Counter[str] = field(default_factory=Counter)
    offsets: dict[int, int] = field(default_factory=dict)
    open_gone: list[int] = field(default_factory=list)
    open_rows: list[tuple[Any, ...]] = field(default_factory=list)
    exceptions_gone: list[int] = field(default_factory=list)
    exception_rows: list[tuple[Any, ...]] = field(default_factory=list)
    quarantine_gone: list[int] = field(default_factory=list)
    quarantine_rows: list[tuple[Any, ...]] = field(default_factory=list)
    reboots: list[AccountingEvent] = field(default_factory=list)
    evidence: list[tuple[int, int, int, Sequence[int]]] = field(default_factory=list)
    superseded: list[tuple[int, int]] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    voids: list[tuple[int, int]] = field(default_factory=list)  # (cdr id, latest revision) to take back
    cdr_rows: list[CdrRow] = field(default_factory=list)
    charge_rows: list[ChargeRow] = field(default_factory=list)

    def add_group(
        self,
        stored: Sequence[Stored],
        arrived: int,
        others: int,
        paired: PairedGroup,
        now: datetime,
        *,
        sources: Mapping[int, str],
    ) -> None:
        """Add what changes for one group: `arrived` events are new, `others` turned out to be of no call.

        `sources` tells by position whose word each of the group's events is.
        """
        before = sum(len(s.refs) for s in stored) + arrived - others
        for s in stored:
            self.counts["events_open"] -= len(s.open_refs or ())
            self.counts["events_exception"] -= len(s.exception_refs or ())
            self.counts["events_used"] -= len(s.cdr_refs) - s.cdr_attempts
            self.counts["events_attempts"] -= s.cdr_attempts
        after = len(paired.duplicates)
        self.counts["events_duplicate"] += after
        for found in match(stored, paired.calls):
            told = found.call.events if found.call else ()
            self._add_match(found, now, several=len({sources[ref] for ref in told}) > 1)
            after += len(found.call.events) if found.call else 0
        assert before == after, f"pairing lost evidence: {before} events in, {after} out"

    def _add_match(self, found: Match, now: datetime, *, several: bool) -> None:
        old, call = found.stored, found.call
        state = call.state if call else None
        if old and old.open_refs is not None and state is not CallState.OPEN:
            self.open_gone.append(old.id)
        if old and old.exception_refs is not None and state is not CallState.EXCEPTION:
            self.exceptions_gone.append(old.id)
        no_cdr = call is None or state is CallState.EXCEPTION
        if no_cdr and old and old.cdr_revision and not old.cdr_void:
            self.voids.append((old.id, old.cdr_revision))
        if call is None:
            return
        if state is CallState.CLOSED:
            self._add_closed(found.id, old, call, several=several)
        elif state is CallState.OPEN:
            self._add_open(found.id, old, call)
        else:
            self._add_exception(found.id, old, call, now)

    def _add_closed(self, call_id: int, old: Stored | None, call: Call, *, several: bool) -> None:
        self.counts["events_used"] += len(call.events) - call.attempts
        self.counts["events_attempts"] += call.attempts
        if old is None or not old.cdr_revision or old.cdr_void:
            self.closings.append(Closing(call_id, old.cdr_revision if old else 0, call))
        elif old.cdr_digest != digest(call):
            self.closings.append(Closing(call_id, old.cdr_revision, call, only_if_it_matters=several))
        elif call_id in self.rate_again:
            self.closings.append(Closing(call_id, old.cdr_revision, call, only_if_figures_differ=True))
        elif old.cdr_refs != call.events or old.cdr_attempts != call.attempts:
            self.evidence.append((call_id, old.cdr_revision, call.attempts, call.events))

    def _add_open(self, call_id: int, old: Stored | None, call: Call) -> None:
        assert call.due_us is not None, "an open call that nothing will ever look at again"
        self.counts["events_open"] += len(call.events)
        if old and old.cdr_refs:  # a failed call that went on: its CDR stands until the call ends
            self.evidence.append((call_id, old.cdr_revision, 0, ()))
        if old and (old.key, old.open_refs, old.open_due_us) == (call.key, call.events, call.due_us):
            return
        if old and old.open_refs is not None:
            self.open_gone.append(call_id)
        self.open_rows.append(open_row(call_id, call))

    def _add_exception(self, call_id: int, old: Stored | None, call: Call, now: datetime) -> None:
        self.counts["events_exception"] += len(call.events)
        if old and (old.key, old.exception_refs, old.exception_reason) == (call.key, call.events, call.reason):
            return
        if old and old.exception_refs is not None:
            self.exceptions_gone.append(call_id)
        self.exception_rows.append(exception_row(call_id, call, now))


def open_row(call_id: int, call: Call) -> tuple[Any, ...]:
    """Return the row of an open call."""
    return (
        call_id, key_hash(call.key), call.key, call.call_id, call.source, call.nas, user_part(call.caller_uri),
        user_part(call.called_uri), instant(call.answered_us), instant(call.reported_us), call.due_us,
        pack_refs(call.events),
    )  # fmt: skip


def exception_row(call_id: int, call: Call, now: datetime, detail: str = "") -> tuple[Any, ...]:
    """Return the row of a call of which no CDR can be made."""
    return (
        call_id, key_hash(call.key), call.key, call.call_id, call.source, call.nas, call.reason, detail, "open",
        instant(call.reported_us), now, None, None, pack_refs(call.events),
    )  # fmt: skip


def set_aside_row(
    call_id: int, key: str, call_key_id: str, source: str, detail: str, now: datetime, refs: Iterable[int]
) -> tuple[Any, ...]:
    """Return the row of events that a batch could not be made with, so that the others can go on."""
    return (
        call_id, key_hash(key), key, call_key_id, source, "", "processing_failed", detail, "open", now, now, None, None,
        pack_refs(tuple(refs)),
    )  # fmt: skip
