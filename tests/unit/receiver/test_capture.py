"""Captures are read whatever wrote them: link types, byte orders, fragments; what cannot be read is counted."""

import io
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.radius.capture import ASSEMBLIES_MAX, Datagram, datagrams
from accounting.radius.capture_file import CaptureError, Frame, read_frames
from accounting.radius.packet import verified
from tests.support.capture import (
    AT_US,
    CLIENT,
    SERVER,
    US,
    block,
    fragments,
    framed,
    packet,
    pcap_by_dpkt,
    pcap_file,
    pcapng_by_dpkt,
    pcapng_file,
    segment,
)  # fmt: skip
from tests.support.radius import SECRET, request

PAYLOAD = b"\x04\x01\x00\x14" + bytes(16)
SIX = (("2001:db8::1", 40_000), ("2001:db8::2", 1813))
PORTS = frozenset({1813})
EXPECTED = Datagram(AT_US, *CLIENT, *SERVER, PAYLOAD)
REAL = Path(__file__).parents[2] / "data" / "captures"
"""By tcpdump 4.99, of a receiver: Start, Stop and a Start of 2067 octets in fragments, by IPv4 and by IPv6."""
FRAME = framed(1, bytes(packet(PAYLOAD)))


def read(file: bytes) -> tuple[list[Datagram], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(datagrams(read_frames(io.BytesIO(file), counts), PORTS, counts)), counts


def joined(parts: Sequence[bytes]) -> tuple[list[Datagram], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(datagrams([Frame(AT_US, 101, part) for part in parts], PORTS, counts)), counts


@pytest.mark.parametrize("link_type", [0, 1, 12, 14, 101, 108, 113, 276])
def test_link_types_and_both_ip_versions(link_type: int) -> None:
    four, six = framed(link_type, bytes(packet(PAYLOAD))), framed(link_type, bytes(packet(PAYLOAD, *SIX)))
    assert read(pcap_file([(AT_US, four), (AT_US, six)], link_type)) == (
        [EXPECTED, Datagram(AT_US, *SIX[0], *SIX[1], PAYLOAD)],
        {},
    )


@pytest.mark.parametrize("link_type", [1, 113, 276])
@pytest.mark.parametrize("tags", [1, 2])
def test_vlan_tags(link_type: int, tags: int) -> None:
    assert read(pcap_file([(AT_US, framed(link_type, bytes(packet(PAYLOAD)), tags))], link_type))[0] == [EXPECTED]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_of_both_byte_orders_and_resolutions(order: str, nano: bool) -> None:
    assert read(pcap_file([(AT_US, FRAME)], order=order, nano=nano)) == ([EXPECTED], {})


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_with_interfaces_of_several_link_types(order: str) -> None:
    frames = [(1, AT_US, framed(113, bytes(packet(PAYLOAD)))), (0, AT_US, FRAME)]
    assert read(pcapng_file(frames, [1, 113], order=order)) == ([EXPECTED, EXPECTED], {})


@pytest.mark.parametrize(("resolution", "steps"), [(9, AT_US * 1000 + 999), (6, AT_US), (0x80 | 20, None)])
def test_pcapng_resolutions(resolution: int, steps: int | None) -> None:
    told = (AT_US << 20) // US if steps is None else steps
    [found], _ = read(pcapng_file([(0, told, FRAME)], [1], resolution=resolution))
    assert found.at_us is not None
    assert found.at_us == (told * US >> 20 if steps is None else AT_US)


def test_files_that_dpkt_wrote() -> None:
    assert read(pcap_by_dpkt([(AT_US, FRAME)])) == ([EXPECTED], {})
    assert read(pcapng_by_dpkt([(AT_US, FRAME)])) == ([EXPECTED], {})


def test_sections_one_behind_the_other_and_simple_blocks() -> None:
    first, second = pcapng_file([(0, AT_US, FRAME)], [1]), pcapng_file([(0, AT_US, FRAME)], [1], order=">")
    simple = block(3, len(FRAME).to_bytes(4, "little") + FRAME + bytes(-len(FRAME) % 4))
    found, counts = read(first + simple + second)
    assert found == [EXPECTED, EXPECTED._replace(at_us=None), EXPECTED]
    assert not counts


def test_time_that_no_clock_can_show_is_none() -> None:
    [found], _ = read(pcapng_file([(0, 2**64 - 1, FRAME)], [1]))
    assert found.at_us is None


@pytest.mark.parametrize("file", [b"", b"\x00", b"GIF89a", b"\x1f\x8b\x08\x00" * 9])
def test_what_is_no_capture_is_refused(file: bytes) -> None:
    with pytest.raises(CaptureError, match="neither a pcap nor a pcapng"):
        read(file)


@pytest.mark.parametrize("whole", [pcap_file([(AT_US, FRAME)] * 2), pcapng_file([(0, AT_US, FRAME)] * 2, [1])])
def test_file_that_ends_within_a_packet_gives_those_before(whole: bytes) -> None:
    for cut in range(1, 30):
        assert read(whole[:-cut]) == ([EXPECTED], {"torn": 1})


def test_length_that_cannot_be_true_ends_the_reading() -> None:
    file = pcap_file([(AT_US, FRAME)])
    assert read(file + b"\x00" * 8 + b"\xff" * 8 + bytes(100)) == ([EXPECTED], {"torn": 1})


def test_packets_cut_by_the_snaplen_are_counted() -> None:
    assert read(pcap_file([(AT_US, FRAME)], snaplen=60)) == ([], {"cut": 1})


def test_other_ports_and_other_things_are_passed_over() -> None:
    other = framed(1, bytes(packet(PAYLOAD, CLIENT, ("127.0.0.1", 53))))
    noise = [other, b"", b"\x00" * 14, framed(1, b"\x45" + bytes(8)), framed(1, b"\x60" + bytes(30))]
    assert read(pcap_file([(AT_US, one) for one in noise])) == ([], {})


def test_link_types_that_are_not_read_are_counted() -> None:
    assert read(pcap_file([(AT_US, b"x" * 50)], 127)) == ([], {"unknown_link": 1})


def over_tcp(*segments: bytes) -> tuple[list[bytes], Counter[str]]:
    found, counts = joined(segments)
    assert all(one[1:5] == (*CLIENT, *SERVER) for one in found)
    return [one.payload for one in found], counts


def asked(number: int) -> bytes:
    return request(SECRET, (44, f"call-{number}"), (1, "x" * number))


def test_tcp_that_is_no_radius_is_counted_and_what_follows_is_read() -> None:
    assert over_tcp(segment(b"", 0), segment(b"GET / HTTP/1.1", 0)) == ([], {"tcp": 1})
    assert over_tcp(segment(b"GET / HTTP/1.1", 0), segment(asked(1), 14)) == ([asked(1)], {"tcp": 1})


def test_a_tcp_segment_cut_by_the_capture_is_counted() -> None:
    whole = segment(asked(1) + asked(2), 5)
    assert over_tcp(whole[:-3], segment(asked(3), 5 + len(asked(1) + asked(2)))) == ([asked(1), asked(3)], {"tcp": 1})


def test_a_gap_in_a_tcp_connection_is_counted_and_what_follows_is_read() -> None:
    first, lost, later = asked(1), asked(2), [asked(200)] * 300
    segments = [segment(first, 0)]
    at = len(first + lost)
    for one in later:
        segments.append(segment(one, at))
        at += len(one)
    assert over_tcp(*segments) == ([first, *later], {"tcp": 1})


def test_a_port_used_again_is_another_connection() -> None:
    begun = segment(asked(1)[:9], 7)
    again = [segment(b"", 99, 2), segment(asked(2), 100), segment(b"", 100 + len(asked(2)), 1)]
    assert over_tcp(begun, *again) == ([asked(2)], {"tcp": 1})


def test_a_tcp_segment_repeated_behind_the_end_gives_nothing_again() -> None:
    data = segment(asked(1), 100)
    assert over_tcp(segment(b"", 99, 2), data, segment(b"", 100 + len(asked(1)), 0x11), data) == ([asked(1)], {})


@given(st.lists(st.integers(0, 200), min_size=1, max_size=20), st.integers(0, 2**32 - 1), st.data())
def test_tcp_segments_in_any_order_and_more_than_once_give_each_packet_once(
    sizes: list[int], begin: int, data: st.DataObject
) -> None:
    sent = [asked(size) for size in sizes]
    stream, segments = b"".join(sent), []
    cuts = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream)), max_size=20))})
    for start, end in pairwise(cuts):
        early = data.draw(st.integers(0, min(start, 30)))  # a repeat may hold octets of the one before
        segments.append(segment(stream[start - early : end], begin + 1 + start - early))
    segments += data.draw(st.lists(st.sampled_from(segments), max_size=4))
    assert over_tcp(segment(b"", begin, 2), *data.draw(st.permutations(segments))) == (sent, {})


@pytest.mark.parametrize("ends", [(CLIENT, SERVER), SIX])
@pytest.mark.parametrize("backwards", [False, True])
def test_fragments_are_put_together(ends: Sequence[tuple[str, int]], backwards: bool) -> None:
    payload = bytes(range(256)) * 12
    parts = fragments(packet(payload, *ends), 1480)
    assert len(parts) == 3
    again = [*parts, parts[-1]]  # one came twice
    found, counts = joined(again[::-1] if backwards else parts)
    assert [one.payload for one in found] == [payload]
    assert not counts


def test_fragments_of_two_datagrams_are_kept_apart() -> None:
    one, two = (fragments(packet(octets * 2000), 1480, number) for number, octets in ((1, b"1"), (2, b"2")))
    found, _ = joined([one[0], two[0], two[1], one[1]])
    assert [datagram.payload[:1] for datagram in found] == [b"2", b"1"]


def test_missing_fragments_are_counted_unless_of_other_ports() -> None:
    parts = fragments(packet(bytes(4000)), 1480)
    other = fragments(packet(bytes(4000), CLIENT, ("127.0.0.1", 53)), 1480, 8)
    assert joined([*parts[:2], *other[:2]]) == ([], {"fragments": 1})


def test_overlapping_and_huge_fragments_are_not_put_together() -> None:
    parts = fragments(packet(bytes(4000)), 1480)
    wrong = bytearray(parts[1])
    wrong[6:8] = (0x2000 | 8).to_bytes(2)
    assert joined([parts[0], bytes(wrong), parts[2]])[0] == []
    assert joined(fragments(packet(bytes(20_000)), 1480)) == ([], {"fragments": 1})


def test_a_flood_of_first_fragments_is_bounded() -> None:
    flood = [fragments(packet(bytes(2000)), 1480, number)[0] for number in range(ASSEMBLIES_MAX + 50)]
    found, counts = joined(flood)
    assert (found, counts) == ([], {"fragments": ASSEMBLIES_MAX + 50})


@pytest.mark.parametrize("name", ["lo-ethernet", "any-sll2", "any-sll-nano"])
def test_real_captures(name: str) -> None:
    found, counts = read((REAL / f"{name}.pcap").read_bytes())
    requests = [one for one in found if one.to_port == 1813]
    assert not counts
    assert [len(one.payload) for one in requests] == [215, 64, 2067, 216, 65, 2067]
    assert {one.source for one in requests} == {"127.0.0.1", "::1"}
    assert all(isinstance(verified(one.payload, [SECRET]), bytes) for one in requests)
    assert len(found) == 12


def test_real_capture_with_a_snaplen() -> None:
    found, counts = read((REAL / "snaplen.pcap").read_bytes())
    assert {one.source_port for one in found} == {1813}  # answers are short
    assert counts == {"cut": 4, "fragments": 2}
