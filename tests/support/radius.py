"""Builds Accounting-Requests for tests, attribute by attribute, with a proper Request Authenticator."""

import hmac
from collections.abc import Iterable
from hashlib import md5
from ipaddress import IPv4Address, IPv6Address

ACCOUNTING_REQUEST = 4
ACCOUNTING_RESPONSE = 5
SECRET = b"testing123"

Value = int | str | bytes | IPv4Address | IPv6Address
Attribute = tuple[int, Value]


def request(secret: bytes, *attributes: Attribute, identifier: int = 1, code: int = ACCOUNTING_REQUEST) -> bytes:
    """Return a request signed with the secret: request(b"s", (40, 1), (44, "call-1")). Numbers become 4 octets."""
    return sign(body(attributes), secret, identifier=identifier, code=code)


def body(attributes: Iterable[Attribute]) -> bytes:
    """Return attributes as they stand in a packet, in their order."""
    return b"".join(_attribute(number, value) for number, value in attributes)


def sign(attributes: bytes, secret: bytes, *, identifier: int = 1, code: int = ACCOUNTING_REQUEST) -> bytes:
    """Return a request around attributes that stand as they are, also malformed ones (RFC 2866 section 3)."""
    head = bytes([code, identifier]) + (20 + len(attributes)).to_bytes(2)
    return head + md5(head + bytes(16) + attributes + secret, usedforsecurity=False).digest() + attributes


def again(datagram: bytes, secret: bytes, *, identifier: int) -> bytes:
    """Return the same request under another identifier, as after a failover."""
    return sign(datagram[20:], secret, identifier=identifier, code=datagram[0])


def vsa(vendor: int, number: int, value: Value) -> Attribute:
    """Return a Vendor-Specific attribute (RFC 2865 section 5.26)."""
    return 26, vendor.to_bytes(4) + _attribute(number, value)


def is_answer(reply: bytes, asked: bytes, secret: bytes) -> bool:
    """Return whether a reply is the Accounting-Response to this request, signed with the secret."""
    made = md5(reply[:4] + asked[4:20] + reply[20:] + secret, usedforsecurity=False).digest()
    return reply[:2] == bytes([ACCOUNTING_RESPONSE, asked[1]]) and hmac.compare_digest(made, reply[4:20])


def _attribute(number: int, value: Value) -> bytes:
    raw = _octets(value)
    assert len(raw) <= 253, "a RADIUS value holds at most 253 octets"
    return bytes([number, 2 + len(raw)]) + raw


def _octets(value: Value) -> bytes:
    match value:
        case int():
            return value.to_bytes(4)
        case str():
            return value.encode()
        case bytes():
            return value
        case _:
            return value.packed
