"""Reports whose Call-ID or tags an SQL column may have cut off, brought to the calls that they are of.

A cut Call-ID is only joined to a call that shares tags with it, or, where it has no tags, to the only one that begins
so; a cut tag to the only one that begins so. Where several could be meant, the report is held. What begins alike stands
together in a sorted list, and two that fit are enough to know: so a search does not look at all calls. Pure.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from accounting.event import AccountingEvent

MAYBE_CUT = "maybe_cut"
MAYBE_CUT_TAG = "maybe_cut_tag"
CUT_REASON = "cut_call_id"
_LAST = chr(0x10FFFF)  # what begins with a text is sorted before that text with this behind it


class _Whole(NamedTuple):
    """What was not cut, for searches by how it begins."""

    call_ids: list[str]  # sorted
    places: list[tuple[str, str]]  # (tag, Call-ID), sorted
    tags: dict[str, set[str]]  # Call-ID -> its tags


def by_call_id(events: Sequence[AccountingEvent]) -> list[tuple[list[AccountingEvent], bool]]:
    """Return the events of each Call-ID, those that were cut under the whole one, and whether they are in doubt.

    In doubt are events whose cut Call-ID begins several whole ones that have as much of their tags.
    """
    whole = _whole(event for event in events if MAYBE_CUT not in event.flags)
    groups: dict[str, list[AccountingEvent]] = {}
    doubtful: dict[str, list[AccountingEvent]] = {}
    for event in events:
        if MAYBE_CUT not in event.flags or event.call_id in whole.tags:
            groups.setdefault(event.call_id, []).append(event)
            continue
        candidates = _candidates(event, whole)
        if len(candidates) == 1:
            [call_id] = candidates
            groups.setdefault(call_id, []).append(event._replace(call_id=call_id))
        else:
            (doubtful if candidates else groups).setdefault(event.call_id, []).append(event)
    return [(group, False) for _, group in sorted(groups.items())] + [
        (group, True) for _, group in sorted(doubtful.items())
    ]


def _whole(events: Iterable[AccountingEvent]) -> _Whole:
    tags: dict[str, set[str]] = {}
    for event in events:
        tags.setdefault(event.call_id, set()).update(filter(None, (event.from_tag, event.to_tag)))
    return _Whole(sorted(tags), sorted((tag, call_id) for call_id, own in tags.items() for tag in own), tags)


def _candidates(event: AccountingEvent, whole: _Whole) -> set[str]:
    """Return up to two Call-IDs that a cut one may have been: by all its tags, else by one; by itself without tags."""
    own = {tag for tag in (event.from_tag, event.to_tag) if tag}
    if not own:
        return _two(whole.call_ids[place] for place in _span(whole.call_ids, event.call_id))
    is_cut = MAYBE_CUT_TAG in event.flags
    spans = sorted((_places_of(tag, event.call_id, whole.places, is_cut=is_cut) for tag in own), key=len)
    found = [(whole.places[place][1] for place in span) for span in (spans[0], *spans)]
    begun = [(call_id for call_id in ids if call_id.startswith(event.call_id)) for ids in found]
    return _two(one for one in begun[0] if _has_all(whole.tags[one], own, is_cut=is_cut)) or _two(chain(*begun[1:]))


def _two(call_ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for call_id in call_ids:
        found.add(call_id)
        if len(found) == 2:
            break
    return found


def _span(texts: Sequence[str], beginning: str) -> range:
    """Return which of sorted texts begin so."""
    return range(bisect_left(texts, beginning), bisect_left(texts, beginning + _LAST))


def _places_of(tag: str, call_id: str, places: Sequence[tuple[str, str]], *, is_cut: bool) -> range:
    """Return the places of a tag with Call-IDs that begin so; of all tags that begin with it if it may be cut."""
    first = bisect_left(places, (tag,))
    if is_cut and not (first < len(places) and places[first][0] == tag):
        return range(first, bisect_left(places, (tag + _LAST,)))
    return range(bisect_left(places, (tag, call_id)), bisect_left(places, (tag, call_id + _LAST)))


def _has_all(tags: Iterable[str], own: Iterable[str], *, is_cut: bool) -> bool:
    return all(any(tag == one or (is_cut and tag.startswith(one)) for tag in tags) for one in own)


def mend_tags(events: Sequence[AccountingEvent]) -> tuple[Sequence[AccountingEvent], list[AccountingEvent]]:
    """Return the events of one Call-ID with whole tags in the place of cut ones, and those where that is in doubt."""
    if not any(MAYBE_CUT_TAG in event.flags for event in events):
        return events, []
    whole = sorted({tag for e in events if MAYBE_CUT_TAG not in e.flags for tag in (e.from_tag, e.to_tag) if tag})
    mended: list[AccountingEvent] = []
    doubtful: list[AccountingEvent] = []
    for event in events:
        if MAYBE_CUT_TAG not in event.flags:
            mended.append(event)
            continue
        from_tag, to_tag = _whole_tag(event.from_tag, whole), _whole_tag(event.to_tag, whole)
        if from_tag is None or to_tag is None:
            doubtful.append(event)
        else:
            mended.append(event._replace(from_tag=from_tag, to_tag=to_tag))
    return mended, doubtful


def _whole_tag(tag: str, whole: Sequence[str]) -> str | None:
    """Return what a tag was: itself if it is known, or if nothing begins so; None if that cannot be told."""
    alike = _span(whole, tag) if tag else range(0)
    if not alike or whole[alike[0]] == tag:
        return tag
    return whole[alike[0]] if len(alike) == 1 else None
