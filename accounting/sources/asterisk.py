"""Asterisk's cdr_radius -> AccountingEvent: one Stop for each CDR, when its call is over. Pure.

Does not join the CDRs of one channel: pairing does, by Acct-Session-Id.
"""

import re
from datetime import datetime

from accounting.event import AccountingEvent, EventKind, Untranslatable
from accounting.sources.fields import NAS_OFF, NAS_ON, STOP, Plan, Report, Row, Setup
from accounting.sources.sip import nas_event, status_of
from accounting.sources.text import text_of
from accounting.sources.uri import addr_spec, user_part
from accounting.sources.values import duration, flag, integer
from accounting.sources.vendor import (
    agree,
    before,
    microseconds,
    of_vendors,
    plausible,
    reported_at,
    session_event,
    setup_ms,
    uri,
)

DIGIUM = 22736

_ACC_CODE, _SRC, _DST, _CLID, _CHAN, _DST_CHAN = 101, 102, 103, 105, 106, 107
_START_TIME, _ANSWER_TIME, _END_TIME, _BILL_SEC, _DISPOSITION, _UNIQUE_ID = 110, 111, 112, 114, 115, 117

_ANSWERED = "ANSWERED"
_SIP_CODES = {"NO ANSWER": 408, "BUSY": 486, "FAILED": 503, "CONGESTION": 503}
_TIME = re.compile(r"\s*(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)?\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)?\s*")
_CHANNEL = re.compile(r"(?:PJSIP|SIP|IAX2)/(.+)-[0-9a-fA-F]+", re.IGNORECASE)


def translate_asterisk(
    report: Report, vendors: list[bytes], row: Row, setup: Setup, plan: Plan
) -> AccountingEvent | Untranslatable:
    """Return the event of a finished call: complete if it was answered, else failed."""
    status = status_of(report, row, plan)
    if isinstance(status, Untranslatable):
        return status
    if status in (NAS_ON, NAS_OFF):
        return nas_event(EventKind.NAS_ON if status == NAS_ON else EventKind.NAS_OFF, report, row, setup)
    if status != STOP:
        return Untranslatable(row.ref, "unknown_status_type", f"Asterisk sends no Acct-Status-Type {status}")
    told = of_vendors(vendors, (DIGIUM,))
    disposition = text_of(told.get(_DISPOSITION)).strip().upper()
    if not disposition:
        return Untranslatable(row.ref, "bad_attribute", "no Asterisk-Disposition: not a report of Asterisk's")
    call_id = text_of(told.get(_UNIQUE_ID) or report.call_id)
    if not call_id:
        return Untranslatable(row.ref, "no_call_id", "no Asterisk-Unique-ID and no Acct-Session-Id")
    flags: list[str] = []
    billed = duration(integer(told.get(_BILL_SEC), flags), flags)
    if disposition != _ANSWERED and disposition not in _SIP_CODES:
        flag(flags, "unknown_disposition")
        disposition = _ANSWERED if billed else "UNKNOWN"
    if disposition != _ANSWERED:
        return _with_parties(_failed(report, row, setup, told, _SIP_CODES.get(disposition), call_id, flags), told)
    event = _complete(report, row, setup, told, billed, call_id, flags)
    return event if isinstance(event, Untranslatable) else _with_parties(event, told)


def channel_peer(channel: str) -> str:
    """Return the endpoint of a channel: alice of PJSIP/alice-0000002a; "" for channels that name none."""
    found = _CHANNEL.fullmatch(channel)
    return "" if found is None else found[1]


def _complete(
    report: Report, row: Row, setup: Setup, told: dict[int, bytes], billed: int | None, call_id: str, flags: list[str]
) -> AccountingEvent | Untranslatable:
    answered_us = _time(told.get(_ANSWER_TIME), row, flags)
    ended_us = _time(told.get(_END_TIME), row, flags)
    clocked = None if answered_us is None or ended_us is None else (ended_us - answered_us) // 1000
    length_ms = billed if billed is not None else clocked
    if length_ms is None:
        return Untranslatable(
            row.ref, "bad_attribute", "an answered call without Asterisk-Bill-Sec and without its times"
        )
    if clocked is not None and not agree(clocked, length_ms // 1000):
        flag(flags, "duration_mismatch")
    timed = True
    if answered_us is None:
        if ended_us is None:
            ended_us, timed = reported_at(report, row, flags)
        answered_us = before(ended_us, length_ms)
    created_us = _created(told, row, answered_us, flags)
    return session_event(report, row, setup, EventKind.COMPLETE, answered_us, timed, call_id, flags)._replace(
        duration_ms=length_ms, created_us=created_us, setup_ms=setup_ms(created_us, answered_us)
    )


def _failed(
    report: Report, row: Row, setup: Setup, told: dict[int, bytes], code: int | None, call_id: str, flags: list[str]
) -> AccountingEvent:
    ended_us, timed = _time(told.get(_END_TIME), row, flags), True
    if ended_us is None:
        ended_us, timed = reported_at(report, row, flags)
    created_us = _created(told, row, ended_us, flags)
    return session_event(report, row, setup, EventKind.FAILED, ended_us, timed, call_id, flags)._replace(
        sip_code=code, created_us=created_us
    )


def _created(told: dict[int, bytes], row: Row, until_us: int, flags: list[str]) -> int | None:
    created_us = _time(told.get(_START_TIME), row, flags)
    return created_us if created_us is not None and created_us <= until_us else None


def _with_parties(event: AccountingEvent, told: dict[int, bytes]) -> AccountingEvent:
    """Return the event with who called whom. The channel's endpoint was authenticated; Src is the caller's word."""
    caller = text_of(told.get(_SRC)) or addr_spec(text_of(told.get(_CLID)))
    called = text_of(told.get(_DST))
    return event._replace(
        caller_uri=caller,
        called_uri=called,
        translated_uri=uri(user_part(called), channel_peer(text_of(told.get(_DST_CHAN)))),
        auth_user=channel_peer(text_of(told.get(_CHAN))),
        billing_party=text_of(told.get(_ACC_CODE)),
        from_user=user_part(caller),
    )


def _time(value: bytes | None, row: Row, flags: list[str]) -> int | None:
    """Return a written time; one without a zone is UTC, which is Asterisk's default. 1970 means: never."""
    if value is None:
        return None
    found = _TIME.fullmatch(text_of(value))
    zone = "" if found is None or found[3] in (None, "Z", "UTC", "GMT") else found[3]
    try:
        moment = None if found is None else datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}")
    except ValueError:
        moment = None
    if moment is None:
        flag(flags, "bad_timestamp")
        return None
    return None if moment.year <= 1970 else plausible(microseconds(moment), row.received_us, flags)
