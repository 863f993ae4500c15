"""Reports whose Call-ID an SQL column may have cut off, brought to the calls that they are of.

A report is only joined to a call that shares a tag with it; where several could be meant, it stays apart. Pure.
"""

from collections.abc import Sequence

from accounting.event import AccountingEvent

MAYBE_CUT = "maybe_cut"
CUT_REASON = "cut_call_id"


def by_call_id(events: Sequence[AccountingEvent]) -> list[tuple[list[AccountingEvent], bool]]:
    """Return the events of each Call-ID, those that were cut under the whole one, and whether they are in doubt.

    In doubt are events whose cut Call-ID begins several whole ones that share a tag with it.
    """
    whole: dict[str, set[str]] = {}
    for event in events:
        if MAYBE_CUT not in event.flags:
            whole.setdefault(event.call_id, set()).update(tag for tag in (event.from_tag, event.to_tag) if tag)
    groups: dict[str, list[AccountingEvent]] = {}
    doubtful: dict[str, list[AccountingEvent]] = {}
    for event in events:
        if MAYBE_CUT not in event.flags or event.call_id in whole:
            groups.setdefault(event.call_id, []).append(event)
            continue
        candidates = [
            call_id for call_id, tags in whole.items() if call_id.startswith(event.call_id) and _shares(event, tags)
        ]
        if len(candidates) == 1:
            groups.setdefault(candidates[0], []).append(event._replace(call_id=candidates[0]))
        else:
            (doubtful if candidates else groups).setdefault(event.call_id, []).append(event)
    return [(group, False) for _, group in sorted(groups.items())] + [
        (group, True) for _, group in sorted(doubtful.items())
    ]


def _shares(event: AccountingEvent, tags: set[str]) -> bool:
    own = [tag for tag in (event.from_tag, event.to_tag) if tag]
    return any(tag in tags for tag in own)
