"""One pass over reports: what they show of each source's habits, counted.

Judges nothing; cdr.source_findings does. Pure.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.radius.attributes import VENDOR_SPECIFIC, Malformed, attributes
from accounting.radius.dictionary import DictionaryError, decode_table
from accounting.sources.fields import Report, Row, setup_of
from accounting.sources.uri import user_part
from accounting.sources.values import peer_address
from cdr.pairing_evidence import told_ms

CLOCK_SAMPLES_MAX = 20_000  # of each source; beyond that every second one is kept
CUT_AT = 64  # CHAR(64) of the stock tables

INVITES = frozenset((EventKind.START, EventKind.FAILED, EventKind.COMPLETE))
SENT_AT_ONCE = frozenset((EventKind.START, EventKind.STOP, EventKind.FAILED, EventKind.INTERIM, EventKind.COMPLETE))
FAMILIES = {"opensips": frozenset((204, 205, 206, 207)), "classic": frozenset((101, 102, 104, 105))}
"""The attribute numbers of method, code and tags, by dictionary family."""

_CANONICAL = Report._fields.index("canonical")


class Seen(NamedTuple):
    """A journal row, the source version it came with, and what it was translated into."""

    row: Row
    source: Source
    said: AccountingEvent | Untranslatable


class ClockSample(NamedTuple):
    """How long after its own time a report arrived."""

    received_us: int
    late_us: int


class Unreadable(NamedTuple):
    """Reports that could not be translated, for one reason."""

    reports: int
    detail: str  # of the first


class _Numbers(NamedTuple):
    """Attribute numbers that a source's dictionaries know, and those that hold the number as dialled."""

    known: frozenset[int]
    dialled: frozenset[int]


@dataclass(slots=True)
class Tally:
    """What one source's reports show."""

    source: Source  # the latest version that reported
    reports: int = 0
    first_us: int = 0  # arrival of the first and the last report
    last_us: int = 0
    kinds: Counter[EventKind] = field(default_factory=Counter)
    sessions: int = 0  # Starts of sessions without SIP
    answered: dict[str, int] = field(default_factory=dict)  # Call-ID -> time of the Start
    stopped: dict[str, int] = field(default_factory=dict)  # Call-ID -> time of the Stop
    complete: dict[str, int] = field(default_factory=dict)  # Call-ID of a whole call in one record -> its answer
    invites: int = 0  # records of an INVITE
    lacking: Counter[str] = field(default_factory=Counter)  # what INVITEs' records lack: source_ip, called ...
    tagless: int = 0
    strangers: int = 0  # a proxy's reports in which the dictionary finds no SIP attribute
    family_of_strangers: Counter[str] = field(default_factory=Counter)
    full_ids: set[str] = field(default_factory=set)  # Call-IDs of exactly CUT_AT characters
    longest_id: int = 0
    full_tags: set[str] = field(default_factory=set)
    longest_tag: int = 0
    untimed: int = 0
    early_media: int = 0
    doubled_failed: int = 0
    spirals: int = 0
    users_as_caller: int = 0  # User-Name is the From, as $Au gives it
    users_otherwise: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, Unreadable] = field(default_factory=dict)
    unknown: Counter[int] = field(default_factory=Counter)  # attribute numbers without a meaning
    peers: Counter[str] = field(default_factory=Counter)
    clock: list[ClockSample] = field(default_factory=list)
    _known: dict[int, _Numbers] = field(default_factory=dict)  # by source version
    _every: int = 1
    _timed: int = 0
    _failed: set[tuple[object, ...]] = field(default_factory=set)
    _passes: dict[tuple[str, ...], str] = field(default_factory=dict)

    def add(self, seen: Seen) -> None:
        """Count one report."""
        row, source, said = seen
        if source.id > self.source.id:
            self.source = source
        self.reports += 1
        self.first_us = row.received_us if self.reports == 1 else min(self.first_us, row.received_us)
        self.last_us = max(self.last_us, row.received_us)
        self.peers[peer_address(row.peer)] += 1
        numbers = _numbers(row.raw) if source.kind == "radius" else _NONE
        if numbers:
            if source.id not in self._known:
                self._known[source.id] = _known(source)
            self.unknown.update(numbers - self._known[source.id].known)
        if isinstance(said, Untranslatable):
            known = self.unreadable.get(said.reason, Unreadable(0, said.detail))
            self.unreadable[said.reason] = known._replace(reports=known.reports + 1)
            return
        self.kinds[said.kind] += 1
        self.flags.update(said.flags)
        self._add_clock(said)
        if said.kind in (EventKind.MEDIA, EventKind.OPERATOR, EventKind.NAS_ON, EventKind.NAS_OFF):
            return
        if "no_sip_attributes" in said.flags or (said.is_session and numbers & _ALL_FAMILIES):
            self.strangers += 1
            self.family_of_strangers.update(name for name, wanted in FAMILIES.items() if len(numbers & wanted) > 1)
            return
        self._add_dialog(said)
        if said.kind in INVITES:
            self._add_invite(said, source, numbers)

    def _add_clock(self, said: AccountingEvent) -> None:
        if said.kind not in SENT_AT_ONCE:
            return
        if not said.timed:
            self.untimed += 1
            return
        lasted_ms = told_ms(said) if said.kind is EventKind.COMPLETE else 0
        if lasted_ms is None:
            return
        self._timed += 1
        if self._timed % self._every:
            return
        self.clock.append(ClockSample(said.received_us, said.received_us - said.at_us - lasted_ms * 1000))
        if len(self.clock) >= CLOCK_SAMPLES_MAX:
            del self.clock[::2]
            self._every *= 2

    def _add_dialog(self, said: AccountingEvent) -> None:
        call_id, kind = said.call_id, said.kind
        _note_length(call_id, self.full_ids)
        self.longest_id = max(self.longest_id, len(call_id))
        for tag in (said.from_tag, said.to_tag):
            _note_length(tag, self.full_tags)
            self.longest_tag = max(self.longest_tag, len(tag))
        if kind is EventKind.START:
            self.answered[call_id] = min(said.at_us, self.answered.get(call_id, said.at_us))
            self.sessions += said.is_session
        elif kind is EventKind.STOP:
            self.stopped[call_id] = said.at_us
        elif kind is EventKind.COMPLETE:
            self.complete[call_id] = said.at_us
        elif kind is EventKind.OTHER and said.sip_code is not None and 100 < said.sip_code < 200:
            self.early_media += 1
        needs_both = kind in (EventKind.START, EventKind.STOP, EventKind.COMPLETE)
        if not said.is_session and not said.leg and needs_both and not (said.from_tag and said.to_tag):
            self.tagless += 1

    def _add_invite(self, said: AccountingEvent, source: Source, numbers: frozenset[int]) -> None:
        self.invites += 1
        told = {
            "billing_party": said.billing_party, "source_ip": said.source_ip, "auth_user": said.auth_user,
            "from_user": said.from_user, "caller_number": said.caller_uri,
        }  # fmt: skip
        if not said.source_ip:
            self.lacking["source_ip"] += 1
        if not said.called_uri:
            self.lacking["called"] += 1
        if numbers and not numbers & self._known[source.id].dialled:
            self.lacking["canonical"] += 1
        if not any(told[name] for name in source.identify_by):
            self.lacking["identity"] += 1
        if said.auth_user:
            is_caller = "@" in said.auth_user and said.auth_user in (said.from_user, f"{user_part(said.caller_uri)}@")
            self.users_as_caller += is_caller
            self.users_otherwise += not is_caller
        if said.kind is EventKind.FAILED:
            key = (said.call_id, said.from_tag, said.to_tag, said.at_us // 2_000_000)
            self.doubled_failed += key in self._failed
            self._failed.add(key)
        elif said.source_ip and said.to_tag:
            dialog = (said.call_id, said.from_tag, said.to_tag)
            self.spirals += self._passes.setdefault(dialog, said.source_ip) != said.source_ip


def tally(reports: Iterable[Seen]) -> dict[str, Tally]:
    """Return what the reports show, by the sources' names."""
    found: dict[str, Tally] = {}
    for seen in reports:
        if seen.source.kind != "operator":
            found.setdefault(seen.source.name, Tally(seen.source)).add(seen)
    return found


_NONE: frozenset[int] = frozenset()
_ALL_FAMILIES = frozenset(number for numbers in FAMILIES.values() for number in numbers)


def _numbers(raw: bytes) -> frozenset[int]:
    found = attributes(raw)
    return frozenset() if isinstance(found, Malformed) else frozenset(number for number, value in found if value)


def _known(source: Source) -> _Numbers:
    """Return the attribute numbers that a source's dictionaries know, and those that hold the number as dialled."""
    all_numbers = frozenset(range(256))
    setup = setup_of(source)
    if isinstance(setup, DictionaryError):
        return _Numbers(all_numbers, all_numbers)
    try:
        tables = [decode_table(source.dictionary, dialect) for dialect in source.dialects]
    except DictionaryError:
        return _Numbers(all_numbers, all_numbers)
    named = {number for table in tables for number, entry in enumerate(table.entries) if entry is not None}
    read = {number for plan in setup.plans for number in all_numbers if plan.slots[number]}
    dialled = {number for plan in setup.plans for number in all_numbers if plan.slots[number] == _CANONICAL}
    return _Numbers(frozenset(named | read | {VENDOR_SPECIFIC}), frozenset(dialled))


def _note_length(value: str, full: set[str]) -> None:
    if len(value) == CUT_AT:
        full.add(value)
