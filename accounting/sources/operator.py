"""An operator's correction, journalled as JSON -> AccountingEvent. Pure; refuses what is not exactly of that shape."""

import json
from typing import Any

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.sources.fields import Row, stamp
from accounting.sources.text import clean

_TEXTS = ("call_id", "from_tag", "to_tag", "nas", "reason")
_US_MAX = 1 << 62


def translate_operator(row: Row, source: Source) -> AccountingEvent | Untranslatable:
    """Return the event of `tollbook cdr close`: the call ended at ended_us, for a reason."""
    try:
        said = json.loads(row.raw)
    except (ValueError, RecursionError) as error:
        return Untranslatable(row.ref, "bad_correction", f"not JSON: {type(error).__name__}")
    problem = _problem(said)
    if problem:
        return Untranslatable(row.ref, "bad_correction", problem)
    call_id, from_tag, to_tag, nas, reason = (clean(said.get(name, "")) for name in _TEXTS)
    return AccountingEvent(
        *stamp(row, source, EventKind.OPERATOR, said["ended_us"]),
        call_id=call_id,
        from_tag=from_tag,
        to_tag=to_tag,
        nas=nas,
        is_session=said.get("is_session", False),
        reason=reason,
    )


def _problem(said: Any) -> str:
    if not isinstance(said, dict):
        return "not an object"
    for name in _TEXTS:
        if not isinstance(said.get(name, ""), str):
            return f"{name} is not text"
    if not said.get("call_id"):
        return "no call_id"
    if not isinstance(said.get("is_session", False), bool):
        return "is_session is neither true nor false"
    ended_us = said.get("ended_us")
    if type(ended_us) is not int or not 0 <= ended_us < _US_MAX:
        return "ended_us is no time"
    return ""
