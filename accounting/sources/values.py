"""Values of attributes: octets -> numbers, addresses, instants, with a flag for each that cannot be true. Pure."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from accounting.sources.fields import Setup
from accounting.sources.text import text_of

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
YEAR_2000_US = 946_684_800 * SECOND_US
OLD_US = 7 * DAY_US  # an older report is legal (a replay), and told
DELAY_MAX_S = 86_400
ABSURD_MS = 1 << 31  # 24.8 days: a uint32 of milliseconds that would be negative, as after a clock stepped back
ADDRESSES_CACHED = 4096

_TEXT_TIME = re.compile(rb"\s*(\d{1,12})(?:\.(\d{1,9}))?\s*")
_TEXT_ADDRESS = re.compile(rb"[0-9A-Fa-f:.]+")


def integer(value: bytes | None, flags: list[str]) -> int | None:
    """Return a 4-octet number; None if absent, None and flagged bad_integer if of another length."""
    if value is None:
        return None
    if len(value) == 4:
        return int.from_bytes(value)
    flag(flags, "bad_integer")
    return None


def duration(seconds: int | None, flags: list[str]) -> int | None:
    """Return seconds as ms. An absurd length is kept as it came, and flagged: pairing makes an exception of it."""
    return None if seconds is None else duration_ms(seconds * 1000, flags)


def duration_ms(ms: int, flags: list[str]) -> int:
    """Return ms, flagged if absurd."""
    if ms >= ABSURD_MS:
        flag(flags, "absurd_duration")
    return ms


def plausible_us(seconds: int | None, received_us: int) -> int | None:
    """Return a unix time in microseconds if it lies between 2000-01-01 and a day after arrival."""
    if seconds is None:
        return None
    at_us = seconds * SECOND_US
    return at_us if YEAR_2000_US <= at_us <= received_us + DAY_US else None


def event_time(stamp: bytes | None, received_us: int, flags: list[str]) -> int | None:
    """Return Event-Timestamp in epoch microseconds, or None where it is absent, unreadable or out of range.

    Four octets of seconds (RFC 2869 section 5.3), or text like `1795504064.487000` (Kamailio's rad_time_mode=1).
    """
    if stamp is None:
        return None
    at_us = int.from_bytes(stamp) * SECOND_US if len(stamp) == 4 else _text_time(stamp)
    if not YEAR_2000_US <= at_us <= received_us + DAY_US:
        flags.append("bad_timestamp")
        return None
    if received_us - at_us > OLD_US:
        flags.append("old_timestamp")
    return at_us


def arrival_time(delay: bytes | None, received_us: int, flags: list[str]) -> int:
    """Return the arrival minus Acct-Delay-Time (RFC 2866 section 5.2); a delay over a day is flagged and not used."""
    seconds = integer(delay, flags) or 0
    if seconds > DELAY_MAX_S:
        flags.append("bad_delay")
        return received_us
    return received_us - seconds * SECOND_US


def address_text(value: bytes | None) -> str:
    """Return an address sent as text or as octets; an IPv6 literal without its brackets."""
    if value is None:
        return ""
    if len(value) in (4, 16) and not _TEXT_ADDRESS.fullmatch(value):
        return packed_address(value)
    text = text_of(value)
    return text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text


@lru_cache(maxsize=ADDRESSES_CACHED)
def packed_address(value: bytes) -> str:
    """Return 4 or 16 octets as an address, an IPv4-mapped one as IPv4; "" for other lengths and for no address."""
    if len(value) == 4:
        address: IPv4Address | IPv6Address = IPv4Address(value)
    elif len(value) == 16:
        address = IPv6Address(value).ipv4_mapped or IPv6Address(value)
    else:
        return ""
    return "" if address.is_unspecified else str(address)


def peer_address(peer: bytes) -> str:
    """Return the address of a journal row's peer: 16 octets and a port, IPv4 as IPv4-mapped IPv6."""
    return packed_address(peer[:16] if len(peer) == 18 else peer)


def is_own(address: str, setup: Setup) -> bool:
    """Return whether an address is one of the proxy's own: the pass of a spiral that it sent to itself."""
    if not address or not (setup.own or setup.own_networks):
        return False
    if address in setup.own:
        return True
    return _is_own_otherwise(address, setup) if setup.own_networks or ":" in address else False


def flag(flags: list[str], name: str) -> None:
    """Add a flag once."""
    if name not in flags:
        flags.append(name)


def _is_own_otherwise(address: str, setup: Setup) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed) in setup.own or any(parsed in network for network in setup.own_networks)


def _text_time(stamp: bytes) -> int:
    """Return a time in text as microseconds, exactly; -1 if it is none."""
    found = _TEXT_TIME.fullmatch(stamp)
    if found is None:
        return -1
    fraction = (found[2] or b"").ljust(6, b"0")[:6]
    return int(found[1]) * SECOND_US + int(fraction)
