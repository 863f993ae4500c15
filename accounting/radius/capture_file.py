"""Capture files, pcap and pcapng, as frames: both byte orders, micro- and nanoseconds, several interfaces. Reads only.

Holds one frame at a time, and none that is longer than FRAME_BYTES_MAX. Own code, for dpkt's reader takes a pcapng
file's first interface for all of them, tells times as floats and not what a frame's length was before it was cut.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from accounting.base.errors import TollbookError

FRAME_BYTES_MAX = 262_144  # libpcap's own limit
INTERFACES_MAX = 4096
SECOND_NS = 1_000_000_000
TIME_US_MAX = (1 << 32) * 1_000_000
_PCAP_NS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # magic -> nanoseconds of a step
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_END_OF_OPTIONS, _TSRESOL, _TSOFFSET = 0, 9, 14
_RESOLUTION_MAX = 18  # decimal places, or 63 binary ones: what 64 bits can count

TORN = "torn"
"""Counted where a file ends within a frame, or goes on with something that is none; nothing behind it is read."""


class CaptureError(TollbookError):
    """A file that is no capture."""


class Frame(NamedTuple):
    """A captured frame; at_us is epoch microseconds, None where the file tells no time, or one beyond 32 bits."""

    at_us: int | None
    link_type: int  # LINKTYPE_ of tcpdump.org
    octets: bytes


class _Torn(Exception):
    """The file ends, or makes no sense any more."""


class _Interface(NamedTuple):
    link_type: int
    steps: int  # of time in a second
    offset_s: int


def read_frames(file: BinaryIO, counts: "Counter[str]") -> Iterator[Frame]:
    """Yield the frames of a capture in their order. CaptureError if the file is none; `counts` gets TORN."""
    magic = file.read(4)
    for order in "<", ">":
        if len(magic) == 4 and (number := struct.unpack(f"{order}I", magic)[0]) in (*_PCAP_NS, _SECTION):
            frames = _pcapng(file) if number == _SECTION else _pcap(file, order, _PCAP_NS[number])
            break
    else:
        raise CaptureError("is neither a pcap nor a pcapng file; a compressed one has to be unpacked first")
    try:
        yield from frames
    except _Torn:
        counts[TORN] += 1


def _pcap(file: BinaryIO, order: str, step_ns: int) -> Iterator[Frame]:
    header = file.read(20)
    if len(header) < 20:
        raise _Torn
    link_type = int(struct.unpack_from(f"{order}I", header, 16)[0]) & 0xFFFF  # above: length of a checksum, flags
    record = struct.Struct(f"{order}IIII")
    while head := file.read(16):
        if len(head) < 16:
            raise _Torn
        seconds, fraction, size, _ = record.unpack(head)
        octets = _exactly(file, size)
        yield Frame((seconds * SECOND_NS + fraction * step_ns) // 1000, link_type, octets)


def _pcapng(file: BinaryIO) -> Iterator[Frame]:
    order = _section(file)
    interfaces: list[_Interface] = []
    while head := file.read(8):
        if len(head) < 8:
            raise _Torn
        if head[:4] == _SECTION.to_bytes(4):
            order, interfaces = _section(file, head[4:]), []
            continue
        kind, size = struct.unpack(f"{order}II", head)
        if size < 12 or size % 4:
            raise _Torn
        body = _exactly(file, size - 8)[:-4]
        if kind == _INTERFACE:
            if len(interfaces) >= INTERFACES_MAX:
                raise _Torn
            interfaces.append(_interface(body, order))
        elif kind == _ENHANCED:
            yield _enhanced(body, order, interfaces)
        elif kind == _SIMPLE:
            yield _simple(body, order, interfaces)


def _section(file: BinaryIO, size: bytes = b"") -> str:
    """Return the byte order of the section whose block type was read, the file standing behind its header."""
    size = size or file.read(4)
    mark = file.read(4)
    for order in "<", ">":
        if mark == struct.pack(f"{order}I", _BYTE_ORDER) and len(size) == 4:
            length = struct.unpack(f"{order}I", size)[0]
            if length < 28 or length % 4:
                break
            _exactly(file, length - 12)
            return order
    raise _Torn


def _interface(body: bytes, order: str) -> _Interface:
    if len(body) < 8:
        raise _Torn
    steps, offset_s = 1_000_000, 0
    at = 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(f"{order}HH", body, at)
        value = body[at + 4 : at + 4 + size]
        if code == _END_OF_OPTIONS:
            break
        if code == _TSRESOL and len(value) == 1:
            steps = _steps(value[0])
        elif code == _TSOFFSET and len(value) == 8:
            offset_s = struct.unpack(f"{order}q", value)[0]
        at += 4 + size + -size % 4
    return _Interface(struct.unpack_from(f"{order}H", body)[0], steps, offset_s)


def _steps(resolution: int) -> int:
    if resolution & 0x80:
        return 1 << min(resolution & 0x7F, 63)
    return int(10 ** min(resolution, _RESOLUTION_MAX))


def _enhanced(body: bytes, order: str, interfaces: list[_Interface]) -> Frame:
    if len(body) < 20:
        raise _Torn
    number, high, low, size, _ = struct.unpack_from(f"{order}IIIII", body)
    if number >= len(interfaces) or size > len(body) - 20:
        raise _Torn
    one = interfaces[number]
    at_us = (high << 32 | low) * 1_000_000 // one.steps + one.offset_s * 1_000_000
    return Frame(at_us if 0 <= at_us < TIME_US_MAX else None, one.link_type, body[20 : 20 + size])


def _simple(body: bytes, order: str, interfaces: list[_Interface]) -> Frame:
    if len(body) < 4 or not interfaces:
        raise _Torn
    size = struct.unpack_from(f"{order}I", body)[0]
    return Frame(None, interfaces[0].link_type, body[4 : 4 + size])


def _exactly(file: BinaryIO, size: int) -> bytes:
    octets = file.read(size) if size <= FRAME_BYTES_MAX else b""
    if len(octets) < size:
        raise _Torn
    return octets
