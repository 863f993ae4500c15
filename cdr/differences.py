"""What each source alone says of a call, and where two sources say different things. Pure.

It decides nothing: which source counts is for pairing, by rank.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind
from accounting.sources.uri import user_part
from cdr.call import Call, CallState
from cdr.pairing import PairingLimits, pair_group
from cdr.pairing_evidence import SECOND_US, UNPAIRED

SHOWN_MAX = 100  # calls listed of each kind and pair of sources; all are counted
EXACT_MS = 60  # two that tell milliseconds
WHOLE_SECONDS_MS = 1_100  # one of them tells whole seconds, cut or rounded up

WITNESSES = frozenset((EventKind.START, EventKind.STOP, EventKind.FAILED, EventKind.COMPLETE))
"""Reports of a source that sees calls; a media proxy's or an operator's word is none."""


class View(NamedTuple):
    """What one source alone says of a call. "" and None: it does not say."""

    source: str
    disposition: str
    sip_code: int | None
    duration_ms: int | None
    is_exact: bool  # it tells fractions of seconds
    caller: str
    called: str


class Difference(NamedTuple):
    """One figure of one call, as each of two sources says it."""

    cdr_id: int
    call_id: str
    figure: str  # disposition | code | duration | caller | called
    first: str
    second: str


class OnlyOne(NamedTuple):
    """A call that one of two sources did not report."""

    cdr_id: int
    call_id: str


@dataclass(slots=True)
class Pair:
    """Two sources: how many calls both saw, which only one saw, which they tell differently."""

    first: str
    second: str
    both: int = 0
    only: Counter[str] = field(default_factory=Counter)  # source -> calls that the other did not see
    only_shown: dict[str, list[OnlyOne]] = field(default_factory=dict)
    differing: Counter[str] = field(default_factory=Counter)  # figure -> calls
    differing_shown: list[Difference] = field(default_factory=list)


@dataclass(slots=True)
class Comparison:
    """Fed with one call after the other; memory does not grow with their number."""

    calls: int = 0
    seen: Counter[str] = field(default_factory=Counter)  # source -> calls
    together: dict[tuple[str, str], Pair] = field(default_factory=dict)
    _by_witnesses: Counter[frozenset[str]] = field(default_factory=Counter)
    _samples: dict[frozenset[str], list[OnlyOne]] = field(default_factory=dict)

    def add(self, cdr_id: int, call_id: str, views: Sequence[View]) -> None:
        """Count one call and what its sources say of it."""
        if not views:
            return
        self.calls += 1
        witnesses = frozenset(view.source for view in views)
        self.seen.update(witnesses)
        self._by_witnesses[witnesses] += 1
        samples = self._samples.setdefault(witnesses, [])
        if len(samples) < SHOWN_MAX:
            samples.append(OnlyOne(cdr_id, call_id))
        for one, other in combinations(sorted(views), 2):
            pair = self.together.setdefault((one.source, other.source), Pair(one.source, other.source))
            pair.both += 1
            found = differences(one, other)
            pair.differing.update(figure for figure, _, _ in found)
            room = SHOWN_MAX - len(pair.differing_shown)
            pair.differing_shown += [Difference(cdr_id, call_id, *told) for told in found[:room]]

    def pairs(self) -> list[Pair]:
        """Return all pairs of sources, each with the calls that only one of them saw.

        Two sources without a common call watch different traffic: they are not compared.
        """
        for pair in self.together.values():
            for here, there in ((pair.first, pair.second), (pair.second, pair.first)):
                lacking = [who for who in self._by_witnesses if here in who and there not in who]
                pair.only[here] = sum(self._by_witnesses[who] for who in lacking)
                shown = sorted(one for who in lacking for one in self._samples[who])
                pair.only_shown[here] = shown[:SHOWN_MAX]
        return [self.together[names] for names in sorted(self.together)]


def views_of(events: Sequence[AccountingEvent], *, now_us: int, limits: PairingLimits) -> list[View]:
    """Return what each source says of one call whose evidence these events are."""
    by_source: dict[str, list[AccountingEvent]] = {}
    for event in events:
        if event.kind not in UNPAIRED:
            by_source.setdefault(event.source, []).append(event)
    return [
        _view(source, said, now_us, limits)
        for source, said in sorted(by_source.items())
        if any(event.kind in WITNESSES for event in said)
    ]


def differences(one: View, other: View) -> list[tuple[str, str, str]]:
    """Return (figure, what the first says, what the second says) where both say something and it differs."""
    found = []
    if not _agree(one, other):
        found.append(("disposition", one.disposition, other.disposition))
    elif one.sip_code and other.sip_code and one.sip_code != other.sip_code:
        found.append(("code", str(one.sip_code), str(other.sip_code)))
    if one.duration_ms is not None and other.duration_ms is not None:
        tolerance = EXACT_MS if one.is_exact and other.is_exact else WHOLE_SECONDS_MS
        if abs(one.duration_ms - other.duration_ms) > tolerance:
            found.append(("duration", _seconds(one.duration_ms), _seconds(other.duration_ms)))
    for figure in ("caller", "called"):
        here, there = getattr(one, figure), getattr(other, figure)
        if here and there and here != there:
            found.append((figure, here, there))
    return found


def _agree(one: View, other: View) -> bool:
    """Return whether both say how the call came out and agree; one that tells no code knows only that it failed."""
    if "" in (one.disposition, other.disposition) or one.disposition == other.disposition:
        return True
    is_vague = any(view.disposition == "failed" and not view.sip_code for view in (one, other))
    return is_vague and "answered" not in (one.disposition, other.disposition)


def as_dict(comparison: Comparison) -> Mapping[str, object]:
    """Return the comparison for JSON."""
    return {
        "calls": comparison.calls,
        "sources": [{"source": source, "calls": calls} for source, calls in sorted(comparison.seen.items())],
        "pairs": [_pair_as_dict(pair) for pair in comparison.pairs()],
    }


def _pair_as_dict(pair: Pair) -> Mapping[str, object]:
    names = (pair.first, pair.second)
    return {
        "sources": list(names),
        "both": pair.both,
        "only": {
            name: {"count": pair.only[name], "calls": [one._asdict() for one in pair.only_shown[name]]}
            for name in names
        },
        "differing": {
            "count": dict(sorted(pair.differing.items())),
            "calls": [
                {"cdr_id": d.cdr_id, "call_id": d.call_id, "figure": d.figure, "values": [d.first, d.second]}
                for d in pair.differing_shown
            ],
        },
    }


def _view(source: str, events: Sequence[AccountingEvent], now_us: int, limits: PairingLimits) -> View:
    calls = pair_group(events, now_us=now_us, limits=limits).calls
    call = max(calls, key=_weight)
    has_end = call.state is CallState.CLOSED and call.stop_cause not in ("", "max_age")
    told = [event for event in events if event.kind in WITNESSES]
    is_exact = any(event.at_us % SECOND_US or (event.duration_ms or 0) % 1000 for event in told)
    return View(
        source,
        call.disposition,
        call.sip_code if call.disposition != "answered" else None,  # every 2xx is an answer
        call.duration_ms if has_end else None,
        is_exact,
        user_part(call.caller_uri),
        user_part(call.called_uri),
    )


def _weight(call: Call) -> tuple[bool, bool, int, int]:
    """Sort the calls that a source makes of one call's events: the answered, closed, longest one tells."""
    return call.disposition == "answered", call.state is CallState.CLOSED, call.duration_ms, -call.events[0]


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d} s"
