"""Reports without tags under one id: whose sessions they are, and which of them tell of the SIP call with that id.

A session is known by its NAS and id. A table like radacct keeps the address of the NAS and neither its name nor tags:
what a row says is brought to what packets said by address, parties and time. Where that leaves more than one answer, it
is held: a second charge is worse than a late one. What is far off in time is never drawn in, for small numbers are used
as ids again and again, and a caller may choose his Call-ID. Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind
from accounting.sources.uri import user_part
from cdr.pairing_evidence import BEGINNINGS, HOUR_US, SECOND_US, in_order, told_began_us, told_ms

NEAR_US = 60 * SECOND_US
"""Two clocks, and a proxy that writes late, may date one instant so far apart."""
ZONES_US = 15 * 3600 * SECOND_US
"""A time zone that is set wrong moves a row by no more."""
SESSION_REASON = "ambiguous_session"

Tags = tuple[str, str]
OWN: Tags = ("\x00", "")  # in the place of a dialog's tags: a session that is no report of a SIP call


class Party(NamedTuple):
    """The events of one NAS's sessions, or of SIP calls, under one id. `nases`: whose restarts end the sessions."""

    events: list[AccountingEvent]
    nases: frozenset[str] = frozenset()
    is_doubtful: bool = False


def by_party(events: Sequence[AccountingEvent]) -> list[Party]:
    """Return the events of each NAS's sessions and those of SIP calls; each event is in one part."""
    sessions = [event for event in events if event.is_session]
    if not sessions:
        return [Party(list(events))]
    if len(sessions) == len(events):
        return _by_nas(sessions)
    return _by_dialog(sessions, [event for event in events if not event.is_session])


def is_row(event: AccountingEvent) -> bool:
    """Return whether a session is told by a table, which knows the NAS by its address only."""
    return event.is_session and event.nas == event.nas_address


def _doubtful(events: list[AccountingEvent]) -> list[Party]:
    return [Party(events, is_doubtful=True)] if events else []


# ---- sessions only


def _by_nas(sessions: Sequence[AccountingEvent]) -> list[Party]:
    if len({(event.nas, is_row(event)) for event in sessions if event.kind is not EventKind.OPERATOR}) <= 1:
        [nas, *others] = {event.nas for event in sessions}
        if not others:
            return [Party(list(sessions), frozenset((nas,)))]
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
    addresses = {nas: {nas, *(event.nas_address for event in events)} for nas, events in told.items()}
    packets = {nas: _with_parties(events) for nas, events in told.items()} if rows else {}
    own: dict[str, list[AccountingEvent]] = {}
    held: list[AccountingEvent] = []
    for event in rows:
        named = [nas for nas in packets if event.nas in addresses[nas]]
        home = _home(event, {nas: packets[nas] for nas in named or packets}, is_named=bool(named))
        if home is None:
            held.append(event)
        elif home in told:
            told[home].append(event)
        else:
            own.setdefault(event.nas, []).append(event)
    parts = [Party(part, frozenset((nas,))) for group in (told, own) for nas, part in sorted(group.items())]
    for event in corrections:
        meant = [part for part in parts if event.nas in {*part.nases, *(one.nas for one in part.events)}]
        if len(meant) != 1:
            meant = [part for part in parts if any(event.nas in addresses.get(nas, ()) for nas in part.nases)]
        (meant[0].events if len(meant) == 1 else held).append(event)
    return parts + _doubtful(held)


def _with_parties(told: Iterable[AccountingEvent]) -> list[AccountingEvent]:
    """Return a NAS's events in order; one that names nobody with the parties of the Start that it seems to be of."""
    named: AccountingEvent | None = None
    found = []
    for event in told:
        began_us = _began_us(event)
        is_silent = not (event.caller_uri or event.called_uri)
        if event.kind in BEGINNINGS and not is_silent:
            named = event
        elif is_silent and named and (began_us is None or abs(began_us - named.at_us) <= NEAR_US):
            event = event._replace(caller_uri=named.caller_uri, called_uri=named.called_uri)  # noqa: PLW2901
        found.append(event)
    return found


def _home(row: AccountingEvent, packets: Mapping[str, Sequence[AccountingEvent]], *, is_named: bool) -> str | None:
    """Return whose packets a row repeats, its own NAS's name if nobody's, None if that cannot be told."""
    alike = {nas: [e for e in told if _same_parties(row, e)] for nas, told in packets.items()}
    near = [nas for nas, told in alike.items() if any(_is_near(row, other) for other in told)]
    if near:
        return near[0] if len(near) == 1 else None
    if any(_is_near(row, other, ZONES_US) for told in alike.values() for other in told):
        return None
    if not is_named:
        return row.nas
    if len(packets) == 1:
        return next(iter(packets))
    # NASes that tell one address: it is none of their calls if they had none about that time
    return None if any(_is_near(row, other, ZONES_US) for told in packets.values() for other in told) else row.nas


def _same_parties(one: AccountingEvent, other: AccountingEvent) -> bool:
    """Return whether nothing in both speaks against it; a column may have cut a value off."""
    pairs = ((one.caller_uri, other.caller_uri), (one.called_uri, other.called_uri))
    return all(a.startswith(b) or b.startswith(a) for a, b in pairs)


# ---- sessions beside a SIP call of the same id


def _by_dialog(sessions: Sequence[AccountingEvent], calls: list[AccountingEvent]) -> list[Party]:
    """Return sessions beside tags under their id: reports of that SIP call that lack its tags, or others' sessions."""
    dialogs = _dialogs(calls)
    if not any(map(_is_dated, calls)):  # only a word on the media, or the like
        parts = _by_nas(sessions)
        is_one = len(parts) == 1 and len(dialogs) == 1 and not parts[0].is_doubtful
        return [Party(calls + _tagged(sessions, *dialogs))] if is_one else [Party(calls), *parts]
    placed: dict[str, list[tuple[int, Tags]]] = {}
    told: list[AccountingEvent] = []
    own: list[AccountingEvent] = []
    held: list[AccountingEvent] = []
    for event in sorted(sessions, key=lambda event: (_began_us(event) is None, in_order(event))):
        tags = _dialog_of(event, dialogs, placed.get(event.nas, ()))
        if tags is None:
            held.append(event)
            continue
        if (began_us := _began_us(event)) is not None:
            placed.setdefault(event.nas, []).append((began_us, tags))
        if tags == OWN:
            own.append(event)
        else:
            told += _tagged([event], tags)
    return [Party(calls + told), *(_by_nas(own) if own else ()), *_doubtful(held)]


def _tagged(sessions: Iterable[AccountingEvent], tags: Tags) -> list[AccountingEvent]:
    return [event._replace(is_session=False, from_tag=tags[0], to_tag=tags[1]) for event in sessions]


def _dialogs(calls: Sequence[AccountingEvent]) -> dict[Tags, list[AccountingEvent]]:
    """Return the reports of each dialog by its tags, the caller's first where the INVITE was reported."""
    found: dict[Tags, list[AccountingEvent]] = {}
    for event in sorted(calls, key=lambda event: (event.kind not in BEGINNINGS, in_order(event))):
        tags = event.from_tag, event.to_tag
        found.setdefault(tags[::-1] if tags[::-1] in found else tags, []).append(event)
    return found


def _dialog_of(
    event: AccountingEvent, dialogs: Mapping[Tags, Sequence[AccountingEvent]], placed: Sequence[tuple[int, Tags]]
) -> Tags | None:
    """Return the tags of the dialog that a session is, OWN if it is of none, None if that cannot be told."""
    near = [tags for tags, told in dialogs.items() if any(_is_near(event, other) for other in told)]
    if not near and _began_us(event) is None:
        is_update = event.kind is EventKind.INTERIM  # of those in one hour one is kept: they go the same way
        until_us = (event.at_us // HOUR_US + 1) * HOUR_US if is_update else event.at_us
        if before := [one for one in placed if one[0] <= until_us]:
            return max(before)[1]
        [(tags, told), *others] = dialogs.items()
        is_about = any(abs(other.at_us - until_us) <= ZONES_US for other in told)
        return tags if is_about and not others and not _are_strangers(event, told) else OWN
    if not near:
        about = [told for told in dialogs.values() if any(_is_near(event, other, ZONES_US) for other in told)]
        return None if any(not _are_strangers(event, told) for told in about) else OWN
    answered = [tags for tags in near if any(e.kind is not EventKind.FAILED for e in dialogs[tags])]
    near = answered or near
    return near[0] if len(near) == 1 and not _are_strangers(event, dialogs[near[0]]) else None


def _are_strangers(event: AccountingEvent, told: Iterable[AccountingEvent]) -> bool:
    """Return whether both name parties, and none in common."""
    ours = _parties([event])
    theirs = _parties(told)
    return bool(ours and theirs) and not ours & theirs


def _parties(events: Iterable[AccountingEvent]) -> set[str]:
    named = {uri for e in events for uri in (e.caller_uri, e.called_uri, e.translated_uri, e.auth_user) if uri}
    return {user_part(uri).lstrip("+") for uri in named}


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
    return None if event.kind is EventKind.MEDIA else told_began_us(event)


def _ended_us(event: AccountingEvent) -> int | None:
    if event.kind is EventKind.STOP:
        return event.at_us
    told = told_ms(event)
    return event.at_us + told * 1000 if event.kind is EventKind.COMPLETE and told is not None else None
