"""rtpengine's CDR lines, as syslog carries them -> AccountingEvent: when the last packet of a call's media came. Pure.

Never says that a call began or ended; pairing draws what follows. The ends that rtpengine dates itself are not used:
they hold its timeout.
"""

import re
from collections.abc import Mapping, Sequence

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.sources.fields import Row, stamp
from accounting.sources.text import text_of
from accounting.sources.values import DAY_US, SECOND_US, YEAR_2000_US, peer_address

PEER_BYTES = 18  # of a line that came over the network; a file's rows tell their place in it instead
_PADDING = b"\x00\r\n "  # what syslog daemons add or take away at the end
_BEGIN = re.compile(rb"(?:^|[\s:\]])ci=")
_TIME = re.compile(r"(\d{1,12})(?:\.(\d{1,6})\d*)?")
_STREAM = re.compile(r"((ml\d+)_midx\d+_rtp)_last_packet")
_LEG = re.compile(r"(ml\d+)_termination")

Fields = Mapping[str, str]


def is_cdr_line(line: bytes) -> bool:
    """Return whether a line of syslog is one of rtpengine's CDRs."""
    return _BEGIN.search(line) is not None and b", created_from=" in line


def translate_rtpengine(row: Row, source: Source) -> AccountingEvent | Untranslatable:
    """Return the event of one line: its end is the last RTP packet of all streams, None if none had any."""
    fields = _fields(row.raw)
    call_id = fields.get("ci", "")
    if not call_id:
        return Untranslatable(row.ref, "no_call_id", "no ci= in a line of rtpengine")
    legs = [match[1] for key in fields if (match := _LEG.fullmatch(key))]
    if not legs:
        return Untranslatable(row.ref, "bad_line", "no leg (ml0_...) in a line of rtpengine; was it cut short?")
    caller = next((leg for leg in legs if fields.get(f"{leg}_local_tag_type") == "FROM_TAG"), legs[0])
    is_cut = not row.raw.rstrip(_PADDING).endswith(b",")  # and perhaps the stream that lasted longest with it
    packets = _last_packets(fields, row.received_us)
    ended_us = None if is_cut else max(packets.values(), default=None)
    closed_us = max((us for leg in legs if (us := _time_us(fields, f"{leg}_end_time", row.received_us))), default=None)
    at_us = ended_us or closed_us
    return AccountingEvent(
        *stamp(row, source, EventKind.MEDIA, row.received_us if at_us is None else at_us),
        call_id=call_id,
        from_tag=fields.get(f"{caller}_local_tag", ""),
        to_tag=_callee_tag(fields, legs, caller, packets),
        nas=peer_address(row.peer) if len(row.peer) == PEER_BYTES else "",
        timed=at_us is not None,
        media_info=", ".join(dict.fromkeys(fields[f"{leg}_termination"] for leg in legs)),
        ended_us=ended_us,
        flags=("line_cut",) if is_cut else (),
    )


def _fields(raw: bytes) -> dict[str, str]:
    """Return `key=value` of a line by key, the first of each. What does not end in a comma was cut, and left out."""
    begin = _BEGIN.search(raw)
    if begin is None:
        return {}
    text = raw[begin.end() - len(b"ci=") :].rstrip(_PADDING)
    parts = text.split(b", ")
    if not text.endswith(b","):
        parts.pop()
    fields: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition(b"=")
        if equals and key:
            fields.setdefault(text_of(key), text_of(value.removesuffix(b",")))
    return fields


def _callee_tag(fields: Fields, legs: Sequence[str], caller: str, packets: Mapping[str, int]) -> str:
    """Return the tag of the other leg; where a call was forked, of the one that had a packet last."""
    tags = {leg: fields.get(f"{leg}_local_tag", "") for leg in legs if leg != caller}
    others = [(packets.get(leg, 0), leg) for leg, tag in tags.items() if tag]
    return tags[max(others)[1]] if others else fields.get(f"{caller}_remote_tag", "")


def _last_packets(fields: Fields, received_us: int) -> dict[str, int]:
    """Return by leg when its last RTP packet came. A stream without packets tells its own beginning there."""
    last: dict[str, int] = {}
    for key in fields:
        stream = _STREAM.fullmatch(key)
        if stream is None or not fields.get(f"{stream[1]}_relayed_packets", "0").strip("0"):
            continue
        us = _time_us(fields, key, received_us)
        if us is not None:
            last[stream[2]] = max(us, last.get(stream[2], 0))
    return last


def _time_us(fields: Fields, key: str, received_us: int) -> int | None:
    """Return a time that lies between 2000-01-01 and a day after arrival, else None."""
    found = _TIME.fullmatch(fields.get(key, ""))
    if found is None:
        return None
    at_us = int(found[1]) * SECOND_US + int((found[2] or "").ljust(6, "0"))
    return at_us if YEAR_2000_US <= at_us <= received_us + DAY_US else None
