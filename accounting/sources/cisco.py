"""Cisco gateways, and others that send Cisco's h323 attributes -> AccountingEvent: a report of one leg each. Pure.

Does not join the legs of a call: pairing does, for all of them bear the call's h323-conf-id.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from accounting.event import AccountingEvent, EventKind, Untranslatable
from accounting.sources.fields import FAILED, NAS_OFF, NAS_ON, STOP, Plan, Report, Row, Setup
from accounting.sources.sip import nas_event, status_of
from accounting.sources.text import text_of
from accounting.sources.uri import user_part
from accounting.sources.values import DAY_US, address_text, duration, flag, integer
from accounting.sources.vendor import (
    agree,
    before,
    microseconds,
    of_vendors,
    plausible,
    reported_at,
    session_event,
    setup_ms,
    sip_of_cause,
    uri,
)

CISCO = 9
OLDER = 4923  # older gateways of other makers: the same numbers, but causes in decimal

AV_PAIR, NAS_PORT = 1, 2
_FIELDS = {
    "h323-remote-address": 23,
    "h323-conf-id": 24,
    "h323-setup-time": 25,
    "h323-call-origin": 26,
    "h323-call-type": 27,
    "h323-connect-time": 28,
    "h323-disconnect-time": 29,
    "h323-disconnect-cause": 30,
    "h323-incoming-conf-id": 35,
}
_CONF_ID = re.compile(r"[0-9A-Fa-f]{1,8}( +[0-9A-Fa-f]{1,8}){3}")
_CLOCK = re.compile(r"([*.]?)(\d{1,2}:\d\d:\d\d)(?:\.(\d{1,6}))?")
_DAYS = frozenset(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d\d)?")
# Names that operators give their clocks, in hours east of Greenwich. Names of several zones (IST, CST of China) are
# read as North America and Europe use them, or not at all.
_ZONES = {
    "UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "MET": 1, "CEST": 2, "MEST": 2, "EET": 2,
    "EEST": 3, "MSK": 3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "AKST": -9, "AKDT": -8, "HST": -10, "JST": 9, "KST": 9, "SGT": 8, "HKT": 8, "AEST": 10, "AEDT": 11, "NZST": 12,
    "NZDT": 13,
}  # fmt: skip


class _Moment(NamedTuple):
    """A gateway's written time."""

    local_us: int  # as if the zone were UTC: good for differences
    us: int | None  # None if the zone is not known
    is_set: bool  # False: the gateway itself doubts its clock


class _Times(NamedTuple):
    """The times of a leg; None where they are not told."""

    setup: _Moment | None
    connect: _Moment | None
    disconnect: _Moment | None


def translate_cisco(
    report: Report, vendors: list[bytes], row: Row, setup: Setup, plan: Plan
) -> AccountingEvent | Untranslatable:
    """Return the event of a leg: of a Stop, complete or failed; of others, a start if they tell when it connected."""
    status = status_of(report, row, plan)
    if isinstance(status, Untranslatable):
        return status
    if status in (NAS_ON, NAS_OFF):
        return nas_event(EventKind.NAS_ON if status == NAS_ON else EventKind.NAS_OFF, report, row, setup)
    if status == FAILED:
        return Untranslatable(row.ref, "unknown_status_type", f"a gateway sends no Acct-Status-Type {status}")
    told = _told(vendors)
    call_id = _conf_id(told)
    if not call_id:
        return Untranslatable(row.ref, "no_call_id", "no h323-conf-id: the legs of its call cannot be joined")
    flags: list[str] = []
    times = _Times(*(_moment(told.get(f"h323-{name}-time"), flags) for name in ("setup", "connect", "disconnect")))
    if status == STOP:
        event = _finished(report, row, setup, told, times, call_id, flags)
    else:
        event = _going(report, row, setup, times, call_id, flags)
    return _with_parties(event, report, told)


def _going(report: Report, row: Row, setup: Setup, times: _Times, call_id: str, flags: list[str]) -> AccountingEvent:
    """Return the event of a Start or update. A gateway sends a Start when the leg is set up, answered or not."""
    at_us, timed = reported_at(report, row, flags)
    connect_us = _instant(times.connect, row, at_us, flags)
    if connect_us is None:
        return session_event(report, row, setup, EventKind.OTHER, at_us, timed, call_id, flags)
    return _dated(session_event(report, row, setup, EventKind.START, connect_us, True, call_id, flags), times, row)


def _finished(
    report: Report, row: Row, setup: Setup, told: dict[str, str], times: _Times, call_id: str, flags: list[str]
) -> AccountingEvent:
    reported_us, timed = reported_at(report, row, flags)
    seconds = integer(report.session_time, flags)
    clocked = _clocked_ms(times)
    length_ms = duration(seconds, flags) if clocked is None else clocked
    is_stepped = False
    if clocked is not None and seconds is not None and not agree(clocked, seconds):
        flag(flags, "duration_mismatch")  # its clock was set in between; the session time is counted
        length_ms, is_stepped = duration(seconds, flags), True
    ended_us = _instant(times.disconnect, row, reported_us, flags)
    connect_us = None if is_stepped else _instant(times.connect, row, reported_us, flags)
    timed = timed or ended_us is not None
    ended_us = reported_us if ended_us is None else ended_us
    if not length_ms:
        code = sip_of_cause(_cause(told, flags))
        event = session_event(report, row, setup, EventKind.FAILED, ended_us, timed, call_id, flags)
        return _dated(event._replace(sip_code=code), times, row)
    answered_us = before(ended_us, length_ms) if connect_us is None else connect_us
    event = session_event(report, row, setup, EventKind.COMPLETE, answered_us, timed, call_id, flags)
    return _dated(event._replace(duration_ms=length_ms), times, row)


def _clocked_ms(times: _Times) -> int | None:
    """Return the time between connect and disconnect, by one clock whatever its zone; 0 if it never connected.

    A leg that was not answered has no connect time, or one that is its disconnect time.
    """
    if times.connect is None or times.disconnect is None:
        return None
    lasted_us = times.disconnect.local_us - times.connect.local_us
    if times.disconnect.us is not None and times.connect.us is not None:  # its zone may change with summer time
        lasted_us = times.disconnect.us - times.connect.us
    return lasted_us // 1000 if lasted_us >= 0 else None


def _dated(event: AccountingEvent, times: _Times, row: Row) -> AccountingEvent:
    """Return the event with the time of its setup, where it is possible."""
    created_us = None if times.setup is None else plausible(times.setup.us, row.received_us, [])
    if created_us is None or created_us > event.at_us:
        return event
    is_answered = event.kind is not EventKind.FAILED
    return event._replace(created_us=created_us, setup_ms=setup_ms(created_us, event.at_us) if is_answered else None)


def _with_parties(event: AccountingEvent, report: Report, told: dict[str, str]) -> AccountingEvent:
    """Return the event with who called whom, and as the leg that it is; without tags, and of no NAS's session."""
    is_answer = told.get("h323-call-origin", "").lower().startswith("answer")
    is_voip = not told.get("h323-call-type", "").lower().startswith("tel")
    remote = address_text(told["h323-remote-address"].encode()) if is_voip and "h323-remote-address" in told else ""
    calling, called, user = text_of(report.calling), text_of(report.called), text_of(report.user)
    source_ip = _without_port(remote) if is_answer else ""
    return event._replace(
        is_session=False,
        leg="answer" if is_answer else "originate",
        caller_uri=calling or user,
        called_uri=called,
        translated_uri="" if is_answer else uri(user_part(called), _without_port(remote)),
        auth_user="" if user == calling else user,  # the calling number stands there too: nobody proved that
        from_user=user_part(calling),
        source_ip=source_ip,
    )


def _without_port(address: str) -> str:
    return address.partition(":")[0] if address.count(":") == 1 else address


def _told(vendors: list[bytes]) -> dict[str, str]:
    """Return the h323 attributes by name; those within a Cisco-AVPair where they do not stand alone."""
    by_number = of_vendors(vendors, (CISCO, OLDER))
    told = {name: _value(name, by_number[number]) for name, number in _FIELDS.items() if number in by_number}
    for octets in vendors:
        pair = text_of(of_vendors([octets], (CISCO,)).get(AV_PAIR))
        name, equals, value = pair.partition("=")
        if equals and name.strip().lower() in _FIELDS:
            told.setdefault(name.strip().lower(), value.strip())
    if not of_vendors(vendors, (CISCO,)).get(_FIELDS["h323-disconnect-cause"]):
        told["cause-base"] = "10" if _FIELDS["h323-disconnect-cause"] in by_number else "16"
    return told


def _value(name: str, octets: bytes) -> str:
    """Return a value without its name, which most gateways repeat before it."""
    text = text_of(octets).strip()
    head, equals, tail = text.partition("=")
    return tail.strip() if equals and head.strip().lower() == name else text


def _conf_id(told: dict[str, str]) -> str:
    """Return the id of the call: four hexadecimal numbers, spelt one way, for gateways differ in zeros and case."""
    text = told.get("h323-conf-id") or told.get("h323-incoming-conf-id") or ""
    if not _CONF_ID.fullmatch(text):
        return text
    return " ".join(word.lstrip("0").upper() or "0" for word in text.split())


def _cause(told: dict[str, str], flags: list[str]) -> int | None:
    """Return the Q.850 cause: hexadecimal by Cisco, decimal by others."""
    text = told.get("h323-disconnect-cause", "")
    if not text:
        return None
    try:
        return int(text[:8], int(told.get("cause-base", "16")))
    except ValueError:
        flag(flags, "unknown_cause")
        return None


def _instant(moment: _Moment | None, row: Row, reported_us: int, flags: list[str]) -> int | None:
    """Return when it was; None where that cannot be told, or where a clock that was never set is a day off."""
    if moment is None or moment.us is None:
        return None
    at_us = plausible(moment.us, row.received_us, flags)
    if at_us is not None and not moment.is_set and abs(at_us - reported_us) > DAY_US:
        return None
    return at_us


def _moment(text: str | None, flags: list[str]) -> _Moment | None:
    """Return a written time like `09:33:37.657 UTC Mon Dec 08 2015`; None, and told, where it is none."""
    words = (text or "").replace(",", " ").split()
    if not words:
        return None
    clock = _CLOCK.fullmatch(words[0])
    rest = [word for word in words[1:] if word[:3].lower() not in _DAYS or len(word) > 3]
    local = _local(clock[2], rest[-3:]) if clock is not None and len(rest) in (3, 4) else None
    if clock is None or local is None:
        flag(flags, "bad_timestamp")
        return None
    if clock[1]:
        flag(flags, "clock_unsynchronised")
    local_us = microseconds(local) + int((clock[3] or "0").ljust(6, "0"))
    offset = _zone(rest[0]) if len(rest) == 4 else None
    if offset is None:
        flag(flags, "unknown_zone")
        return _Moment(local_us, None, not clock[1])
    return _Moment(local_us, local_us - offset // timedelta(microseconds=1), not clock[1])


def _local(clock: str, date: list[str]) -> datetime | None:
    month, day, year = date
    if month[:3].lower() not in _MONTHS or not (day.isascii() and day.isdigit() and year.isascii() and year.isdigit()):
        return None
    hours, minutes, seconds = map(int, clock.split(":"))
    try:
        return datetime(
            int(year), _MONTHS.index(month[:3].lower()) + 1, int(day), hours, minutes, min(seconds, 59), tzinfo=UTC
        )
    except (ValueError, OverflowError):
        return None


def _zone(name: str) -> timedelta | None:
    if name.upper() in _ZONES:
        return timedelta(hours=_ZONES[name.upper()])
    found = _OFFSET.fullmatch(name.upper())
    if found is None:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return offset if found[1] == "+" else -offset
