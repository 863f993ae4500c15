"""Octets of a datagram as attributes, and lengths that cannot be true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.event import Untranslatable
from accounting.radius.attributes import Malformed, attributes, pick, vendor_attributes
from accounting.sources import translate
from tests.support.radius import SECRET, body, request, sign, vsa
from tests.unit.sources.rows import captures, row, source

SLOTS = bytes([0] * 40 + [1] + [0] * 3 + [2] + [0] * 211)  # 40 and 44
pairs = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=253)), max_size=12)


@given(pairs)
def test_attributes_come_back_in_their_order(sent: list[tuple[int, bytes]]) -> None:
    assert attributes(request(SECRET, *sent)) == sent


@given(pairs)
def test_picked_values_are_the_first_that_are_not_empty(sent: list[tuple[int, bytes]]) -> None:
    picked = pick(request(SECRET, *sent), SLOTS, 3)
    assert not isinstance(picked, Malformed)
    values, vendors = picked
    for slot, number in ((1, 40), (2, 44)):
        assert values[slot] == next((value for kind, value in sent if kind == number and value), None)
    assert vendors == [value for kind, value in sent if kind == 26 and value]


def test_octets_beyond_the_length_are_padding() -> None:
    datagram = request(SECRET, (40, 1))
    assert attributes(datagram + b"\x2c\x01junk") == attributes(datagram)
    assert pick(datagram + b"junk", SLOTS, 3) == pick(datagram, SLOTS, 3)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"\x2c\x00", "attribute 44 at octet 26 claims a length of 0"),
        (b"\x2c\x01", "attribute 44 at octet 26 claims a length of 1"),
        (b"\x2c\x09abc", "the last attribute does not end at octet 31 but 26"),
        (b"\x2c", "the last attribute does not end at octet 27 but 26"),
    ],
)
def test_impossible_length_makes_the_datagram_malformed(octets: bytes, words: str) -> None:
    datagram = sign(body([(40, 1)]) + octets, SECRET)
    for found in (attributes(datagram), pick(datagram, SLOTS, 3)):
        assert isinstance(found, Malformed)
    assert attributes(datagram) == Malformed(words)
    got = translate(row(datagram), source())
    assert isinstance(got, Untranslatable)
    assert got.reason == "bad_packet"


@pytest.mark.parametrize("raw", [b"", b"\x04" * 19, b"\x04\x01\x00\x13" + bytes(16), b"\x04\x01\xff\xff" + bytes(16)])
def test_length_of_the_packet_must_be_possible(raw: bytes) -> None:
    assert isinstance(attributes(raw), Malformed)
    assert isinstance(pick(raw, SLOTS, 3), Malformed)


def test_vendor_attributes_of_one_value() -> None:
    number, value = vsa(9, 1, "leg=2")
    assert number == 26
    assert isinstance(value, bytes)
    assert vendor_attributes(value) == (9, [(1, b"leg=2")])
    assert vendor_attributes(value + b"\x02\x03x") == (9, [(1, b"leg=2"), (2, b"x")])


@pytest.mark.parametrize("value", [b"", b"\x00\x00\x09", b"\x00\x00\x00\x09\x01\x00", b"\x00\x00\x00\x09\x01\x09x"])
def test_vendor_value_of_another_form_is_malformed(value: bytes) -> None:
    assert isinstance(vendor_attributes(value), Malformed)


def test_captured_datagrams_come_apart_whole() -> None:
    for capture in captures():
        for captured in capture.rows:
            found = attributes(captured.raw)
            assert not isinstance(found, Malformed)
            assert body(found) == captured.raw[20:]
