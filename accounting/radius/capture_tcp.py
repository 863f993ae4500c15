"""RADIUS packets of captured TCP segments (RFC 6613): put in order by their sequence numbers, repeats left out. Pure.

What is missing is counted as `tcp`; reading goes on at the next segment, where mostly a packet begins.
"""

from collections import Counter, OrderedDict

from accounting.radius.packet import packets_of

STREAMS_MAX = 200
"""Directions of connections; beyond, the one that was silent longest is given up."""
AHEAD_MAX, AHEAD_BYTES_MAX = 256, 262_144
"""Segments of one direction, and their octets, that wait for missing ones before them."""
_SYN, _RST = 2, 4
_HALF, _ALL = 1 << 31, (1 << 32) - 1

Ends = tuple[bytes, bytes, bytes, bytes]


class _Stream:
    """One direction of a connection."""

    def __init__(self, next_number: int) -> None:
        self.next_number = next_number
        self.rest = b""
        self.ahead: dict[int, bytes] = {}

    @property
    def is_incomplete(self) -> bool:
        return bool(self.rest or self.ahead)


class Streams:
    """Takes TCP segments as they were captured and gives the packets that are complete."""

    def __init__(self, counts: "Counter[str]") -> None:
        self._counts = counts
        self._streams: OrderedDict[Ends, _Stream] = OrderedDict()

    def add(self, source: bytes, to: bytes, segment: bytes, missing: int) -> list[bytes]:
        """Return the packets that a segment completes. missing: its octets that were not captured."""
        if len(segment) < 20:
            self._counts["tcp"] += 1
            return []
        number, flags = int.from_bytes(segment[4:8]), segment[13]
        data = segment[(segment[12] >> 4) * 4 :]
        ends = (source, segment[:2], to, segment[2:4])
        if flags & _SYN:
            self._lose(ends)
            number = (number + 1) & _ALL
        stream = self._streams.get(ends)
        if stream is None:
            if not data and not flags & _SYN:
                return []
            if len(self._streams) >= STREAMS_MAX:
                self._lose(next(iter(self._streams)))
            stream = self._streams[ends] = _Stream(number)
        self._streams.move_to_end(ends)
        packets = self._join(ends, stream, number, data) if data else []
        if missing or flags & _RST:  # behind a FIN segments are still repeated
            self._lose(ends, certainly=bool(missing))
        return packets

    def give_up(self) -> None:
        """Count what is still incomplete."""
        for ends in list(self._streams):
            self._lose(ends)

    def _join(self, ends: Ends, stream: _Stream, number: int, data: bytes) -> list[bytes]:
        if len(data) > len(stream.ahead.get(number, b"")):
            stream.ahead[number] = data
        if len(stream.ahead) > AHEAD_MAX or sum(map(len, stream.ahead.values())) > AHEAD_BYTES_MAX:
            self._counts["tcp"] += 1  # what is missing will not come any more
            stream.rest = b""
            stream.next_number = min(stream.ahead, key=lambda one: _distance(one, stream.next_number))
        while True:
            found = [one for one in stream.ahead if _distance(one, stream.next_number) <= 0]
            if not found:
                break
            for one in found:
                octets = stream.ahead.pop(one)[-_distance(one, stream.next_number) :]
                stream.rest += octets
                stream.next_number = (stream.next_number + len(octets)) & _ALL
        packets, rest = packets_of(stream.rest)
        if isinstance(rest, str):
            self._lose(ends, certainly=True)
        else:
            stream.rest = rest
        return packets

    def _lose(self, ends: Ends, *, certainly: bool = False) -> None:
        stream = self._streams.pop(ends, None)
        if certainly or (stream is not None and stream.is_incomplete):
            self._counts["tcp"] += 1


def _distance(number: int, after: int) -> int:
    """Return how far a sequence number lies after another, less than 0 if before (RFC 9293 section 3.4)."""
    far = (number - after) & _ALL
    return far - (1 << 32) if far >= _HALF else far
