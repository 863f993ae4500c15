"""Attributes of a RADIUS datagram: octets -> numbers and values, without a meaning (RFC 2865 section 5).

Never guesses beyond a length that cannot be true: that datagram is malformed as a whole. Pure.
"""

from typing import NamedTuple

HEADER_BYTES = 20
VENDOR_SPECIFIC = 26


class Malformed(NamedTuple):
    """Why octets are not attributes."""

    detail: str


def attributes(datagram: bytes) -> list[tuple[int, bytes]] | Malformed:
    """Return (number, value) of all attributes in their order; values may be empty."""
    end = packet_end(datagram)
    if isinstance(end, Malformed):
        return end
    return _sequence(datagram, HEADER_BYTES, end)


def vendor_attributes(value: bytes) -> tuple[int, list[tuple[int, bytes]]] | Malformed:
    """Return (vendor, [(number, value)]) of a Vendor-Specific value in the usual form (RFC 2865 section 5.26)."""
    if len(value) < 4:
        return Malformed(f"a Vendor-Specific attribute of {len(value)} octets names no vendor")
    inner = _sequence(value, 4, len(value))
    return inner if isinstance(inner, Malformed) else (int.from_bytes(value[:4]), inner)


def pick(datagram: bytes, slots: bytes, width: int) -> tuple[list[bytes | None], list[bytes]] | Malformed:
    """Return the first value that is not empty of each wanted attribute, and the values of all Vendor-Specific ones.

    `slots` gives for each of 256 numbers the place of its value among `width`, 0 for what is not wanted. The one hot
    loop of translation: 3.7 us for 22 attributes, all of translate() 12.5 (Python 3.11, shared 2-core machine).
    """
    end = packet_end(datagram)
    if isinstance(end, Malformed):
        return end
    values: list[bytes | None] = [None] * width
    vendors: list[bytes] = []
    at = HEADER_BYTES
    last = end - 1
    while at < last:
        number = datagram[at]
        after = at + datagram[at + 1]
        slot = slots[number]
        if after > at + 2:
            if slot and values[slot] is None:
                values[slot] = datagram[at + 2 : after]
            elif number == VENDOR_SPECIFIC:
                vendors.append(datagram[at + 2 : after])
        elif after < at + 2:
            return _impossible(datagram, at)
        at = after
    if at != end:
        return _overrun(at, end)
    return values, vendors


def packet_end(datagram: bytes) -> int | Malformed:
    """Return where the packet ends in its datagram; octets beyond are padding (RFC 2865 section 3)."""
    size = len(datagram)
    if size < HEADER_BYTES:
        return Malformed(f"{size} octets are no RADIUS packet")
    length = datagram[2] << 8 | datagram[3]
    if HEADER_BYTES <= length <= size:
        return length
    return Malformed(f"the packet claims {length} octets, {size} came")


def _sequence(octets: bytes, start: int, end: int) -> list[tuple[int, bytes]] | Malformed:
    found = []
    at = start
    while at < end - 1:
        after = at + octets[at + 1]
        if after < at + 2:
            return _impossible(octets, at)
        if after > end:
            break
        found.append((octets[at], octets[at + 2 : after]))
        at = after
    return found if at == end else _overrun(at, end)


def _impossible(octets: bytes, at: int) -> Malformed:
    return Malformed(f"attribute {octets[at]} at octet {at} claims a length of {octets[at + 1]}")


def _overrun(at: int, end: int) -> Malformed:
    return Malformed(f"the last attribute does not end at octet {end} but {at}")
