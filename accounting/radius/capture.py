"""RADIUS packets of captured frames: Ethernet with VLAN tags, cooked, raw, loopback; IPv4 and IPv6, fragments joined.

A UDP datagram is taken as it is, a TCP stream is cut into packets. What it cannot use it counts, where it is of the
ports asked for or could be. Pure, bounded.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from accounting.radius.capture_file import Frame
from accounting.radius.capture_tcp import Streams

ASSEMBLIES_MAX = 1000
"""Fragmented datagrams that wait for their missing parts; beyond, the one that waits longest is given up."""
DATAGRAM_BYTES_MAX = 8192
"""Longer fragmented datagrams are not put together: a RADIUS packet has at most 4096 octets."""
_TAGS_MAX = 4
_EXTENSIONS_MAX = 8
_VLAN = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60

# link types of tcpdump.org: where the EtherType stands, where what follows it begins
_WITH_ETHERTYPE = {1: (12, 14), 113: (14, 16), 276: (0, 20)}  # Ethernet, SLL, SLL2
_WITHOUT = {0: 4, 108: 4, 12: 0, 14: 0, 101: 0, 228: 0, 229: 0}  # loopback NULL and LOOP, raw IP

Counts = Counter[str]


class Datagram(NamedTuple):
    """A UDP datagram, or a packet of a TCP stream, as it was captured; at_us is None where the file tells no time."""

    at_us: int | None
    source: str
    source_port: int
    to: str
    to_port: int
    payload: bytes


class _Packet(NamedTuple):
    """An IP packet, or a part of one."""

    source: bytes
    to: bytes
    protocol: int
    payload: bytes
    missing: int  # octets at its end that were not captured
    part: tuple[int, int, bool] | None  # of fragments: identification, offset, whether more follow


def datagrams(frames: Iterable[Frame], ports: frozenset[int], counts: Counts) -> Iterator[Datagram]:
    """Yield what went from or to these ports. What came in parts is of the time of the part that came last.

    Counted are: `unknown_link` (frames of a link type that is not read), `tcp` (places in TCP connections where octets
    are missing, or are no RADIUS), `cut` (datagrams not captured whole, by tcpdump's snaplen), `fragments` (datagrams
    with missing parts).
    """
    parts, streams = _Assembly(ports, counts), Streams(counts)
    for frame in frames:
        if frame.link_type not in _WITH_ETHERTYPE and frame.link_type not in _WITHOUT:
            counts["unknown_link"] += 1
            continue
        packet = _packet(frame)
        if packet is None:
            continue
        whole = packet if packet.part is None else parts.add(packet)
        if whole is not None:
            yield from _datagrams(frame.at_us, whole, ports, counts, streams)
    parts.give_up()
    streams.give_up()


def _packet(frame: Frame) -> _Packet | None:
    octets = frame.octets
    if frame.link_type in _WITHOUT:
        return _ip(octets[_WITHOUT[frame.link_type] :])
    at, begin = _WITH_ETHERTYPE[frame.link_type]
    kind = int.from_bytes(octets[at : at + 2])
    for _ in range(_TAGS_MAX):
        if kind not in _VLAN:
            break
        kind = int.from_bytes(octets[begin + 2 : begin + 4])
        begin += 4
    return _ip(octets[begin:]) if kind in (_IPV4, _IPV6) else None


def _ip(octets: bytes) -> _Packet | None:
    version = octets[0] >> 4 if octets else 0
    if version == 4:
        return _ipv4(octets)
    return _ipv6(octets) if version == 6 else None


def _ipv4(octets: bytes) -> _Packet | None:
    head = (octets[0] & 15) * 4
    if len(octets) < 20 or head < 20:
        return None
    total = int.from_bytes(octets[2:4]) or len(octets)  # 0: the network card was to cut it up
    flags = int.from_bytes(octets[6:8])
    offset, more = (flags & 0x1FFF) * 8, bool(flags & 0x2000)
    part = (int.from_bytes(octets[4:6]), offset, more) if offset or more else None
    missing = max(0, total - len(octets))
    return _Packet(octets[12:16], octets[16:20], octets[9], octets[head:total], missing, part)


def _ipv6(octets: bytes) -> _Packet | None:
    if len(octets) < 40:
        return None
    total = 40 + int.from_bytes(octets[4:6])
    if total == 40:
        total = len(octets)
    kind, at, part = octets[6], 40, None
    for _ in range(_EXTENSIONS_MAX):
        if kind not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION) or at + 8 > len(octets):
            break
        size = 8
        if kind == _FRAGMENT:
            flags = int.from_bytes(octets[at + 2 : at + 4])
            part = (int.from_bytes(octets[at + 4 : at + 8]), flags & 0xFFF8, bool(flags & 1))
        elif kind == _AUTHENTICATION:
            size = (octets[at + 1] + 2) * 4
        else:
            size = (octets[at + 1] + 1) * 8
        kind, at = octets[at], at + size
        if part is not None and part[1]:
            break  # what follows is a part of the datagram's middle
    if part is not None and not part[1] and not part[2]:
        part = None  # an atomic fragment (RFC 6946)
    return _Packet(octets[8:24], octets[24:40], kind, octets[at:total], max(0, total - len(octets)), part)


def _datagrams(
    at_us: int | None, packet: _Packet, ports: frozenset[int], counts: Counts, streams: Streams
) -> list[Datagram]:
    octets = packet.payload
    if packet.protocol not in (_TCP, _UDP) or len(octets) < 8:
        return []
    source_port, to_port = int.from_bytes(octets[:2]), int.from_bytes(octets[2:4])
    if source_port not in ports and to_port not in ports:
        return []
    if packet.protocol == _TCP:
        payloads = streams.add(packet.source, packet.to, octets, packet.missing)
    else:
        size = int.from_bytes(octets[4:6])
        if packet.missing or not 8 <= size <= len(octets):
            counts["cut"] += 1
            return []
        payloads = [octets[8:size]]
    source, to = _address(packet.source), _address(packet.to)
    return [Datagram(at_us, source, source_port, to, to_port, payload) for payload in payloads]


def _address(octets: bytes) -> str:
    return str(IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets))


class _Parts:
    """The parts of one datagram that came so far."""

    def __init__(self) -> None:
        self.by_offset: dict[int, bytes] = {}
        self.held = 0
        self.size: int | None = None  # known once the last part came
        self.is_usable = True


class _Assembly:
    """Puts fragments together; holds at most ASSEMBLIES_MAX times DATAGRAM_BYTES_MAX octets."""

    def __init__(self, ports: frozenset[int], counts: Counts) -> None:
        self._ports = ports
        self._counts = counts
        self._waiting: OrderedDict[tuple[bytes, bytes, int, int], _Parts] = OrderedDict()

    def add(self, packet: _Packet) -> _Packet | None:
        """Take a part; return the whole packet if nothing of it is missing now."""
        assert packet.part is not None
        identification, offset, more = packet.part
        key = (packet.source, packet.to, packet.protocol, identification)
        parts = self._waiting.get(key)
        if parts is None:
            if packet.protocol != _UDP:
                return None
            if len(self._waiting) >= ASSEMBLIES_MAX:
                self._lose(self._waiting.popitem(last=False)[1])
            parts = self._waiting[key] = _Parts()
        end = offset + len(packet.payload)
        if offset not in parts.by_offset:
            parts.held += len(packet.payload)
        if packet.missing or not packet.payload or max(end, parts.held) > DATAGRAM_BYTES_MAX:
            parts.is_usable = False
        if not parts.is_usable:
            parts.by_offset = {0: packet.payload[:8]} if not offset else {0: parts.by_offset.get(0, b"")[:8]}
            return None
        if not more:
            parts.size = end
        parts.by_offset.setdefault(offset, packet.payload)
        payload = self._whole(parts)
        if payload is None:
            return None
        del self._waiting[key]
        return packet._replace(payload=payload, part=None)

    def give_up(self) -> None:
        """Count what is still incomplete."""
        for parts in self._waiting.values():
            self._lose(parts)
        self._waiting.clear()

    def _whole(self, parts: _Parts) -> bytes | None:
        if parts.size is None or parts.held < parts.size:
            return None
        payload = b""
        for offset, octets in sorted(parts.by_offset.items()):
            if offset != len(payload):  # they overlap: nobody who is honest sends that (RFC 5722)
                parts.is_usable = False
                return None
            payload += octets
        return payload

    def _lose(self, parts: _Parts) -> None:
        """Count an incomplete datagram, unless its first part tells other ports."""
        first = parts.by_offset.get(0, b"")
        if len(first) >= 4 and not {int.from_bytes(first[:2]), int.from_bytes(first[2:4])} & self._ports:
            return
        self._counts["fragments"] += 1
