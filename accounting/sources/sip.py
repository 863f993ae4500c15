"""Reports of SIP proxies (OpenSIPS in transaction and cdr mode, Kamailio) and of generic clients -> AccountingEvent.

Decides per packet; never looks at another packet, and settles nothing that pairing must. Pure.
"""

from accounting.event import AccountingEvent, EventKind, Untranslatable
from accounting.sources.fields import FAILED, INTERIM, NAS_OFF, NAS_ON, START, STOP, Plan, Report, Row, Setup, stamp
from accounting.sources.text import text_of
from accounting.sources.uri import address_of
from accounting.sources.values import (
    ABSURD_MS,
    address_text,
    arrival_time,
    duration,
    duration_ms,
    event_time,
    flag,
    integer,
    is_own,
    packed_address,
    peer_address,
    plausible_us,
)

SETUP_S_MAX = 86_400  # in transaction mode OpenSIPS sends the time of day as the setup time

# Only these bits mean the same in OpenSIPS and Kamailio; beyond them the two disagree (UPDATE is 64 or 2048).
_METHOD_BITS = {0: "", 1: "INVITE", 2: "CANCEL", 4: "ACK", 8: "BYE", 16: "INFO"}
_ASSUMED = {START: "INVITE", STOP: "BYE", FAILED: "INVITE"}
_NAS_KINDS = {NAS_ON: EventKind.NAS_ON, NAS_OFF: EventKind.NAS_OFF}


def translate_call(report: Report, row: Row, setup: Setup, plan: Plan) -> AccountingEvent | Untranslatable:
    """Return the event of a report; of a generic one without tags as that of a RADIUS session."""
    status = status_of(report, row, plan)
    if isinstance(status, Untranslatable):
        return status
    if status in _NAS_KINDS:
        return nas_event(_NAS_KINDS[status], report, row, setup)
    call_id = text_of(report.call_id)
    if not call_id:
        return Untranslatable(row.ref, "no_call_id", "no Acct-Session-Id on a report of a call")
    flags: list[str] = []
    method = method_of(report.method, flags) or _ASSUMED.get(status, "")
    if status == STOP and method == "INVITE" and (report.ms_duration is not None or report.duration is not None):
        return _complete(report, row, setup, call_id, flags)
    code = sip_code(report.code, flags)
    kind = _kind(status, method, code, flags)
    at_us = event_time(report.stamp, row.received_us, flags)
    timed = at_us is not None
    if at_us is None:
        at_us = arrival_time(report.delay, row.received_us, flags)
    is_session = _tell_strangers(report, plan, flags)
    length_ms = duration(integer(report.session_time, flags), flags)
    return _event(report, row, setup, kind, at_us, call_id, flags, timed, code, length_ms, is_session)


def status_of(report: Report, row: Row, plan: Plan) -> int | Untranslatable:
    """Return one of our status numbers."""
    value = report.status
    if value is None:
        return Untranslatable(row.ref, "unknown_status_type", "no Acct-Status-Type")
    if len(value) != 4:
        return Untranslatable(row.ref, "bad_attribute", f"Acct-Status-Type has {len(value)} octets, not 4")
    status = plan.statuses.get(int.from_bytes(value))
    if status is None:
        return Untranslatable(row.ref, "unknown_status_type", f"Acct-Status-Type is {int.from_bytes(value)}")
    return status


def nas_event(kind: EventKind, report: Report, row: Row, setup: Setup) -> AccountingEvent:
    """Return an Accounting-On or -Off: of the NAS, not of a call (its Acct-Session-Id is a dummy)."""
    flags: list[str] = []
    at_us = event_time(report.stamp, row.received_us, flags)
    timed = at_us is not None
    if at_us is None:
        at_us = arrival_time(report.delay, row.received_us, flags)
    source = setup.source
    return AccountingEvent(
        *stamp(row, source, kind, at_us),
        call_id="",
        nas=nas_of(report, row),
        nas_address=nas_address_of(report),
        timed=timed,
        flags=tuple(flags),
    )


def nas_of(report: Report, row: Row) -> str:
    """Return NAS-Identifier, else the NAS's address, else the peer's."""
    if report.nas_id is not None:
        return text_of(report.nas_id)
    return nas_address_of(report) or peer_address(row.peer)


def nas_address_of(report: Report) -> str:
    """Return NAS-IP-Address, else NAS-IPv6-Address, "" if neither is told."""
    for address in (report.nas_ip, report.nas_ipv6):
        if address is not None and (text := packed_address(address)):
            return text
    return ""


def beside_name(report: Report) -> str:
    """Return the NAS's address if it is known by a name too: by its address alone a NAS is known in tables."""
    address = nas_address_of(report)
    return address if report.nas_id is not None and text_of(report.nas_id) != address else ""


def method_of(value: bytes | None, flags: list[str]) -> str:
    """Return a Sip-Method by name, "" if absent: four octets of method bits, digits, or the name itself.

    Both forms occur under one number, whatever type the dictionary says. Bits we do not know are "OTHER".
    """
    if value is None:
        return ""
    text = value.strip(b"\x00 ")
    if len(value) == 4:
        name = _METHOD_BITS.get(int.from_bytes(value))
        if name is not None:
            return name
        if not text.isalpha():
            return "OTHER"
    if text.isdigit():
        return _METHOD_BITS.get(int(text), "OTHER")
    if text.isalpha():
        return text.decode("ascii").upper()
    flag(flags, "bad_integer")
    return ""


def sip_code(value: bytes | None, flags: list[str]) -> int | None:
    """Return a final or provisional code, 4 octets or three digits; None if absent, 0 or none of SIP's."""
    if value is None:
        return None
    if len(value) == 4:
        code = int.from_bytes(value)
    elif len(value) == 3 and value.isdigit():
        code = int(value)
    else:
        code = -1
    if 100 <= code <= 699:
        return code
    if code:
        flag(flags, "bad_integer")
    return None


def _kind(status: int, method: str, code: int | None, flags: list[str]) -> EventKind:
    if status == INTERIM:
        return EventKind.INTERIM
    if status == START:
        return EventKind.START if method == "INVITE" else EventKind.OTHER
    if status == STOP:
        if method == "INVITE":  # no proxy sends that without a duration; taken at its status, and told
            flag(flags, "stop_with_invite")
            return EventKind.STOP
        return EventKind.STOP if method == "BYE" else EventKind.OTHER  # a CANCEL ends nothing that was answered
    if method != "INVITE":
        return EventKind.OTHER
    if code is None or code >= 300:
        return EventKind.FAILED
    if code >= 200:
        flag(flags, "failed_2xx")
    return EventKind.OTHER  # early_media=1 reports a 183 before the Start


def _complete(
    report: Report, row: Row, setup: Setup, call_id: str, flags: list[str]
) -> AccountingEvent | Untranslatable:
    """Return the event of a cdr-mode record: Event-Timestamp is the answer, Sip-Response-Code another call's."""
    exact_ms = integer(report.ms_duration, flags)
    rounded_s = integer(report.duration, flags)
    if exact_ms is not None:
        length_ms = duration_ms(exact_ms, flags)
        if rounded_s is not None and abs(rounded_s - -(-exact_ms // 1000)) > 1:
            flag(flags, "duration_mismatch")
    elif rounded_s is not None:
        length_ms = duration_ms(rounded_s * 1000, flags)
    else:
        return Untranslatable(row.ref, "bad_attribute", "the duration of a complete call is not of 4 octets")
    at_us = event_time(report.stamp, row.received_us, flags)
    timed = at_us is not None
    if at_us is None:  # it is sent at the end: the answer was a duration ago
        at_us = arrival_time(report.delay, row.received_us, flags)
        if length_ms < ABSURD_MS:
            at_us -= length_ms * 1000
    return _event(report, row, setup, EventKind.COMPLETE, at_us, call_id, flags, timed, None, length_ms, False)


def _tell_strangers(report: Report, plan: Plan, flags: list[str]) -> bool:
    """Return whether a report is of a session without tags; flag a proxy's packet that has no SIP attribute at all."""
    if report.from_tag is not None or report.to_tag is not None:
        return False
    if plan.dialect == "generic":
        return True
    if report.method is None and report.code is None:
        flags.append("no_sip_attributes")  # its dictionary setting is of another family, most likely
    return False


def _event(
    report: Report,
    row: Row,
    setup: Setup,
    kind: EventKind,
    at_us: int,
    call_id: str,
    flags: list[str],
    timed: bool,
    code: int | None,
    length_ms: int | None,
    is_session: bool,
) -> AccountingEvent:
    source = setup.source
    source_ip = address_text(report.source_ip)
    user = text_of(report.user)  # $Au: of a call that was not authenticated it is the From
    calling = text_of(report.calling)
    from_header = text_of(report.from_header)
    setup_s = integer(report.setup, flags)
    created_us = plausible_us(integer(report.created, flags), row.received_us)
    terminate_cause = integer(report.terminate_cause, flags)
    return AccountingEvent(
        *stamp(row, source, kind, at_us),
        call_id=call_id,
        from_tag=text_of(report.from_tag),
        to_tag=text_of(report.to_tag),
        nas=nas_of(report, row),
        nas_address=beside_name(report) if is_session else "",
        is_session=is_session,
        timed=timed,
        sip_code=code,
        caller_uri=calling or user or from_header,
        called_uri=text_of(report.canonical) or text_of(report.called),
        translated_uri=text_of(report.translated),
        auth_user=user,
        billing_party=text_of(report.billing_party),
        from_user=address_of(from_header or calling),
        source_ip=source_ip,
        source_is_own=is_own(source_ip, setup),
        divert_reason=text_of(report.divert_reason),
        duration_ms=length_ms,
        setup_ms=None if setup_s is None or setup_s >= SETUP_S_MAX else setup_s * 1000,
        created_us=created_us,
        terminate_cause=terminate_cause,
        flags=tuple(flags),
    )
