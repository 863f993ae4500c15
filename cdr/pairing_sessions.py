"""Reports without tags under one id: whose sessions they are, and which of them tell of the SIP call with that id.

A session is known by its NAS and id. A table like radacct keeps the address of the NAS and neither its name nor tags:
what a row says is brought to what packets said by address, parties and time. Where that leaves more than one answer, it
is held: a second charge is worse than a late one. Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind
from cdr.pairing_evidence import BEGINNINGS, SECOND_US, in_order, told_ms

NEAR_US = 60 * SECOND_US
"""Two clocks, and a proxy that writes late, may date one instant so far apart."""
ZONES_US = 15 * 3600 * SECOND_US
"""A time zone that is set wrong moves a row by no more."""
SESSION_REASON = "ambiguous_session"

Tags = tuple[str, str]


class Party(NamedTuple):
    """The events of one NAS's sessions, or of SIP calls, under one id. `names` are the NAS's, of sessions only."""

    events: list[AccountingEvent]
    names: frozenset[str] = frozenset()
    is_doubtful: bool = False


def by_party(events: Sequence[AccountingEvent]) -> list[Party]:
    """Return the events of each NAS's sessions and those of SIP calls; each event is in one part."""
    sessions = [event for event in events if event.is_session]
    if not sessions:
        return [Party(list(events))]
    if len(sessions) == len(events):
        if len({event.nas for event in events}) == 1:
            return [_party(sessions)]
        return _by_nas(sessions)
    return _by_dialog(sessions, [event for event in events if not event.is_session])


def is_row(event: AccountingEvent) -> bool:
    """Return whether a session is told by a table, which knows the NAS by its address only."""
    return event.is_session and event.nas == event.nas_address


def _party(events: list[AccountingEvent]) -> Party:
    return Party(events, frozenset(name for event in events for name in (event.nas, event.nas_address) if name))


def _doubtful(events: list[AccountingEvent]) -> list[Party]:
    return [Party(events, is_doubtful=True)] if events else []


# ---- sessions only


def _by_nas(sessions: Iterable[AccountingEvent]) -> list[Party]:
    told: dict[str, list[AccountingEvent]] = {}
    rows: list[AccountingEvent] = []
    corrections: list[AccountingEvent] = []
    for event in sorted(sessions, key=in_order):
        if event.kind is EventKind.OPERATOR:
            corrections.append(event)
        elif is_row(event):
            rows.append(event)
        else:
            told.setdefault(event.nas, []).append(event)
    packets = {nas: _party(list(events)) for nas, events in told.items()}
    own: dict[str, list[AccountingEvent]] = {}
    held: list[AccountingEvent] = []
    for event in rows:
        named = [nas for nas, party in packets.items() if event.nas in party.names]
        home = _home(event, {nas: packets[nas].events for nas in named or packets}, is_named=bool(named))
        if home is None:
            held.append(event)
        elif home in told:
            told[home].append(event)
        else:
            own.setdefault(event.nas, []).append(event)
    parts = [_party(part) for group in (told, own) for _, part in sorted(group.items())]
    for event in corrections:
        meant = [part for part in parts if event.nas in part.names or event.nas in {e.nas for e in part.events}]
        (meant[0].events if len(meant) == 1 else held).append(event)
    return parts + _doubtful(held)


def _home(event: AccountingEvent, packets: dict[str, list[AccountingEvent]], *, is_named: bool) -> str | None:
    """Return whose packets a row repeats, its own NAS's name if nobody's, None if that cannot be told."""
    alike = {nas: [e for e in told if _same_parties(event, e)] for nas, told in packets.items()}
    near = [nas for nas, told in alike.items() if any(_is_near(event, other) for other in told)]
    if near:
        return near[0] if len(near) == 1 else None
    if any(_is_near(event, other, ZONES_US) for told in alike.values() for other in told):
        return None
    if is_named:
        return next(iter(packets)) if len(packets) == 1 else None
    return event.nas


def _same_parties(one: AccountingEvent, other: AccountingEvent) -> bool:
    """Return whether nothing in both speaks against it; a column may have cut a value off."""
    pairs = ((one.caller_uri, other.caller_uri), (one.called_uri, other.called_uri))
    return all(a.startswith(b) or b.startswith(a) for a, b in pairs)


# ---- sessions beside a SIP call of the same id


def _by_dialog(sessions: Sequence[AccountingEvent], calls: list[AccountingEvent]) -> list[Party]:
    """Return sessions as what they are beside tags under their id: reports of the SIP call that lack its tags."""
    dialogs = _dialogs(calls)
    placed: dict[str, list[tuple[int, Tags]]] = {}
    told: list[AccountingEvent] = []
    held: list[AccountingEvent] = []
    for event in sorted(sessions, key=lambda event: (_began_us(event) is None, in_order(event))):
        tags = _dialog_of(event, dialogs, placed.get(event.nas, ()))
        if tags is None:
            held.append(event)
            continue
        if (began_us := _began_us(event)) is not None:
            placed.setdefault(event.nas, []).append((began_us, tags))
        told.append(event._replace(is_session=False, from_tag=tags[0], to_tag=tags[1]))
    return [Party([*calls, *told]), *_doubtful(held)]


def _dialogs(calls: Sequence[AccountingEvent]) -> dict[Tags, list[AccountingEvent]]:
    """Return the reports of each dialog by its tags, the caller's first where the INVITE was reported."""
    found: dict[Tags, list[AccountingEvent]] = {}
    for event in sorted(calls, key=lambda event: (event.kind not in BEGINNINGS, in_order(event))):
        tags = event.from_tag, event.to_tag
        found.setdefault(tags[::-1] if tags[::-1] in found else tags, []).append(event)
    return found


def _dialog_of(
    event: AccountingEvent, dialogs: dict[Tags, list[AccountingEvent]], placed: Sequence[tuple[int, Tags]]
) -> Tags | None:
    """Return the tags of the dialog that a session is, None if that cannot be told."""
    near = [tags for tags, told in dialogs.items() if any(_is_near(event, other) for other in told)]
    if not near and len(dialogs) == 1 and not any(map(_is_dated, *dialogs.values())):
        return next(iter(dialogs))
    if not near and _began_us(event) is None:
        before = [tags for began_us, tags in placed if began_us <= event.at_us]
        return before[-1] if before else next(iter(dialogs)) if len(dialogs) == 1 else None
    answered = [tags for tags in near if any(e.kind is not EventKind.FAILED for e in dialogs[tags])]
    near = answered or near
    return near[0] if len(near) == 1 else None


# ---- times


def _is_near(one: AccountingEvent, other: AccountingEvent, within_us: int = NEAR_US) -> bool:
    return any(
        a is not None and b is not None and abs(a - b) <= within_us
        for a, b in ((_began_us(one), _began_us(other)), (_ended_us(one), _ended_us(other)))
    )


def _is_dated(event: AccountingEvent) -> bool:
    return _began_us(event) is not None or _ended_us(event) is not None


def _began_us(event: AccountingEvent) -> int | None:
    if event.kind in BEGINNINGS:
        return event.at_us
    told = told_ms(event)
    return None if told is None or event.kind is EventKind.MEDIA else event.at_us - told * 1000


def _ended_us(event: AccountingEvent) -> int | None:
    if event.kind is EventKind.STOP:
        return event.at_us
    told = told_ms(event)
    return event.at_us + told * 1000 if event.kind is EventKind.COMPLETE and told is not None else None
