"""Which attribute numbers of a source hold what a report needs, compiled once per version of its settings.

Knows names and numbers only; what a value means is for the dialects. Reads the packaged dictionaries, otherwise pure.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Protocol

from accounting.event import EventKind, Source
from accounting.radius.attributes import Malformed, pick, vendor_attributes
from accounting.radius.dictionary import DecodeTable, DictionaryError, Number, decode_table

SETUPS_MAX = 1024  # source versions kept compiled

SIP_DIALECTS = ("opensips", "kamailio")
VENDOR_DIALECTS = {9: "cisco", 4923: "cisco", 22736: "asterisk", 27880: "freeswitch"}
"""Whose attributes mark a packet as of a dialect that is told by its vendor."""
TRANSLATED_DIALECTS = frozenset((*SIP_DIALECTS, "mediaproxy", "generic", *VENDOR_DIALECTS.values()))

START, STOP, INTERIM, NAS_ON, NAS_OFF, FAILED = 1, 2, 3, 7, 8, 15


class Row(Protocol):
    """A journal row, as far as translation needs it."""

    @property
    def ref(self) -> int: ...
    @property
    def received_us(self) -> int: ...
    @property
    def peer(self) -> bytes: ...
    @property
    def raw(self) -> bytes: ...


def stamp(row: Row, source: Source, kind: EventKind, at_us: int) -> tuple[int, EventKind, int, int, int, str, int, str]:
    """Return the first fields of an AccountingEvent, those that its row and its source tell of every event."""
    return row.ref, kind, at_us, row.received_us, source.id, source.name, source.rank, source.role


class Report(NamedTuple):
    """The attributes of one datagram that matter here, as octets; None where absent or empty."""

    unused: bytes | None  # slot 0 marks what is not wanted
    status: bytes | None
    call_id: bytes | None
    from_tag: bytes | None
    to_tag: bytes | None
    method: bytes | None
    code: bytes | None
    stamp: bytes | None
    delay: bytes | None
    user: bytes | None
    calling: bytes | None
    called: bytes | None
    canonical: bytes | None
    translated: bytes | None
    source_ip: bytes | None
    billing_party: bytes | None
    divert_reason: bytes | None
    from_header: bytes | None
    duration: bytes | None
    ms_duration: bytes | None
    setup: bytes | None
    created: bytes | None
    session_time: bytes | None
    terminate_cause: bytes | None
    media_info: bytes | None
    media_codecs: bytes | None
    user_agents: bytes | None
    nas_id: bytes | None
    nas_ip: bytes | None
    nas_ipv6: bytes | None


class Plan(NamedTuple):
    """How packets of one dialect and dictionary are read."""

    dialect: str
    slots: bytes
    vendor_slots: Mapping[tuple[int, int], int]
    statuses: Mapping[int, int]  # the dictionary's Acct-Status-Type numbers -> ours


class Setup(NamedTuple):
    """A source, compiled."""

    source: Source
    plans: tuple[Plan, ...]  # of the dialects that are translated, in the order of the settings
    vendors: Mapping[int, str]  # whose attributes mark which of the dialects
    own: frozenset[str]
    own_networks: tuple[IPv4Network | IPv6Network, ...]


# Standard attributes: the same in every dictionary (RFC 2865, 2866, 2869, 3162).
_STANDARD = {
    "user": 1,
    "nas_ip": 4,
    "called": 30,
    "calling": 31,
    "nas_id": 32,
    "status": 40,
    "delay": 41,
    "call_id": 44,
    "session_time": 46,
    "terminate_cause": 49,
    "stamp": 55,
    "nas_ipv6": 95,
}

# By name in the source's dictionary. The number counts where a dictionary gives the name none and the number no other
# name: proxies send these by the classic family's numbers whatever family their Sip-Method is of.
_NAMED: dict[str, tuple[int, tuple[str, ...]]] = {
    "method": (0, ("sip-method",)),
    "code": (0, ("sip-response-code",)),
    "from_tag": (0, ("sip-from-tag",)),
    "to_tag": (0, ("sip-to-tag",)),
    "translated": (107, ("sip-translated-request-uri", "sip-translated-request-id")),
    "source_ip": (214, ("source-ip", "sip-source-ip-address")),
    "canonical": (216, ("canonical-uri",)),
    "billing_party": (218, ("billing-party",)),
    "divert_reason": (219, ("divert-reason",)),
    "from_header": (221, ("from-header",)),
    "duration": (227, ("sip-call-duration",)),
    "setup": (228, ("sip-call-setuptime",)),
    "created": (229, ("sip-call-created",)),
    "ms_duration": (230, ("sip-call-msduration",)),
    "media_codecs": (233, ("media-codecs",)),
    "media_info": (234, ("media-info",)),
    "user_agents": (235, ("sip-user-agents",)),
}

_STATUS_NAMES = {
    "Start": START,
    "Stop": STOP,
    "Interim-Update": INTERIM,
    "Alive": INTERIM,
    "Accounting-On": NAS_ON,
    "Accounting-Off": NAS_OFF,
    "Failed": FAILED,
}


@lru_cache(maxsize=SETUPS_MAX)
def setup_of(source: Source) -> Setup | DictionaryError:
    """Return a source's settings compiled, or what is wrong with its dictionary."""
    try:
        plans = tuple(
            _plan(dialect, decode_table(source.dictionary, dialect))
            for dialect in source.dialects
            if dialect in TRANSLATED_DIALECTS
        )
    except DictionaryError as error:
        return error
    vendors = {vendor: name for vendor, name in VENDOR_DIALECTS.items() if name in source.dialects}
    return Setup(source, plans, vendors, *_own(source.own_addresses))


def read(raw: bytes, plan: Plan) -> tuple[Report, list[bytes]] | Malformed:
    """Return a datagram's report and its Vendor-Specific values."""
    picked = pick(raw, plan.slots, _WIDTH)
    if isinstance(picked, Malformed):
        return picked
    values, vendors = picked
    if plan.vendor_slots and vendors:
        _fill_from_vendors(values, vendors, plan.vendor_slots)
    return Report._make(values), vendors


_WIDTH = len(Report._fields)
_SLOTS = {name: slot for slot, name in enumerate(Report._fields)}


def _fill_from_vendors(values: list[bytes | None], vendors: list[bytes], slots: Mapping[tuple[int, int], int]) -> None:
    for octets in vendors:
        inner = vendor_attributes(octets)
        if isinstance(inner, Malformed):
            continue  # a vendor's own form: legal (RFC 2865 section 5.26)
        vendor, pairs = inner
        for number, value in pairs:
            slot = slots.get((vendor, number), 0)
            if slot and value and values[slot] is None:
                values[slot] = value


def _plan(dialect: str, table: DecodeTable) -> Plan:
    slots = bytearray(256)
    vendor_slots: dict[tuple[int, int], int] = {}
    for field, number in _STANDARD.items():
        slots[number] = _SLOTS[field]
    for field, (default, names) in _NAMED.items():
        place = _place(table, default, names)
        if isinstance(place, tuple):
            vendor_slots[place] = _SLOTS[field]
        elif place and not slots[place]:
            slots[place] = _SLOTS[field]
    return Plan(dialect, bytes(slots), vendor_slots, _statuses(table))


def _place(table: DecodeTable, default: int, names: tuple[str, ...]) -> Number:
    for name in names:
        if name in table.numbers:
            return table.numbers[name]
    return 0 if table.entries[default] is not None else default


def _statuses(table: DecodeTable) -> dict[int, int]:
    """Return status numbers -> ours: a client's dictionary may number Failed, which no RFC knows, as it likes."""
    statuses = {status: status for status in _STATUS_NAMES.values()}
    entry = table.entries[_STANDARD["status"]]
    if entry is not None:
        statuses |= {number: _STATUS_NAMES[name] for name, number in entry.values.items() if name in _STATUS_NAMES}
    return statuses


def _own(addresses: tuple[str, ...]) -> tuple[frozenset[str], tuple[IPv4Network | IPv6Network, ...]]:
    names, networks = set(addresses), []
    for address in addresses:
        try:
            if "/" in address:
                networks.append(ip_network(address, strict=False))
            else:
                names.add(str(ip_address(address.strip("[]"))))
        except ValueError:
            continue  # a name: compared as it is written
    return frozenset(names), tuple(networks)
