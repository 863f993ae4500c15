"""A datagram's attributes by name, for people who ask why a call became what it is. Pure; no part of translation."""

from ipaddress import ip_address

from accounting.event import Source
from accounting.radius.attributes import VENDOR_SPECIFIC, Malformed, attributes, vendor_attributes
from accounting.radius.dictionary import DecodeTable, DictionaryError, Entry, decode_table
from accounting.sources.dialects import Choice, choose
from accounting.sources.fields import setup_of
from accounting.sources.text import text_of

_NUMBERS = frozenset({"integer", "signed", "short", "byte", "integer64", "date"})


def describe(raw: bytes, source: Source) -> list[tuple[str, str]]:
    """Return (name, value) of every attribute in its order, read by the dictionary that translation used.

    A number no dictionary knows stands as `Attr-240`; a malformed datagram gives one line that says so.
    """
    found = attributes(raw)
    if isinstance(found, Malformed):
        return [("malformed", found.detail)]
    table = _table(raw, source)
    lines: list[tuple[str, str]] = []
    for number, value in found:
        inner = vendor_attributes(value) if number == VENDOR_SPECIFIC else None
        if inner is None or isinstance(inner, Malformed):
            lines.append(_line(f"Attr-{number}", None if table is None else table.entries[number], value))
            continue
        vendor, pairs = inner
        for part, octets in pairs:
            entry = None if table is None else table.vendor_entries.get((vendor, part))
            lines.append(_line(f"Attr-26.{vendor}.{part}", entry, octets))
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


def _line(number: str, entry: Entry | None, value: bytes) -> tuple[str, str]:
    if entry is None:
        return number, text_of(value)
    if entry.type in _NUMBERS and len(value) == 4:
        plain = int.from_bytes(value)
        names = [name for name, known in entry.values.items() if known == plain]
        return entry.name, f"{plain} ({names[0]})" if names else str(plain)
    if entry.type in ("ipaddr", "ipv6addr") and len(value) in (4, 16):
        return entry.name, str(ip_address(value))
    if entry.type == "octets":
        return entry.name, f"0x{value.hex()}"
    return entry.name, text_of(value)
