"""Reports whose Call-ID or tags an SQL column may have cut off, brought to the calls that they are of.

A cut Call-ID is only joined to a call that shares a tag with it, or, where it has no tags, to the only one that begins
so; a cut tag to the only one that begins so. Where several could be meant, the report is held. Pure.
"""

from collections.abc import Iterable, Sequence

from accounting.event import AccountingEvent

MAYBE_CUT = "maybe_cut"
MAYBE_CUT_TAG = "maybe_cut_tag"
CUT_REASON = "cut_call_id"


def by_call_id(events: Sequence[AccountingEvent]) -> list[tuple[list[AccountingEvent], bool]]:
    """Return the events of each Call-ID, those that were cut under the whole one, and whether they are in doubt.

    In doubt are events whose cut Call-ID begins several whole ones that share a tag with it.
    """
    by_tag: dict[str, set[str]] = {}  # tag -> whole Call-IDs; all of them under ""
    for event in events:
        if MAYBE_CUT not in event.flags:
            for tag in {"", event.from_tag, event.to_tag}:
                by_tag.setdefault(tag, set()).add(event.call_id)
    whole = by_tag.get("", set())
    groups: dict[str, list[AccountingEvent]] = {}
    doubtful: dict[str, list[AccountingEvent]] = {}
    for event in events:
        if MAYBE_CUT not in event.flags or event.call_id in whole:
            groups.setdefault(event.call_id, []).append(event)
            continue
        tags = _begun(event, by_tag) or {""}
        candidates = {one for tag in tags for one in by_tag.get(tag, ()) if one.startswith(event.call_id)}
        if len(candidates) == 1:
            [call_id] = candidates
            groups.setdefault(call_id, []).append(event._replace(call_id=call_id))
        else:
            (doubtful if candidates else groups).setdefault(event.call_id, []).append(event)
    return [(group, False) for _, group in sorted(groups.items())] + [
        (group, True) for _, group in sorted(doubtful.items())
    ]


def _begun(event: AccountingEvent, whole: Iterable[str]) -> set[str]:
    """Return the event's tags, and those that begin with one of them if it may have been cut."""
    own = {tag for tag in (event.from_tag, event.to_tag) if tag}
    if MAYBE_CUT_TAG in event.flags:
        own |= {tag for tag in whole if any(tag.startswith(cut) for cut in own)}
    return own


def mend_tags(events: Sequence[AccountingEvent]) -> tuple[Sequence[AccountingEvent], list[AccountingEvent]]:
    """Return the events of one Call-ID with whole tags in the place of cut ones, and those where that is in doubt."""
    if not any(MAYBE_CUT_TAG in event.flags for event in events):
        return events, []
    whole = {tag for e in events if MAYBE_CUT_TAG not in e.flags for tag in (e.from_tag, e.to_tag) if tag}
    mended: list[AccountingEvent] = []
    doubtful: list[AccountingEvent] = []
    for event in events:
        found = [_whole_tags(tag, whole) for tag in (event.from_tag, event.to_tag)]
        if MAYBE_CUT_TAG not in event.flags:
            mended.append(event)
        elif all(len(tags) == 1 for tags in found):
            mended.append(event._replace(from_tag=found[0][0], to_tag=found[1][0]))
        else:
            doubtful.append(event)
    return mended, doubtful


def _whole_tags(tag: str, whole: set[str]) -> list[str]:
    """Return what a tag may have been: itself if it is known, or if nothing begins so."""
    if not tag or tag in whole:
        return [tag]
    return sorted(one for one in whole if one.startswith(tag)) or [tag]
