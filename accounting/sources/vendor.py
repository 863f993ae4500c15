"""What the dialects of switches and gateways share: their vendors' attributes, written times, causes of release. Pure.

Knows no dialect's numbers; decides nothing about a call.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from accounting.event import AccountingEvent, EventKind
from accounting.radius.attributes import Malformed, vendor_attributes
from accounting.sources.fields import Report, Row, Setup, stamp
from accounting.sources.sip import beside_name, nas_of
from accounting.sources.values import (
    ABSURD_MS,
    DAY_US,
    OLD_US,
    SECOND_US,
    YEAR_2000_US,
    arrival_time,
    event_time,
    flag,
    integer,
)

PARTY_CHARS_MAX = 64  # of the user part of an address that is put together here
MISMATCH_MS = 2_000  # two reports of one duration, one of them in whole seconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_USER = re.compile(r"[0-9A-Za-z+*#._-]+")
_HOST = re.compile(r"[0-9A-Za-z._:-]{1,253}")

# ISUP and Q.850 causes as SIP codes (RFC 3398 section 8.2.6.1); 16 before an answer: the caller gave up
_SIP_OF_CAUSE = {
    1: 404, 2: 404, 3: 404, 16: 487, 17: 486, 18: 408, 19: 480, 20: 480, 21: 403, 22: 410, 23: 410, 26: 404, 27: 502,
    28: 484, 29: 501, 31: 480, 34: 503, 38: 503, 41: 503, 42: 503, 47: 503, 55: 403, 57: 403, 58: 503, 63: 503,
    65: 488, 70: 488, 79: 501, 87: 403, 88: 503, 102: 504, 111: 500, 127: 500,
}  # fmt: skip


def of_vendors(values: Iterable[bytes], vendors: Iterable[int]) -> dict[int, bytes]:
    """Return the attributes of these vendors by number: the first of each that is not empty."""
    found: dict[int, bytes] = {}
    for value in values:
        inner = vendor_attributes(value)
        if isinstance(inner, Malformed) or inner[0] not in vendors:
            continue
        for number, octets in inner[1]:
            if octets:
                found.setdefault(number, octets)
    return found


def sip_of_cause(cause: int | None) -> int | None:
    """Return the SIP code of a Q.850 cause, 500 for one that RFC 3398 does not map; None if there is none."""
    return None if not cause else _SIP_OF_CAUSE.get(cause, 500)


def microseconds(moment: datetime) -> int:
    """Return an instant as epoch microseconds, exactly. A time without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def plausible(at_us: int | None, received_us: int, flags: list[str]) -> int | None:
    """Return a written time if it lies between 2000-01-01 and a day after arrival; else None, flagged unless 0."""
    if not at_us:
        return None
    if YEAR_2000_US <= at_us <= received_us + DAY_US:
        return at_us
    flag(flags, "bad_timestamp")
    return None


def reported_at(report: Report, row: Row, flags: list[str]) -> tuple[int, bool]:
    """Return (when it was reported, whether that is the report's own word): Event-Timestamp, else the arrival."""
    at_us = event_time(report.stamp, row.received_us, flags)
    if at_us is not None:
        return at_us, True
    return arrival_time(report.delay, row.received_us, flags), False


def before(at_us: int, length_ms: int) -> int:
    """Return the instant a duration earlier; an absurd duration takes nothing off."""
    return at_us - length_ms * 1000 if 0 <= length_ms < ABSURD_MS else at_us


def session_event(
    report: Report, row: Row, setup: Setup, kind: EventKind, at_us: int, timed: bool, call_id: str, flags: list[str]
) -> AccountingEvent:
    """Return an event of a session of the report's NAS; the dialect adds what it knows of parties and times."""
    source = setup.source
    terminate_cause = integer(report.terminate_cause, flags)
    if timed and row.received_us - at_us > OLD_US:
        flag(flags, "old_timestamp")
    return AccountingEvent(
        *stamp(row, source, kind, at_us),
        call_id=call_id,
        nas=nas_of(report, row),
        nas_address=beside_name(report),
        is_session=True,
        timed=timed,
        terminate_cause=terminate_cause,
        flags=tuple(flags),
    )


def setup_ms(created_us: int | None, answered_us: int) -> int | None:
    """Return how long the setup took, None if that is not known or not possible."""
    if created_us is None or not 0 <= answered_us - created_us < DAY_US:
        return None
    return (answered_us - created_us) // 1000


def uri(user: str, host: str) -> str:
    """Return a SIP URI of the two; "" where one of them is not such a thing."""
    if len(user) <= PARTY_CHARS_MAX and _USER.fullmatch(user) and _HOST.fullmatch(host):
        return f"sip:{user}@[{host}]" if host.count(":") > 1 else f"sip:{user}@{host}"
    return ""


def agree(one_ms: int, seconds: int) -> bool:
    """Return whether a duration is the same as one in whole seconds."""
    return abs(one_ms - seconds * 1000) <= MISMATCH_MS


def whole_seconds(us: int) -> int:
    """Return begun microseconds as complete seconds."""
    return us // SECOND_US
