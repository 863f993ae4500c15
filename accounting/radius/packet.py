"""Accounting-Requests as bytes: are they well formed, who signed them, what answers them (RFC 2865, 2866, 5080, 5997).

Does not say what an attribute means, nor decode one; accounting.sources does. Pure.
"""

import hmac
from collections.abc import Iterable
from hashlib import md5
from typing import Any

ACCOUNTING_REQUEST = 4
ACCOUNTING_RESPONSE = 5
STATUS_SERVER = 12
HEADER_BYTES = 20
PACKET_BYTES_MAX = 4096  # RFC 2865 section 3

_PROXY_STATE = 33
_MESSAGE_AUTHENTICATOR = 80
_SIXTEEN_ZEROS = bytes(16)
_ASKED = (ACCOUNTING_REQUEST, STATUS_SERVER)


def packet_of(datagram: bytes) -> bytes | str:
    """Return the packet of a datagram without its padding, or why it is none (the reason it is counted under).

    RFC 2865 section 3: octets beyond the Length field are padding; a Length below 20, above 4096 or above what came
    is no packet. Attributes must follow each other up to its very end (section 5).
    """
    size = len(datagram)
    if size < HEADER_BYTES:
        return "malformed"
    length = datagram[2] << 8 | datagram[3]
    if length > PACKET_BYTES_MAX:
        return "oversized"
    if length < HEADER_BYTES or length > size:
        return "malformed"
    packet = datagram if length == size else datagram[:length]
    at, last = HEADER_BYTES, length - 1
    while at < last:
        step = packet[at + 1]
        if step < 2:
            return "malformed"
        at += step
    if at != length:
        return "malformed"
    return packet if packet[0] in _ASKED else "not_accounting"


def packets_of(stream: bytes) -> tuple[list[bytes], bytes | str]:
    """Return the packets at the beginning of a stream, each by its Length, and the octets of the next one so far.

    Where no next one can begin, its fault, as packet_of names it, stands in the place of these octets: the connection
    is of no more use (RFC 6613 section 2.6.4).
    """
    found: list[bytes] = []
    at, size = 0, len(stream)
    while size - at >= 4:
        length = stream[at + 2] << 8 | stream[at + 3]
        if length > PACKET_BYTES_MAX:
            return found, "oversized"
        if length < HEADER_BYTES:
            return found, "malformed"
        if length > size - at:
            break
        found.append(stream[at : at + length])
        at += length
    return found, stream[at:]


def is_signed(packet: bytes, secret: bytes) -> bool:
    """Return whether the Request Authenticator was made with this secret (RFC 2866 section 3)."""
    made = _digest(packet[:4] + _SIXTEEN_ZEROS + packet[20:] + secret)
    return hmac.compare_digest(made, packet[4:20])


def distrust(packet: bytes, secret: bytes, *, required: bool = False) -> str:
    """Return why a packet's Message-Authenticator makes it be dropped, "" if it does not (RFC 5080 section 2.2.2).

    One that is there must be the only one, and right; required: there must be one. In an Accounting-Request it is
    computed with a Request Authenticator of zeros, in a Status-Server with the one that was sent (RFC 5997 section 3).
    """
    none = "no_message_authenticator" if required else ""
    if _MESSAGE_AUTHENTICATOR not in packet:  # most packets hold no such octet at all: 0.04 us, no walk
        return none
    places = [at for kind, at, _ in _attributes(packet) if kind == _MESSAGE_AUTHENTICATOR]
    if not places:
        return none
    at = places[0]
    if len(places) > 1 or packet[at + 1] != 18:
        return "bad_message_authenticator"
    authenticator = packet[4:20] if packet[0] == STATUS_SERVER else _SIXTEEN_ZEROS
    blanked = packet[:4] + authenticator + packet[20 : at + 2] + _SIXTEEN_ZEROS + packet[at + 18 :]
    made = hmac.new(secret, blanked, _plain_md5).digest()
    return "" if hmac.compare_digest(made, packet[at + 2 : at + 18]) else "bad_message_authenticator"


def verified(datagram: bytes, secrets: Iterable[bytes], *, required: bool = False) -> bytes | str:
    """Return the Accounting-Request of a datagram that was made with one of the secrets, or why a receiver drops it.

    required: it must have a Message-Authenticator. The receiver itself takes the same steps one by one, for calls cost.
    """
    packet = packet_of(datagram)
    if isinstance(packet, str):
        return packet
    if packet[0] != ACCOUNTING_REQUEST:
        return "not_accounting"
    secret = next((secret for secret in secrets if is_signed(packet, secret)), None)
    if secret is None:
        return "bad_authenticator"
    return distrust(packet, secret, required=required) or packet


def response_to(packet: bytes, secret: bytes) -> bytes:
    """Return the Accounting-Response: same id, Proxy-State attributes in their order (RFC 2865 5.33), signed."""
    echoed = b""
    if _PROXY_STATE in packet:
        echoed = b"".join(packet[at:end] for kind, at, end in _attributes(packet) if kind == _PROXY_STATE)
    length = HEADER_BYTES + len(echoed)
    head = bytes((ACCOUNTING_RESPONSE, packet[1], length >> 8, length & 0xFF))
    signature = _digest(head + packet[4:20] + echoed + secret)
    return head + signature + echoed


def _attributes(packet: bytes) -> list[tuple[int, int, int]]:
    """Return (type, start, end) of each attribute of a well-formed packet."""
    found = []
    at = HEADER_BYTES
    while at < len(packet):
        end = at + packet[at + 1]
        found.append((packet[at], at, end))
        at = end
    return found


def _digest(data: bytes) -> bytes:
    """Return the MD5 digest: a copy costs a third less than a new object, which OpenSSL looks up anew."""
    made = _EMPTY.copy()
    made.update(data)
    digest: bytes = made.digest()
    return digest


def _plain_md5(data: bytes = b"") -> Any:  # the type of hashlib's objects has no public name
    return md5(data, usedforsecurity=False)


_EMPTY = _plain_md5()
