"""Captures for tests: frames of every link type that is read, built by dpkt, in files that dpkt or we write."""

import io
import struct
from collections.abc import Iterable
from ipaddress import ip_address

from dpkt import ethernet, ip, ip6, pcap, pcapng, sll, sll2, tcp, udp

US = 1_000_000
AT_US = 1_795_504_063_475_001  # 2026-11-24T07:07:43.475001Z
CLIENT, SERVER = ("127.0.0.1", 40_000), ("127.0.0.1", 1813)

Place = tuple[str, int]


def packet(payload: bytes, source: Place = CLIENT, to: Place = SERVER) -> ip.IP | ip6.IP6:
    """Return an IP packet with a UDP datagram."""
    inner = udp.UDP(sport=source[1], dport=to[1], data=payload)
    inner.ulen = len(inner)
    ends = {"src": ip_address(source[0]).packed, "dst": ip_address(to[0]).packed}
    if ":" in source[0]:
        return ip6.IP6(**ends, nxt=17, hlim=64, data=inner, plen=len(inner))
    whole = ip.IP(**ends, p=17, data=inner)
    whole.len = len(whole)
    return whole


def segment(data: bytes, number: int, flags: int = 0x18, source: Place = CLIENT, to: Place = SERVER) -> bytes:
    """Return an IP packet with a TCP segment; flags: 2 SYN, 1 FIN, 4 RST, 0x18 data."""
    inner = tcp.TCP(sport=source[1], dport=to[1], seq=number % 2**32, flags=flags, data=data)
    whole = ip.IP(src=ip_address(source[0]).packed, dst=ip_address(to[0]).packed, p=6, data=inner)
    whole.len = len(whole)
    return bytes(whole)


def fragments(whole: ip.IP | ip6.IP6, size: int, identification: int = 7) -> list[bytes]:
    """Return an IP packet in fragments with so many octets of it, a multiple of 8."""
    octets, parts = bytes(whole.data), []
    for at in range(0, len(octets), size):
        piece, more = octets[at : at + size], at + size < len(octets)
        if isinstance(whole, ip6.IP6):
            header = struct.pack("!BBHI", 17, 0, at | more, identification)
            six = ip6.IP6(src=whole.src, dst=whole.dst, nxt=44, hlim=64, plen=8 + len(piece))
            parts.append(six.pack_hdr() + header + piece)
        else:
            four = ip.IP(src=whole.src, dst=whole.dst, p=17, id=identification, data=piece)
            four.mf, four.offset, four.len = int(more), at // 8, 20 + len(piece)
            parts.append(bytes(four))
    return parts


def framed(link_type: int, octets: bytes, tags: int = 0) -> bytes:
    """Return an IP packet as a frame of a link type of tcpdump.org."""
    kind = 0x86DD if octets[0] >> 4 == 6 else 0x0800
    tagged = b"".join(b"\x81\x00\x00\x05" for _ in range(tags))[2:] + kind.to_bytes(2) if tags else b""
    outer = 0x8100 if tags else kind
    match link_type:
        case pcap.DLT_EN10MB:
            return ethernet.Ethernet(src=b"\x02" * 6, dst=b"\x04" * 6, type=outer).pack_hdr()[:12] + (
                outer.to_bytes(2) + tagged + octets
            )
        case pcap.DLT_LINUX_SLL:
            return sll.SLL(ethtype=outer).pack_hdr() + tagged + octets
        case pcap.DLT_LINUX_SLL2:
            return sll2.SLL2(ethtype=outer).pack_hdr() + tagged + octets
        case pcap.DLT_NULL:
            return struct.pack("=I", 2 if kind == 0x0800 else 10) + octets
        case pcap.DLT_LOOP:
            return struct.pack("!I", 2 if kind == 0x0800 else 24) + octets
        case _:
            return octets


def pcap_file(
    frames: Iterable[tuple[int, bytes]], link_type: int = 1, *, order: str = "<", nano: bool = False, snaplen: int = 0
) -> bytes:
    """Return a pcap file of (epoch us, frame), each cut at snaplen."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snaplen or 262_144, link_type)
    for at_us, frame in frames:
        kept = frame[: snaplen or len(frame)]
        fraction = at_us % US * (1000 if nano else 1)
        out += struct.pack(f"{order}IIII", at_us // US, fraction, len(kept), len(frame)) + kept
    return out


def pcap_by_dpkt(frames: Iterable[tuple[int, bytes]], link_type: int = 1) -> bytes:
    """Return the same, as dpkt writes it."""
    out = io.BytesIO()
    writer = pcap.Writer(out, snaplen=262_144, linktype=link_type)
    for at_us, frame in frames:
        writer.writepkt(frame, at_us / US)
    return out.getvalue()


def pcapng_by_dpkt(frames: Iterable[tuple[int, bytes]], link_type: int = 1) -> bytes:
    """Return a pcapng file, as dpkt writes it."""
    out = io.BytesIO()
    writer = pcapng.Writer(out, snaplen=262_144, linktype=link_type)
    for at_us, frame in frames:
        writer.writepkt(frame, at_us / US)
    return out.getvalue()


def pcapng_file(
    frames: Iterable[tuple[int, int, bytes]], link_types: Iterable[int], *, order: str = "<", resolution: int = 6
) -> bytes:
    """Return a pcapng file of (interface, steps of time, frame), whose interfaces have these link types."""
    out = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    for link_type in link_types:
        option = struct.pack(f"{order}HHB3xHH", 9, 1, resolution, 0, 0)
        out += block(1, struct.pack(f"{order}HHI", link_type, 0, 0) + option, order)
    for number, steps, frame in frames:
        head = struct.pack(f"{order}IIIII", number, steps >> 32, steps & 0xFFFFFFFF, len(frame), len(frame))
        out += block(6, head + frame + bytes(-len(frame) % 4), order)
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a block of a pcapng file."""
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size
