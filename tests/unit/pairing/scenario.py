"""Calls written as text: one report a line, as in a test's docstring.

    10:00:00 start    c1  alice > +4915112345        who calls whom; other lines of c1 need not say it again
    10:01:01 stop     c1  by callee                  a BYE; by the callee = the tags are swapped
    10:10:00 media    c1  95s timeout                the words after `95s` are Media-Info
    10:00:00 failed   c1  alice > bob 486
    10:00:00 complete c1  alice > bob 61250ms
    1+10:00  operator c1                             on the next day
    10:05:00 reboot                                  of the NAS
    now 12:00:00                                     default: a week later

Words: to=TAG from=TAG (tags; `-` = none), via=URI (where the proxy sent it), ip=ADDRESS, own (ip is the proxy's own),
at=SOURCE, rank=N, nas=NAME, egress, session (no tags), untimed, created=TIME, setup=8s, divert=REASON,
said=TIME (when it was journalled), until=TIME (of media: when the last packet came).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind, group_key
from cdr.call import Call, CallState, PairedGroup
from cdr.pairing import PairingLimits, pair_group

DAY_0_US = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z
DAY_US = 86_400_000_000
KINDS = {kind.value for kind in EventKind}


class Scenario(NamedTuple):
    """What a docstring says: events in its order, the restarts of their NAS and the time of pairing."""

    events: tuple[AccountingEvent, ...]
    reboots: tuple[int, ...]
    now_us: int


class Paired(NamedTuple):
    """What pairing made of a scenario."""

    events: tuple[AccountingEvent, ...]
    calls: tuple[Call, ...]
    duplicates: tuple[int, ...]
    scenario: Scenario

    @property
    def cdrs(self) -> list[Call]:
        return [call for call in self.calls if call.state is CallState.CLOSED]

    @property
    def open(self) -> list[Call]:
        return [call for call in self.calls if call.state is CallState.OPEN]

    @property
    def exceptions(self) -> list[Call]:
        return [call for call in self.calls if call.state is CallState.EXCEPTION]


def parse(text: str) -> Scenario:
    """Return the scenario that the indented lines of a docstring tell; lines that begin with no time are words."""
    events: list[AccountingEvent] = []
    reboots: list[int] = []
    now_us = None
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["now"]:
            now_us = instant(words[1])
        elif words[1:2] == ["reboot"]:
            reboots.append(instant(words[0]))
        elif len(words) > 2 and words[1] in KINDS:
            events.append(_event(len(events) + 1, words, events))
    latest = max(event.at_us for event in events)
    return Scenario(tuple(events), tuple(reboots), latest + 7 * DAY_US if now_us is None else now_us)


def pair(scenario: Scenario, limits: PairingLimits | None = None) -> Paired:
    """Return the calls of a scenario."""
    groups: dict[str, list[AccountingEvent]] = {}
    for event in scenario.events:
        groups.setdefault(group_key(event), []).append(event)
    done = [
        pair_group(
            events, now_us=scenario.now_us, reboots={event.nas: scenario.reboots for event in events}, limits=limits
        )
        for events in groups.values()
    ]
    calls = tuple(call for group in done for call in group.calls)
    return Paired(scenario.events, calls, tuple(ref for group in done for ref in group.duplicates), scenario)


def instant(text: str) -> int:
    """Return the microseconds of `[days+]HH:MM[:SS[.fraction]]`."""
    days, clock = text.split("+") if "+" in text else ("0", text)
    hours, minutes, seconds = [*clock.split(":"), "0"][:3]
    return (
        DAY_0_US
        + int(days) * DAY_US
        + (int(hours) * 3600 + int(minutes) * 60) * 1_000_000
        + round(float(seconds) * 1_000_000)
    )


def without_refs(group: PairedGroup | Paired) -> list[Call]:
    """Return the calls without the journal positions, which say only when something came."""
    return [call._replace(events=()) for call in group.calls]


def _event(ref: int, words: Sequence[str], before: Sequence[AccountingEvent]) -> AccountingEvent:
    at_us, kind, call_id = instant(words[0]), EventKind(words[1]), words[2]
    rest = list(words[3:])
    named = dict(word.split("=", 1) for word in rest if "=" in word)
    bare = [word for word in rest if "=" not in word]
    event = AccountingEvent(
        ref, kind, at_us, instant(named["said"]) if "said" in named else at_us + 1000, 1, named.get("at", "proxy"),
        int(named.get("rank", "1")), "egress" if "egress" in bare else "access", call_id, nas=named.get("nas", "nas"),
    )  # fmt: skip
    event = _with_parties(event, bare, before)._replace(
        translated_uri=named.get("via", ""),
        source_ip=named.get("ip", ""),
        source_is_own="own" in bare,
        is_session="session" in bare,
        timed="untimed" not in bare,
        divert_reason=named.get("divert", ""),
        created_us=instant(named["created"]) if "created" in named else None,
        setup_ms=_milliseconds(named["setup"]) if "setup" in named else None,
        sip_code=next((int(word) for word in bare if re.fullmatch(r"\d{3}", word)), None),
        duration_ms=next((_milliseconds(word) for word in bare if re.fullmatch(r"-?\d+m?s", word)), None),
        media_info=_media_info(bare) if kind is EventKind.MEDIA else "",
        ended_us=instant(named["until"]) if "until" in named else None,
    )
    tags = ("", "") if event.is_session else ("f", "t")
    tags = (named.get("from", tags[0]).strip("-"), named.get("to", tags[1]).strip("-"))
    if "callee" in bare:
        tags = tags[::-1]
    return event._replace(from_tag=tags[0], to_tag=tags[1])


def _with_parties(event: AccountingEvent, bare: Sequence[str], before: Sequence[AccountingEvent]) -> AccountingEvent:
    if ">" in bare:
        at = bare.index(">")
        return event._replace(caller_uri=bare[at - 1], called_uri=bare[at + 1])
    for known in before:
        if known.call_id == event.call_id and known.caller_uri:
            caller, called = known.caller_uri, known.called_uri
            if "callee" in bare:
                caller, called = called, caller
            return event._replace(caller_uri=caller, called_uri=called)
    return event


def _milliseconds(word: str) -> int:
    return int(word.removesuffix("ms")) if word.endswith("ms") else int(word.removesuffix("s")) * 1000


def _media_info(bare: Sequence[str]) -> str:
    words = {"ice": "ICE session", "silent": "SILENT_TIMEOUT", "regular": "REGULAR", "timeout": "timeout"}
    return next((info for word, info in words.items() if word in bare), "")
