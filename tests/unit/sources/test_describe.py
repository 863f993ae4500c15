"""A datagram, by the names of its source's dictionary."""

import pytest

from accounting.event import Source
from accounting.sources.describe import describe
from tests.support.radius import SECRET, Attribute, body, request, sign, vsa
from tests.unit.sources.rows import source


def described(*attributes: Attribute, by: Source) -> list[tuple[str, str]]:
    return describe(request(SECRET, *attributes), by)


def test_attributes_have_names_numbers_and_named_values() -> None:
    assert described((40, 15), (204, 1), (205, 486), (44, "c\n1"), (4, b"\x7f\x00\x00\x01"), by=source("opensips")) == [
        ("Acct-Status-Type", "15 (Failed)"),
        ("Sip-Method", "1 (Invite)"),
        ("Sip-Response-Code", "486"),
        ("Acct-Session-Id", r"c\x0a1"),
        ("NAS-IP-Address", "127.0.0.1"),
    ]


def test_dictionary_is_that_of_the_dialect_that_fits() -> None:
    by = source("opensips", "kamailio")
    assert described((101, 8), (105, "f"), by=by) == [("Sip-Method", "8"), ("Sip-From-Tag", "f")]
    assert described((206, "f"), by=by) == [("Sip-From-Tag", "f")]


def test_vendor_attributes_have_their_vendors_names() -> None:
    assert described(vsa(9, 1, "leg=2"), vsa(9, 99, "x"), (26, b"\x01"), by=source()) == [
        ("Cisco-AVPair", "leg=2"),
        ("Attr-26.9.99", '0x78 "x"'),
        ("Attr-26", "0x01"),
    ]


def test_unknown_odd_and_octet_values_are_shown_as_they_are() -> None:
    assert described((250, b"\xff"), (40, b"\x01"), (25, b"\x01\x02"), by=source()) == [
        ("Attr-250", "0xff"),
        ("Acct-Status-Type", r"\x01"),
        ("Class", "0x0102"),
    ]


def test_malformed_datagram_says_so() -> None:
    assert describe(b"short", source()) == [("malformed", "5 octets are no RADIUS packet")]
    raw = sign(body([(40, 1)]) + b"\x2c\x01", SECRET)
    assert describe(raw, source()) == [("malformed", "attribute 44 at octet 26 claims a length of 1")]


def test_broken_dictionary_leaves_numbers() -> None:
    assert described((40, 1), by=source(dictionary="unheard-of")) == [("Attr-40", "0x00000001")]


@pytest.mark.parametrize("dictionary", ["", "opensips", "classic"])
def test_attributes_of_switches_and_gateways_have_names(dictionary: str) -> None:
    by = source("cisco", "asterisk", "freeswitch", dictionary=dictionary)
    assert described(vsa(9, 24, "h323-conf-id=1 2 3 4"), (40, 1), by=by) == [
        ("h323-conf-id", "h323-conf-id=1 2 3 4"),
        ("Acct-Status-Type", "1 (Start)"),
    ]
    assert described(vsa(22736, 114, 61), by=by) == [("Asterisk-Bill-Sec", "61")]
    assert described(vsa(27880, 13, 17), by=by) == [("Freeswitch-Hangupcause", "17 (User-Busy)")]
    assert described(vsa(4923, 30, "16"), by=by) == [("h323-disconnect-cause-4923", "16")]


def test_what_may_be_a_secret_is_hidden() -> None:
    digits = b"\x13\x37" * 8
    shown = described(
        (2, digits), (3, digits), (60, digits), (69, digits), (79, digits), (80, digits),
        (26, b"\x00\x00\x017" + digits),
        vsa(311, 16, digits), vsa(9, 1, "h323-password=1337"), (26, b"\x00\x00\x017"), by=source("kamailio"),
    )  # fmt: skip
    assert all(value.startswith("********") for _, value in shown), shown


def test_what_a_dictionary_calls_encrypted_or_names_as_a_secret_is_hidden() -> None:
    text = "ATTRIBUTE Key-Thing 240 string encrypt=1\nATTRIBUTE Digest-HA1 241 string\nATTRIBUTE Keyboard 242 string\n"
    assert described((240, "abc"), (241, "abc"), (242, "abc"), by=source(dictionary=text)) == [
        ("Key-Thing", "******** (3 octets, hidden)"),
        ("Digest-HA1", "******** (3 octets, hidden)"),
        ("Keyboard", "abc"),
    ]


def test_instants_are_told_as_such() -> None:
    assert described((55, 1_795_504_063), by=source()) == [("Event-Timestamp", "1795504063 (2026-11-24T07:07:43.000Z)")]
