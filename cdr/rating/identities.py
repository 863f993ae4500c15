"""Identities as people write them, brought to the one form that the directory compares.

Pure. What cannot be meant as written is refused with a hint; nothing is guessed.
"""

import re
from ipaddress import ip_network

from accounting.base.errors import TollbookError
from accounting.sources.uri import address_of, user_part
from cdr.rating.directory import FOREVER_US, Identity, parse_address, parse_network

DIGITS_MAX = 15  # ITU-T E.164 section 6.1
VALUE_MAX = 255

_HOST = re.compile(r"(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_SCHEME = re.compile(r"^sips?:", re.IGNORECASE)


def canonical(kind: str, text: str) -> str:
    """Return an identity's value in canonical form: `user[@domain]`, a network, digits, or a host in lower case."""
    match kind:
        case "user":
            value = _user(text.strip())
        case "ip":
            value = _network(text.strip())
        case "number" | "did":
            value = _digits(kind, text.strip())
        case "host":
            value = _host(text.strip())
        case _:
            raise AssertionError(kind)
    if len(value) > VALUE_MAX:
        raise TollbookError(f"{text[:40]!r}... is longer than {VALUE_MAX} characters")
    return value


def overlaps(one: Identity, other: Identity) -> bool:
    """Return whether two identities claim the same value at the same time."""
    return (
        (one.kind, one.value) == (other.kind, other.value)
        and one.valid_from_us < other.valid_to_us
        and other.valid_from_us < one.valid_to_us
    )


def ends(new: Identity, old: Identity) -> bool:
    """Return whether `new` is `old`, which had no end, with an end."""
    return new == old._replace(valid_to_us=new.valid_to_us) and new.valid_to_us < old.valid_to_us == FOREVER_US


def _user(text: str) -> str:
    bare = _SCHEME.sub("", text, count=1)
    written, at, domain = bare.partition("@")
    value = f"{written}@{domain.lower()}" if at else bare
    if not user_part(bare) or value != address_of(bare) or not value.isprintable() or " " in value:
        raise TollbookError(f"{text!r} is not a SIP user; write it like alice or alice@example.com")
    return value


def _network(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(parse_network(bare))
    except ValueError:
        pass
    try:
        meant = ip_network(bare, strict=False)
    except ValueError:
        raise TollbookError(
            f"{text!r} is not an address or network; write it like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48"
        ) from None
    raise TollbookError(f"{text} has host bits set; write {meant} for that network, or the address alone for one host")


def _digits(kind: str, text: str) -> str:
    digits = text.removeprefix("+")
    if not re.fullmatch(r"[0-9]+", digits) or len(digits) > DIGITS_MAX:
        raise TollbookError(f"{text!r} is not an E.164 number for --{kind}; write it like +493012345, digits only")
    if digits.startswith("0"):
        raise TollbookError(f"{text!r} begins with 0; write --{kind} with its country code, like +493012345")
    return digits


def _host(text: str) -> str:
    host = text.rstrip(".").lower()
    if parse_address(host) is not None:
        raise TollbookError(f"{text!r} is an address; give it with --ip")
    if not _HOST.fullmatch(host):
        raise TollbookError(f"{text!r} is not a host name; write it like gw.carrier.example, without sip: and port")
    return host
