"""Rows of SQL accounting (acc, missed_calls, acc_cdrs, radacct), journalled as JSON -> AccountingEvent.

Decides per row; what only a second row tells is left to pairing. Pure.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.sources.fields import Row, Setup, setup_of, stamp
from accounting.sources.localtime import instants
from accounting.sources.media_sessions import media_session
from accounting.sources.text import clean, text_of
from accounting.sources.uri import address_of
from accounting.sources.values import DAY_US, OLD_US, SECOND_US, YEAR_2000_US, duration_ms, flag, is_own

SETUP_S_MAX = 86_400  # in transaction mode OpenSIPS writes the time of day into setuptime
_WHOLE = re.compile("[0-9]{1,18}")
_NOT_BARE = re.compile(r"[@<:]")
_AMID_USER = re.compile(r"[;?]")  # of a user part too (RFC 3261 section 25.1, user-unreserved)
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
DEFAULTS: dict[str, tuple[str, ...]] = {
    "caller": ("src_user", "caller"),
    "called": ("dst_ouser", "callee"),
    "translated": ("dst_user",),
    "source_ip": ("src_ip",),
    "time_s": ("time_attr",),
    "time_us": ("time_exten",),
}
"""Columns that the proxies' manuals add by these names: taken where the settings say nothing else."""
CAUSES = {
    "user-request": 1, "lost-carrier": 2, "lost-service": 3, "idle-timeout": 4, "session-timeout": 5, "admin-reset": 6,
    "admin-reboot": 7, "port-error": 8, "nas-error": 9, "nas-request": 10, "nas-reboot": 11,
}  # fmt: skip


class Said(NamedTuple):
    """A row, with what the collector noticed about it."""

    row: Row
    source: Source
    values: Mapping[str, Any]  # by column in lower case
    columns: Mapping[str, str]  # our names -> the table's
    full: frozenset[str]
    fold: int | None
    flags: list[str]

    def text(self, name: str) -> str:
        """Return a value by our name as clean text, '' if there is none."""
        own = self.columns.get(name)
        if own is not None:
            return _plain(self.values.get(own))
        for column in (name, *DEFAULTS.get(name, ())):
            if value := _plain(self.values.get(column)):
                return value
        return ""

    def number(self, name: str) -> int | None:
        """Return a whole number, None if there is none."""
        text = self.text(name).strip()
        return int(text) if _WHOLE.fullmatch(text) else None


def translate_row(row: Row, source: Source) -> AccountingEvent | Untranslatable:
    """Return what a row reports, or why that cannot be told."""
    try:
        read = json.loads(row.raw)
        table, values = read["table"], {name.lower(): value for name, value in read["row"].items()}
        full = frozenset(name.lower() for name in read.get("full", ()))
        translate_table = _TABLES.get(table, _acc)
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        return Untranslatable(row.ref, "bad_row", f"not a collector's row: {type(error).__name__}")
    said = Said(row, source, values, _columns(source.columns), full, read.get("fold"), [])
    found = translate_table(said)
    if isinstance(found, Untranslatable):
        return found
    if not found.call_id:
        return Untranslatable(row.ref, "no_call_id", f"a row of {table} without a Call-ID")
    return found._replace(flags=tuple(said.flags))


@lru_cache(maxsize=1024)
def _columns(settings: tuple[str, ...]) -> dict[str, str]:
    return {name: column.lower() for name, _, column in (one.partition("=") for one in settings)}


# ---- acc and missed_calls


def _acc(said: Said) -> AccountingEvent | Untranslatable:
    at_us = _at(said)
    if isinstance(at_us, Untranslatable):
        return at_us
    method = said.text("method").strip().upper()
    code = said.number("sip_code")
    if code is None or not 100 <= code <= 699:
        code = None
        if said.text("sip_code").strip().strip("0"):
            flag(said.flags, "bad_integer")
    length_ms = _length_ms(said)
    kind = _kind(method, code, length_ms)
    if kind is EventKind.COMPLETE:
        code = None  # the row of a whole call may carry a code that the proxy left over from another (OpenSIPS)
    elif length_ms is not None:
        length_ms = None
    setup_s = said.number("setuptime")
    return _event(said, kind, at_us, code)._replace(
        duration_ms=length_ms,
        setup_ms=setup_s * 1000 if setup_s is not None and setup_s < SETUP_S_MAX else None,
        created_us=_created(said),
    )


def _kind(method: str, code: int | None, length_ms: int | None) -> EventKind:
    if method == "BYE":
        return EventKind.STOP
    if method != "INVITE":
        return EventKind.OTHER  # a CANCEL ends nothing that was answered
    if length_ms is not None:
        return EventKind.COMPLETE
    if code is None or code >= 300:
        return EventKind.FAILED
    return EventKind.START if code >= 200 else EventKind.OTHER


def _length_ms(said: Said) -> int | None:
    """Return the duration of a whole call's row; None in transaction rows, which have zeros there."""
    exact_ms, rounded_s = said.number("ms_duration"), said.number("duration")
    if not exact_ms and not rounded_s:
        return None
    if not exact_ms:
        return duration_ms((rounded_s or 0) * 1000, said.flags)
    if rounded_s and abs(rounded_s - -(-exact_ms // 1000)) > 1:
        flag(said.flags, "duration_mismatch")
    return duration_ms(exact_ms, said.flags)


def _created(said: Said) -> int | None:
    found = instants(said.text("created"), said.source.timezone or "UTC")
    if found is None or not YEAR_2000_US <= found.us <= said.row.received_us + DAY_US:
        return None  # 1970 in transaction rows
    return None if found.later_us is not None else found.us


# ---- acc_cdrs


def _cdrs(said: Said) -> AccountingEvent | Untranslatable:
    """Return a whole call only where start_time is the answer.

    By default start_time is the INVITE: then the row tells when the call ended, and not when it was answered. It is
    the word of a Stop, and never a duration that could be charged.
    """
    start, end = _local(said, "start_time"), _local(said, "end_time")
    length_ms = _thousandths(said.text("duration"))
    if start is None or end is None or length_ms is None:
        return Untranslatable(said.row.ref, "bad_row", "start_time, end_time or duration cannot be read")
    if not length_ms:
        return _event(said, EventKind.FAILED, end, None)
    if said.source.start_on_confirmed:
        return _event(said, EventKind.COMPLETE, start, None)._replace(duration_ms=length_ms)
    flag(said.flags, "duration_includes_ringing")
    return _event(said, EventKind.STOP, end, None)._replace(created_us=start)


def _thousandths(text: str) -> int | None:
    """Return seconds like 4.009 as ms, exactly."""
    whole, _, rest = text.strip().partition(".")
    if not _WHOLE.fullmatch(whole) or (rest and not (rest.isascii() and rest.isdigit())):
        return None
    return int(whole) * 1000 + int(rest.ljust(3, "0")[:3] or "0")


# ---- radacct


def _radacct(said: Said) -> AccountingEvent | Untranslatable:
    """Return what a row says in its present state: open, still alive, or over."""
    said = said._replace(values={name: _unescaped(value) for name, value in said.values.items()})
    values = said.values
    start, update, stop = (_local(said, f"acct{name}time") for name in ("start", "update", "stop"))
    told = said.number("acctsessiontime")
    begun = start if start is not None else stop if stop is not None else update
    if begun is None:
        return Untranslatable(said.row.ref, "bad_row", "no time in the row")
    call_id = _plain(values.get("acctsessionid"))
    if not call_id:
        return Untranslatable(said.row.ref, "no_call_id", "acctsessionid is empty")
    from_tag, to_tag = (_plain(values.get(name)) for name in ("sipfromtag", "siptotag"))
    event = _event(said, EventKind.START, begun, said.number("sipresponsecode"))._replace(
        call_id=call_id,
        from_tag=from_tag,
        to_tag=to_tag,
        is_session=not (from_tag or to_tag),
        nas=(nas := _plain(values.get("nasipaddress"))),
        nas_address=nas,
        caller_uri=said.text("caller") or _plain(values.get("callingstationid")) or _plain(values.get("username")),
        called_uri=said.text("called") or _plain(values.get("calledstationid")),
        auth_user=_plain(values.get("username")),
        terminate_cause=CAUSES.get(_plain(values.get("acctterminatecause")).strip().lower()),
    )
    if stop is not None:
        return _stopped(said, event, start, stop, told)
    if update is not None and start is not None and update > start:
        length_ms = told * 1000 if told else (update - start) // 1000
        return event._replace(kind=EventKind.INTERIM, at_us=update, duration_ms=duration_ms(length_ms, said.flags))
    return event


def _unescaped(value: Any) -> Any:
    """Return a text as it was before FreeRADIUS wrote it: what is not in its safe_characters, + among them, is =2B."""
    if not isinstance(value, str) or "=" not in value:
        return value
    return text_of(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), value.encode("utf-8", "surrogatepass")))


def _stopped(
    said: Said, event: AccountingEvent, start: int | None, stop: int, told: int | None
) -> AccountingEvent | Untranslatable:
    if start is None:
        return event._replace(kind=EventKind.STOP, at_us=stop, duration_ms=told * 1000 if told is not None else None)
    length_ms = told * 1000 if told else (stop - start) // 1000
    if length_ms == 0:  # FreeRADIUS makes this of a record that tells a whole call at once: how long it was, is lost
        flag(said.flags, "duration_lost")
        return event
    return event._replace(kind=EventKind.COMPLETE, duration_ms=duration_ms(length_ms, said.flags))


# ---- media_sessions


def _media_session(said: Said) -> AccountingEvent | Untranslatable:
    if said.full:
        flag(said.flags, "maybe_cut")
    values = {
        name: value if name == "info" and isinstance(value, str) else _plain(value)
        for name, value in said.values.items()
    }
    return media_session(values, said.row, said.source, said.flags)


_TABLES: dict[str, Callable[[Said], AccountingEvent | Untranslatable]] = {
    "acc": _acc,
    "missed_calls": _acc,
    "acc_cdrs": _cdrs,
    "radacct": _radacct,
    "media_sessions": _media_session,
}


# ---- what all share


def _at(said: Said) -> int | Untranslatable:
    """Return when it happened: by the columns of seconds (and microseconds) since 1970 if filled, else by `time`."""
    seconds = said.number("time_s")
    if seconds:
        at_us = seconds * SECOND_US + min(said.number("time_us") or 0, SECOND_US - 1)
        if YEAR_2000_US <= at_us <= said.row.received_us + DAY_US:
            return at_us
        flag(said.flags, "bad_timestamp")
    found = _local(said, "time")
    if found is None:
        return Untranslatable(said.row.ref, "bad_row", f"time is {said.text('time')[:40]!r}")
    return found


def _local(said: Said, name: str) -> int | None:
    """Return a local time in epoch microseconds, None where it is none; tells where it may be another."""
    found = instants(said.text(name), said.source.timezone or "UTC")
    if found is None or found.us < YEAR_2000_US:
        return None
    received_us = said.row.received_us
    if not found.exists:
        flag(said.flags, "nonexistent_hour")
    if found.later_us is not None and found.later_us <= received_us:  # else it was read before the second pass
        flag(said.flags, "ambiguous_hour")
        if said.fold == 1:
            return found.later_us
    if received_us - found.us > OLD_US:
        flag(said.flags, "old_timestamp")
    elif found.us > received_us + DAY_US:
        flag(said.flags, "bad_timestamp")
    return found.us


def _event(said: Said, kind: EventKind, at_us: int, code: int | None) -> AccountingEvent:
    row, source = said.row, said.source
    setup = setup_of(source)
    source_ip = said.text("source_ip").strip("[]")
    caller = _party(said.text("caller"))
    for word, names in (("maybe_cut", ("callid", "acctsessionid")), ("maybe_cut_tag", ("from_tag", "to_tag"))):
        if any(said.columns.get(name, name) in said.full for name in names):
            flag(said.flags, word)
    return AccountingEvent(
        *stamp(row, source, kind, at_us),
        call_id=said.text("callid"),
        from_tag=said.text("from_tag"),
        to_tag=said.text("to_tag"),
        sip_code=code,
        caller_uri=caller,
        called_uri=_party(said.text("called")),
        translated_uri=_party(said.text("translated")),
        auth_user=_party(said.text("auth_user")),
        billing_party=said.text("billing_party"),
        from_user=_party(address_of(_party(said.text("from_user")) or caller)),
        source_ip=source_ip,
        source_is_own=isinstance(setup, Setup) and is_own(source_ip, setup),
        divert_reason=said.text("divert_reason"),
    )


def _party(text: str) -> str:
    """Return a URI as it is; a bare user with an @ behind it where it would else be cut at what a user may hold."""
    return text if _NOT_BARE.search(text) or not _AMID_USER.search(text) else f"{text}@"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value if value.isprintable() else clean(value)
    if isinstance(value, dict):
        try:
            return text_of(bytes.fromhex(value["hex"]))
        except (KeyError, TypeError, ValueError):
            return ""
    return "" if value is None or isinstance(value, list | bool) else str(value)
