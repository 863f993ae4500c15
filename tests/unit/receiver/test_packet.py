"""Requests as bytes: what is a packet, who signed it, what answers it."""

import hmac
from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.radius.packet import distrust, is_signed, packet_of, packets_of, response_to, verified
from tests.support.radius import SECRET, body, is_answer, request, sign

START = request(SECRET, (40, 1), (44, "call-1"))


def test_a_request_is_a_packet_signed_with_its_secret() -> None:
    assert packet_of(START) == START
    assert is_signed(START, SECRET)
    assert not is_signed(START, b"other")


def test_octets_behind_the_length_are_padding() -> None:
    assert packet_of(START + b"\x00junk") == START


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "malformed"),
        (START[:19], "malformed"),
        (START[:-1], "malformed"),  # shorter than its Length says
        (START[:2] + (19).to_bytes(2) + START[4:], "malformed"),
        (START[:2] + (4097).to_bytes(2) + START[4:] + bytes(5000), "oversized"),
        (sign(b"\x2c\x01", SECRET), "malformed"),  # an attribute of length 1
        (sign(b"\x2c\x00", SECRET), "malformed"),
        (sign(b"\x2c\x06abc", SECRET), "malformed"),  # beyond the packet's end
        (sign(body([(40, 1)]) + b"\x2c", SECRET), "malformed"),  # a type without a length
        (request(SECRET, (40, 1), code=1), "not_accounting"),
        (request(SECRET, (40, 1), code=3), "not_accounting"),
    ],
)
def test_what_is_no_accounting_request_is_told_by_its_reason(datagram: bytes, reason: str) -> None:
    assert packet_of(datagram) == reason


def test_4096_octets_are_taken() -> None:
    largest = sign(body([(225, "x" * 249)] * 16 + [(225, "y" * 58)]), SECRET)
    assert len(largest) == 4096
    assert packet_of(largest) == largest


def test_a_packet_without_attributes_is_well_formed() -> None:
    bare = sign(b"", SECRET)
    assert packet_of(bare) == bare


def test_an_attribute_without_a_value_is_well_formed() -> None:
    empty = request(SECRET, (40, 1), (207, ""))
    assert packet_of(empty) == empty


def test_the_response_has_the_id_and_the_proxy_states_in_their_order() -> None:
    asked = request(SECRET, (33, b"first"), (40, 1), (33, b"second"), (44, "!"), (33, b""), identifier=200)
    answer = response_to(asked, SECRET)
    assert is_answer(answer, asked, SECRET)
    assert answer[20:] == body([(33, b"first"), (33, b"second"), (33, b"")])


def test_an_octet_33_in_a_value_is_no_proxy_state() -> None:
    asked = request(SECRET, (44, "!!!"))
    assert response_to(asked, SECRET)[20:] == b""


def with_message_authenticator(secret: bytes, *, before: bytes = b"", wrong: bool = False) -> bytes:
    """Return a request whose Message-Authenticator was made as RFC 5080 says."""
    blank = before + body([(80, bytes(16)), (44, "call-1")])
    head = bytes((4, 7)) + (20 + len(blank)).to_bytes(2) + bytes(16)
    mark = hmac.new(secret, head + blank, md5).digest()
    if wrong:
        mark = bytes([mark[0] ^ 1]) + mark[1:]
    return sign(before + body([(80, mark), (44, "call-1")]), secret, identifier=7)


def test_a_message_authenticator_is_verified_if_there_is_one() -> None:
    assert distrust(START, SECRET) == ""
    assert distrust(with_message_authenticator(SECRET), SECRET) == ""
    assert distrust(with_message_authenticator(SECRET, before=body([(33, b"P" * 9)])), SECRET) == ""
    assert distrust(with_message_authenticator(SECRET, wrong=True), SECRET) == "bad_message_authenticator"
    assert distrust(request(SECRET, (80, b"short")), SECRET) == "bad_message_authenticator"


def test_two_message_authenticators_are_refused() -> None:
    once = with_message_authenticator(SECRET)
    assert distrust(sign(once[20:] + body([(80, bytes(16))]), SECRET), SECRET) == "bad_message_authenticator"


@given(st.binary(max_size=4200))
def test_no_bytes_bring_it_down(datagram: bytes) -> None:
    found = packet_of(datagram)
    if isinstance(found, bytes):
        assert datagram.startswith(found)
        is_signed(found, SECRET)
        distrust(found, SECRET)
        assert is_answer(response_to(found, SECRET), found, SECRET)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=253)), max_size=15), st.binary(max_size=64))
def test_any_well_formed_request_is_answered(attributes: list[tuple[int, bytes]], padding: bytes) -> None:
    asked = request(SECRET, *attributes)
    packet = packet_of(asked + padding)
    assert packet == asked
    assert is_signed(asked, SECRET)
    answer = response_to(asked, SECRET)
    assert is_answer(answer, asked, SECRET)
    assert answer[20:] == body([one for one in attributes if one[0] == 33])


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=40))
def test_cut_or_garbled_attributes_are_malformed_or_whole(tail: bytes, junk: bytes) -> None:
    asked = sign(body([(40, 1)]) + tail + junk, SECRET)
    found = packet_of(asked)
    assert found in (asked, "malformed")


def test_verified_says_what_the_receiver_would_count() -> None:
    good = request(SECRET, (40, 1), (44, "c1"))
    assert verified(good + b"padding", [b"next", SECRET]) == good
    assert verified(good, [SECRET], required=True) == "no_message_authenticator"
    assert verified(good, [b"another"]) == "bad_authenticator"
    assert verified(request(SECRET, (40, 1), (80, bytes(16))), [SECRET]) == "bad_message_authenticator"
    assert verified(good[:29], [SECRET]) == "malformed"
    assert verified(request(SECRET, code=12), [SECRET]) == "not_accounting"


@given(st.lists(st.binary(max_size=60), max_size=8), st.data())
def test_a_stream_gives_the_same_packets_however_it_is_cut(attributes: list[bytes], data: st.DataObject) -> None:
    sent = [sign(octets, SECRET) for octets in attributes]
    stream, found, rest = b"".join(sent), [], b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        packets, left = packets_of(rest + stream[:size])
        assert isinstance(left, bytes)
        found, rest, stream = found + packets, left, stream[size:]
    assert (found, rest) == (sent, b"")


@given(st.binary(max_size=9000))
def test_any_stream_is_cut_into_packets_until_it_cannot_be_right(stream: bytes) -> None:
    packets, rest = packets_of(stream)
    assert all(20 <= len(packet) <= 4096 for packet in packets)
    if isinstance(rest, bytes):
        assert b"".join(packets) + rest == stream
        assert len(rest) < 4096
    else:
        assert rest in ("malformed", "oversized")
