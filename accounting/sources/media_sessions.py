"""Rows of MediaProxy's table `media_sessions` -> AccountingEvent: how long the media of a call lasted. Pure.

Never says that a call began or ended; pairing draws what follows.
"""

import json
from collections.abc import Mapping
from typing import Any

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.sources.fields import Row, stamp
from accounting.sources.text import clean
from accounting.sources.values import DAY_US, SECOND_US, YEAR_2000_US, duration_ms

SECONDS_MAX = 1 << 32
HOLD_WAIT_S = 3600  # who waits so long for a packet waits for the end of a hold (MediaProxy: 7200; else 90 or 180)
ICE = "unselected ICE candidate"
TIMEOUTS = ("conntrack timeout", "no-traffic timeout")


def media_session(
    values: Mapping[str, Any], row: Row, source: Source, flags: list[str]
) -> AccountingEvent | Untranslatable:
    """Return the event of one row; `values` are its columns as text, `info` the relay's statistics as JSON.

    The duration counts from the first answered SDP. How long the relay then waited for more packets is taken off.
    """
    info = _info(values.get("info"))
    if info is None:
        return Untranslatable(row.ref, "bad_row", "info is not the JSON of a media session")
    call_id, from_tag, to_tag = (
        _text(values.get(name)) or _text(info.get(name)) for name in ("call_id", "from_tag", "to_tag")
    )
    streams = [stream for stream in _list(info.get("streams")) if stream.get("status") != "rejected"]
    lasted_s, began = _seconds(info.get("duration")), _number(info.get("start_time"))
    is_held = any((_seconds(stream.get("timeout_wait")) or 0) >= HOLD_WAIT_S for stream in streams)
    media_info = _media_info(info, streams, is_held)
    if media_info == "timeout":
        lasted_s = _without_wait(lasted_s, streams)
    at_us = None if began is None or lasted_s is None else int(began * SECOND_US) + lasted_s * SECOND_US
    if at_us is not None and not YEAR_2000_US <= at_us <= row.received_us + DAY_US:
        at_us = None
    return AccountingEvent(
        *stamp(row, source, EventKind.MEDIA, row.received_us if at_us is None else at_us),
        call_id=call_id,
        from_tag=from_tag,
        to_tag=to_tag,
        timed=at_us is not None,
        duration_ms=None if lasted_s is None or info.get("start_time") is None else duration_ms(lasted_s * 1000, flags),
        media_info=media_info,
    )


def _media_info(info: Mapping[str, Any], streams: list[Mapping[str, Any]], is_held: bool) -> str:
    """Return what MediaProxy says over RADIUS: timeout, ICE session or nothing; a timeout of a hold is told apart."""
    if info.get("all_streams_ice") is True or (streams and all(stream.get("status") == ICE for stream in streams)):
        return "ICE session"
    if info.get("timed_out") is not True:
        return ""
    return "timeout on hold" if is_held else "timeout"


def _without_wait(lasted_s: int | None, streams: list[Mapping[str, Any]]) -> int | None:
    """Return how long the stream that ended last had packets; the session's own duration where none tells."""
    ends = []
    for stream in streams:
        end, wait = _seconds(stream.get("end_time")), _seconds(stream.get("timeout_wait")) or 0
        if end is None or lasted_s is None or stream.get("status") == ICE:
            continue
        ends.append(max(0, min(end, lasted_s) - (wait if stream.get("status") in TIMEOUTS else 0)))
    return max(ends, default=lasted_s)


def _info(value: Any) -> Mapping[str, Any] | None:
    if not isinstance(value, str):
        return None
    try:
        told = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return clean(value) if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 < value < SECONDS_MAX else None


def _seconds(value: Any) -> int | None:
    return int(value) if type(value) in (int, float) and 0 <= value < SECONDS_MAX else None
