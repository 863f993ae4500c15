"""FreeSWITCH's mod_radius_cdr -> AccountingEvent: a Stop for each finished leg. Pure.

Its Start is sent when the leg is routed, before any answer: it says nothing of a call's beginning.
"""

import re
from datetime import datetime, timedelta

from accounting.event import AccountingEvent, EventKind, Untranslatable
from accounting.radius.attributes import Malformed, attributes
from accounting.sources.fields import FAILED, NAS_OFF, NAS_ON, STOP, Plan, Report, Row, Setup
from accounting.sources.sip import nas_event, status_of
from accounting.sources.text import text_of
from accounting.sources.values import SECOND_US, duration_ms, flag, integer, is_own, packed_address
from accounting.sources.vendor import (
    before,
    microseconds,
    of_vendors,
    plausible,
    reported_at,
    session_event,
    setup_ms,
    sip_of_cause,
    whole_seconds,
)

FREESWITCH = 27880

_SRC, _DST, _ANI, _HANGUP_CAUSE, _BILL_US = 4, 5, 8, 13, 15
_START_DATE, _ANSWER_DATE, _END_DATE, _DIRECTION = 20, 21, 23, 24
_FRAMED_IP = 8  # a standard attribute: the caller's address
_WRAP_US = 1 << 32  # Billusec is the low 32 bits of microseconds: it begins anew every 71 minutes

# Causes that are FreeSWITCH's own, beyond Q.850; the rest is as RFC 3398 has it
_OWN_CAUSES = {
    487: 487, 500: 500, 501: 503, 502: 487, 602: 408, 605: 487, 606: 480, 607: 408, 608: 404, 609: 503, 610: 404,
    611: 404, 612: 480, 615: 600, 616: 603, 617: 604, 618: 606,
}  # fmt: skip
_CAUSE_NAMES = {
    "UNALLOCATEDNUMBER": 1, "NOROUTETRANSITNET": 2, "NOROUTEDESTINATION": 3, "NORMALCLEARING": 16, "USERBUSY": 17,
    "NOUSERRESPONSE": 18, "NOANSWER": 19, "SUBSCRIBERABSENT": 20, "CALLREJECTED": 21, "NUMBERCHANGED": 22,
    "DESTINATIONOUTOFORDER": 27, "INVALIDNUMBERFORMAT": 28, "NORMALUNSPECIFIED": 31, "NORMALCIRCUITCONGESTION": 34,
    "NETWORKOUTOFORDER": 38, "NORMALTEMPORARYFAILURE": 41, "SWITCHCONGESTION": 42, "SERVICEUNAVAILABLE": 63,
    "RECOVERYONTIMEREXPIRE": 102, "INTERWORKING": 127, "ORIGINATORCANCEL": 487, "LOSERACE": 502,
    "ALLOTTEDTIMEOUT": 602, "PICKEDOFF": 605, "USERNOTREGISTERED": 606, "PROGRESSTIMEOUT": 607, "NOPICKUP": 612,
}  # fmt: skip
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\s*(?:Z|([+-]\d\d)(:?[-\d]*))?")
# The module writes what is left of the offset's hour in seconds, and room for only two signs of it
_OFFSET_MINUTES = {
    "": 0, "0": 0, "00": 0, "15": 15, "30": 30, "45": 45, "18": 30, "27": 45, "90": 15, "-1": 30, "-2": 45, "-9": 15,
    "1800": 30, "2700": 45, "900": 15, "-1800": 30, "-2700": 45, "-900": 15,
}  # fmt: skip


def translate_freeswitch(
    report: Report, vendors: list[bytes], row: Row, setup: Setup, plan: Plan
) -> AccountingEvent | Untranslatable:
    """Return the event of a leg: complete if it was answered, else failed; of a Start, one that tells nothing."""
    status = status_of(report, row, plan)
    if isinstance(status, Untranslatable):
        return status
    if status in (NAS_ON, NAS_OFF):
        return nas_event(EventKind.NAS_ON if status == NAS_ON else EventKind.NAS_OFF, report, row, setup)
    if status == FAILED:
        return Untranslatable(row.ref, "unknown_status_type", f"FreeSWITCH sends no Acct-Status-Type {status}")
    told = of_vendors(vendors, (FREESWITCH,))
    if not told:
        return Untranslatable(row.ref, "bad_attribute", "no attribute of FreeSWITCH's: not a report of its")
    call_id = text_of(report.call_id)
    if not call_id:
        return Untranslatable(row.ref, "no_call_id", "no Acct-Session-Id on a report of a call")
    flags: list[str] = []
    if status != STOP:
        at_us, timed = reported_at(report, row, flags)
        event = session_event(report, row, setup, EventKind.OTHER, at_us, timed, call_id, flags)
    else:
        event = _finished(report, row, setup, told, call_id, flags)
    return _with_parties(event, report, row, setup, told)


def _finished(
    report: Report, row: Row, setup: Setup, told: dict[int, bytes], call_id: str, flags: list[str]
) -> AccountingEvent:
    answered_us = _date(told.get(_ANSWER_DATE), row, flags)
    ended_us = _date(told.get(_END_DATE), row, flags)
    created_us = _date(told.get(_START_DATE), row, flags)
    length_us = _billed_us(report, told, answered_us, ended_us, flags)
    timed = True
    if ended_us is None:
        ended_us, timed = reported_at(report, row, flags)
    if answered_us is None and not length_us:
        code = _sip_code(told.get(_HANGUP_CAUSE), flags)
        event = session_event(report, row, setup, EventKind.FAILED, ended_us, timed, call_id, flags)
        is_possible = created_us is not None and created_us <= ended_us
        return event._replace(sip_code=code, created_us=created_us if is_possible else None)
    length_ms = duration_ms(length_us // 1000, flags)
    if answered_us is None:  # old releases send no dates
        answered_us = before(ended_us, length_ms)
    else:
        timed = True
    event = session_event(report, row, setup, EventKind.COMPLETE, answered_us, timed, call_id, flags)
    return event._replace(
        duration_ms=length_ms,
        created_us=created_us if created_us is not None and created_us <= answered_us else None,
        setup_ms=setup_ms(created_us, answered_us),
    )


def _billed_us(
    report: Report, told: dict[int, bytes], answered_us: int | None, ended_us: int | None, flags: list[str]
) -> int:
    """Return the billed time: Billusec, with the turns that it lost as Acct-Session-Time or the dates tell them."""
    low_us = integer(told.get(_BILL_US), flags)
    seconds = integer(report.session_time, flags)
    clocked = None
    if answered_us is not None and ended_us is not None and ended_us >= answered_us:
        clocked = ended_us - answered_us
    if low_us is None:
        if seconds is not None:
            is_same = clocked is not None and whole_seconds(clocked) == seconds
            return clocked if clocked is not None and is_same else seconds * SECOND_US
        return clocked or 0
    about_us = seconds * SECOND_US if seconds is not None else clocked
    if about_us is None:
        return low_us
    turns = max(0, (about_us - low_us + _WRAP_US // 2) // _WRAP_US)
    exact_us = low_us + turns * _WRAP_US
    if seconds is None or whole_seconds(exact_us) == seconds:
        return exact_us
    flag(flags, "duration_mismatch")
    return seconds * SECOND_US


def _with_parties(
    event: AccountingEvent, report: Report, row: Row, setup: Setup, told: dict[int, bytes]
) -> AccountingEvent:
    """Return the event with who called whom. User-Name is the user of the From, authenticated or not.

    A leg that FreeSWITCH itself made is the outer leg of a call that its inbound leg tells, and sells nothing.
    """
    is_outbound = text_of(told.get(_DIRECTION)).strip().lower() == "outbound"
    source_ip = "" if is_outbound else _caller_address(row)
    return event._replace(
        role="egress" if is_outbound else event.role,
        caller_uri=text_of(told.get(_SRC) or told.get(_ANI) or report.calling),
        called_uri=text_of(told.get(_DST) or report.called),
        from_user=text_of(report.user),
        source_ip=source_ip,
        source_is_own=is_own(source_ip, setup),
    )


def _caller_address(row: Row) -> str:
    found = attributes(row.raw)
    if isinstance(found, Malformed):
        return ""
    return next((packed_address(value) for number, value in found if number == _FRAMED_IP), "")


def _sip_code(value: bytes | None, flags: list[str]) -> int | None:
    """Return the SIP code of a Hangupcause: a number, its digits or its name."""
    if value is None:
        return None
    if value.isdigit() and len(value) <= 4:
        cause = int(value)
    elif len(value) == 4 and value[0] == 0:
        cause = int.from_bytes(value)
    else:
        name = re.sub(r"[^A-Z]", "", text_of(value).upper())
        cause = _CAUSE_NAMES.get(name, 0)
        if not cause:
            flag(flags, "unknown_cause")
    return _OWN_CAUSES.get(cause) or sip_of_cause(cause)


def _date(value: bytes | None, row: Row, flags: list[str]) -> int | None:
    """Return a written date with its offset; one without an offset is UTC. 1970 means: never."""
    if value is None:
        return None
    found = _DATE.fullmatch(text_of(value).strip())
    if found is None:
        flag(flags, "bad_timestamp")
        return None
    try:
        at_us = microseconds(datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00"))
    except ValueError:
        flag(flags, "bad_timestamp")
        return None
    if at_us < 2 * 86_400 * SECOND_US:
        return None
    if found[4]:
        rest = found[5].removeprefix(":")
        if rest not in _OFFSET_MINUTES:
            flag(flags, "bad_timestamp")
            return None
        hours = int(found[4])
        minutes = _OFFSET_MINUTES[rest] if found[4][0] == "+" else -_OFFSET_MINUTES[rest]
        at_us -= timedelta(hours=hours, minutes=minutes) // timedelta(microseconds=1)
    return plausible(at_us + int((found[3] or "0").ljust(6, "0")), row.received_us, flags)
