"""A datagram's attributes by name, for people who ask why a call became what it is. Pure; no part of translation.

What may be a secret is never among them: passwords, CHAP, and whatever a dictionary calls encrypted.
"""

import re
from ipaddress import ip_address

from accounting.base.clock import from_us, iso_ms
from accounting.event import Source
from accounting.radius.attributes import VENDOR_SPECIFIC, Malformed, attributes, vendor_attributes
from accounting.radius.dictionary import DecodeTable, DictionaryError, Entry, decode_table
from accounting.sources.dialects import Choice, choose
from accounting.sources.fields import setup_of
from accounting.sources.text import text_of

_NUMBERS = frozenset({"integer", "signed", "short", "byte", "integer64", "date"})
_HIDDEN = frozenset({2, 3, 60, 69, 70, 79, 80})
"""User-Password, CHAP-Password, CHAP-Challenge, Tunnel-Password, ARAP-Password, EAP-Message, and what is
made with a secret: a Message-Authenticator lets one try secrets."""
_MICROSOFT = 311  # MS-CHAP, MPPE keys (RFC 2548)
_SECRET_NAME = re.compile(r"passw|chap|secret|digest-(response|ha1)|(^|-)keys?$", re.IGNORECASE)
_SECRET_PAIR = re.compile(rb"(passw(or)?d|secret|ha1)\s*[=:]", re.IGNORECASE)


def describe(raw: bytes, source: Source) -> list[tuple[str, str]]:
    """Return (name, value) of every attribute in its order, read by the dictionary that translation used.

    A number no dictionary knows stands as `Attr-240` with its octets in hexadecimal; a malformed datagram gives one
    line that says so.
    """
    found = attributes(raw)
    if isinstance(found, Malformed):
        return [("malformed", found.detail)]
    table = _table(raw, source)
    lines: list[tuple[str, str]] = []
    for number, value in found:
        inner = vendor_attributes(value) if number == VENDOR_SPECIFIC else None
        if inner is None or isinstance(inner, Malformed):
            is_hidden = number in _HIDDEN or (value[:4] == _MICROSOFT.to_bytes(4) and number == VENDOR_SPECIFIC)
            lines.append(_line(f"Attr-{number}", None if table is None else table.entries[number], value, is_hidden))
            continue
        vendor, pairs = inner
        for part, octets in pairs:
            entry = None if table is None else table.vendor_entries.get((vendor, part))
            lines.append(_line(f"Attr-26.{vendor}.{part}", entry, octets, vendor == _MICROSOFT))
    return lines


def _table(raw: bytes, source: Source) -> DecodeTable | None:
    setup = setup_of(source)
    if isinstance(setup, DictionaryError):
        return None
    choice = choose(raw, setup)
    dialect = choice.plan.dialect if isinstance(choice, Choice) else "generic"
    try:
        return decode_table(source.dictionary, dialect)
    except DictionaryError:
        return None


def _line(number: str, entry: Entry | None, value: bytes, is_hidden: bool) -> tuple[str, str]:
    name = entry.name if entry else number
    is_hidden = is_hidden or (entry is not None and (entry.is_encrypted or _SECRET_NAME.search(name) is not None))
    if is_hidden or _SECRET_PAIR.search(value):
        return name, f"******** ({len(value)} octets, hidden)"
    if entry is None:
        return name, _unknown(value)
    if entry.type in _NUMBERS and len(value) == 4:
        return name, _number(entry, int.from_bytes(value))
    if entry.type in ("ipaddr", "ipv6addr") and len(value) in (4, 16):
        return name, str(ip_address(value))
    if entry.type == "octets":
        return name, f"0x{value.hex()}"
    return name, text_of(value)


def _number(entry: Entry, plain: int) -> str:
    if entry.type == "date":
        return f"{plain} ({iso_ms(from_us(plain * 1_000_000))})"
    names = [name for name, known in entry.values.items() if known == plain]
    return f"{plain} ({names[0]})" if names else str(plain)


def _unknown(value: bytes) -> str:
    is_text = value.isascii() and value.decode("ascii", "replace").isprintable() and value
    return f'0x{value.hex()} "{value.decode("ascii")}"' if is_text else f"0x{value.hex()}"
