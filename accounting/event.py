"""What a source reported, in one shape: sources, accounting events, and the keys that calls are found by.

Nothing here reads a wire format; accounting.sources does that. Pure: no I/O of any kind.
"""

from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

SEQ_BITS = 32
"""A writer's seq counts below 2**32; a journal position packs into one BIGINT as `writer << 32 | seq`."""


KEY_CHARS = 64
"""OpenSIPS' acc.callid and FreeRADIUS' radacct.acctsessionid hold no more of a Call-ID."""


class EventKind(StrEnum):
    START = "start"  # an INVITE was answered, or a session began
    STOP = "stop"  # BYE, or a session ended
    FAILED = "failed"  # a final negative answer to an INVITE
    INTERIM = "interim"  # re-INVITE, UPDATE, interim update: the call is alive
    MEDIA = "media"  # a media proxy's word on the streams of a call
    COMPLETE = "complete"  # one record with answer time and duration (cdr mode)
    NAS_ON = "nas_on"  # the client started: its sessions are over
    NAS_OFF = "nas_off"  # the client goes down: its sessions are over
    OPERATOR = "operator"  # an operator's correction (`tollbook cdr close`)
    OTHER = "other"  # MESSAGE, CANCEL, provisional answers: nothing of a call's beginning or end


class Source(NamedTuple):
    """One version of a client's or collector's settings, as they were when its events were journalled.

    `dialects` are tried per packet, in order. `dictionary` is a family name or a dictionary's own text.
    """

    id: int
    name: str
    kind: str = "radius"  # radius | sql | media | operator
    dialects: tuple[str, ...] = ("generic",)
    dictionary: str = ""  # "opensips" | "classic" | text of a dictionary file; "" = by dialect
    role: str = "access"  # access | egress
    rank: int = 1  # 1 is the strongest
    own_addresses: tuple[str, ...] = ()
    identify_by: tuple[str, ...] = ("billing_party", "source_ip", "auth_user")
    country: str = ""  # ISO 3166 alpha-2 of national numbers, "" = numbers must be international
    international_prefix: str = ""
    national_prefix: str = ""
    timezone: str = ""  # of SQL rows: the proxy host's
    columns: tuple[str, ...] = ()  # of SQL rows: "caller=src_user" for each name in the settings' `columns`
    start_on_confirmed: bool = False  # of acc_cdrs: start_time is the answer, not the INVITE


class AccountingEvent(NamedTuple):
    """One report, translated. Text holds the source's bytes, those that are not UTF-8 written as `\\xNN`."""

    ref: int  # journal position, writer << 32 | seq
    kind: EventKind
    at_us: int  # when it happened, epoch microseconds UTC
    received_us: int  # when it was journalled
    source_id: int
    source: str  # the client's name
    rank: int
    role: str
    call_id: str  # Call-ID; Acct-Session-Id where there is no SIP
    from_tag: str = ""
    to_tag: str = ""
    nas: str = ""  # NAS-Identifier, else NAS-IP-Address, else the peer's address
    nas_address: str = ""  # of sessions, NAS_ON and NAS_OFF: its address, for others may know it by that alone
    is_session: bool = False  # a RADIUS session without tags: known by NAS and Acct-Session-Id
    leg: str = ""  # answer | originate: one of several legs of the call that each tell of it (gateways)
    timed: bool = True  # at_us is the event's own time, not the arrival minus the delay
    sip_code: int | None = None
    caller_uri: str = ""
    called_uri: str = ""  # as dialled: original Request-URI where the source has it
    translated_uri: str = ""  # where the proxy sent it
    auth_user: str = ""
    billing_party: str = ""
    from_user: str = ""  # From-derived name: the caller's own word
    source_ip: str = ""
    source_is_own: bool = False  # source_ip is one of the proxy's own addresses: an inner pass
    divert_reason: str = ""
    duration_ms: int | None = None  # of a complete or media record, or Acct-Session-Time
    setup_ms: int | None = None
    created_us: int | None = None  # INVITE time, where told
    media_info: str = ""  # timeout | ICE session | ...
    terminate_cause: int | None = None  # Acct-Terminate-Cause (RFC 2866 5.10)
    reason: str = ""  # an operator's words
    ended_us: int | None = None  # of a media record that dates the end itself: the last packet
    flags: tuple[str, ...] = ()  # oddities worth telling: old_timestamp, bad_timestamp, bad_integer ...


class Untranslatable(NamedTuple):
    """Why a journal row could not become an event: it goes to quarantine with these words."""

    ref: int
    reason: str  # a code: unknown_status_type, no_call_id, bad_attribute, dialect_unsupported ...
    detail: str


def group_key(event: AccountingEvent) -> str:
    """Return what all events of one call share: its Call-ID, or session id where there is no SIP.

    Of a long id only the head that the narrowest accounting tables keep. Several NASes may use one session id. Pairing
    tells such calls apart again.
    """
    return event.call_id if len(event.call_id) <= KEY_CHARS else event.call_id[:KEY_CHARS]


def key_hash(key: str) -> int:
    """Return the 8-byte hash of a group key as a signed integer, for BIGINT columns."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def pack_ref(writer: int, seq: int) -> int:
    """Return a journal position as one integer."""
    return writer << SEQ_BITS | seq


def unpack_ref(ref: int) -> tuple[int, int]:
    """Return (writer, seq) of a packed journal position."""
    return ref >> SEQ_BITS, ref & (1 << SEQ_BITS) - 1
