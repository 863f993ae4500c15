"""Which attribute becomes which field, in both families of numbers."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from accounting.event import EventKind, Source
from tests.support.radius import Attribute, vsa
from tests.unit.sources.rows import CALL, CALL_ID, INTERIM, INVITE, NOW, START, STOP, TAGS, event, source

DELAY = 41
EXTRAS: tuple[Attribute, ...] = (
    (1, "alice@h"),
    (31, "sip:alice@h"),
    (30, "sip:bob@h"),
    (107, "sip:bob@10.0.0.1"),
    (214, "192.0.2.1"),
    (216, "sip:+34911@h"),
    (218, "acme"),
    (219, "unconditional"),
    (221, '"A" <sip:al@h2>;tag=f'),
)
CLASSIC: tuple[Attribute, ...] = (INVITE, (102, 200), *TAGS)
OPENSIPS: tuple[Attribute, ...] = ((204, 1), (205, 200), (206, "f"), (207, "t"))


@pytest.mark.parametrize(
    ("by", "numbers"),
    [
        (source("kamailio"), CLASSIC),
        (source("kamailio", dictionary="opensips"), OPENSIPS),
        (source("opensips"), OPENSIPS),
        (source("opensips", dictionary="classic"), CLASSIC),
        (source("generic"), CLASSIC),
        (source("generic", dictionary="opensips"), OPENSIPS),
    ],
)
def test_parties_come_through_in_both_families(by: Source, numbers: tuple[Attribute, ...]) -> None:
    got = event(START, (CALL_ID, "c1"), NOW, *numbers, *EXTRAS, by=by)
    assert (got.kind, got.sip_code, got.from_tag, got.to_tag) == (EventKind.START, 200, "f", "t")
    assert (got.caller_uri, got.called_uri, got.translated_uri) == ("sip:alice@h", "sip:+34911@h", "sip:bob@10.0.0.1")
    assert (got.auth_user, got.billing_party, got.divert_reason) == ("alice@h", "acme", "unconditional")
    assert (got.from_user, got.source_ip, got.is_session) == ("al@h2", "192.0.2.1", False)


def test_called_station_counts_without_canonical_uri() -> None:
    assert event(START, INVITE, *CALL, (30, "sip:bob@h")).called_uri == "sip:bob@h"


@pytest.mark.parametrize(
    ("attributes", "caller"),
    [
        (((31, "sip:a@h"), (1, "u"), (221, "<sip:f@h>")), "sip:a@h"),
        (((1, "u"), (221, "<sip:f@h>")), "u"),
        (((221, "<sip:f@h>"),), "<sip:f@h>"),
        (((31, b""), (1, "u")), "u"),
    ],
)
def test_caller_is_the_best_of_what_was_sent(attributes: tuple[Attribute, ...], caller: str) -> None:
    assert event(START, INVITE, *CALL, *attributes).caller_uri == caller


def test_first_value_that_is_not_empty_wins() -> None:
    assert event(START, INVITE, *CALL, (1, b""), (1, "alice"), (1, "bob")).auth_user == "alice"


@pytest.mark.parametrize(
    ("attributes", "nas"),
    [
        (((32, "proxy1"), (4, IPv4Address("10.0.0.1"))), "proxy1"),
        (((4, IPv4Address("10.0.0.1")), (95, IPv6Address("2001:db8::1"))), "10.0.0.1"),
        (((95, IPv6Address("2001:db8::1")),), "2001:db8::1"),
        (((4, IPv4Address("0.0.0.0")),), "192.0.2.9"),
        (((4, b"\x01\x02"),), "192.0.2.9"),
        ((), "192.0.2.9"),
    ],
)
def test_nas_is_named_by_itself_or_by_its_address(attributes: tuple[Attribute, ...], nas: str) -> None:
    assert event(START, INVITE, *CALL, *attributes).nas == nas


@pytest.mark.parametrize(
    ("attributes", "address"),
    [
        (((32, "gw1"), (4, IPv4Address("10.0.0.1"))), "10.0.0.1"),
        (((32, "10.0.0.1"), (4, IPv4Address("10.0.0.1"))), ""),  # else a packet would be taken for a table's row
        (((32, "10.0.0.1"), (4, IPv4Address("192.168.0.1"))), "192.168.0.1"),
        (((4, IPv4Address("10.0.0.1")),), ""),
        (((32, "gw1"),), ""),
    ],
)
def test_address_of_a_session_is_told_beside_the_name_only(attributes: tuple[Attribute, ...], address: str) -> None:
    got = event(STOP, NOW, (CALL_ID, "s1"), (46, 5), *attributes, by=source("generic"))
    assert (got.is_session, got.nas_address) == (True, address)


@pytest.mark.parametrize(
    ("address", "own", "is_own"),
    [
        ("127.0.0.1", ("127.0.0.1",), True),
        ("127.0.0.2", ("127.0.0.1",), False),
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("2001:DB8:0::1", ("2001:db8::1",), True),
        ("[2001:db8::1]", ("2001:db8::1",), True),
        ("::ffff:10.1.2.3", ("10.1.2.3",), True),
        ("not an address", ("10.0.0.0/8",), False),
        ("proxy.local", ("proxy.local",), True),
        (b"\x0a\x01\x02\x03", ("10.1.2.3",), True),
        (b"", ("",), False),
    ],
)
def test_own_source_address_marks_an_inner_pass(address: str | bytes, own: tuple[str, ...], is_own: bool) -> None:
    got = event(START, INVITE, *CALL, (214, address), by=source("kamailio", own_addresses=own))
    assert got.source_is_own is is_own


def test_ipv6_source_loses_its_brackets() -> None:
    assert event(START, INVITE, *CALL, (214, "[2001:db8::1]")).source_ip == "2001:db8::1"


def test_binary_source_port_does_no_harm() -> None:
    got = event(START, INVITE, *CALL, (215, b"\x09\x89"), (214, "127.0.0.2"))
    assert (got.source_ip, got.flags) == ("127.0.0.2", ())


@pytest.mark.parametrize("number", [46, 49, 228, 229])
def test_integer_of_a_wrong_length_is_ignored_and_told_once(number: int) -> None:
    got = event(START, INVITE, *CALL, (number, b"\x00\x00\x01"), (DELAY, b"\x01"))
    assert (got.duration_ms, got.terminate_cause, got.setup_ms, got.created_us) == (None, None, None, None)
    assert got.flags == ("bad_integer",)


def test_session_time_of_a_sip_report_is_kept() -> None:
    assert event(STOP, (101, 8), *CALL, (46, 61)).duration_ms == 61_000
    assert event(INTERIM, INVITE, *CALL, (46, 30)).duration_ms == 30_000


def test_absurd_session_time_is_kept_and_told() -> None:
    got = event(STOP, (101, 8), *CALL, (46, 2**32 - 1))
    assert (got.duration_ms, got.flags) == ((2**32 - 1) * 1000, ("absurd_duration",))


def test_generic_report_without_tags_is_a_session() -> None:
    got = event(STOP, (CALL_ID, "00A1"), NOW, (32, "gw1"), (46, 61), (49, 10), by=source("generic"))
    assert (got.kind, got.is_session, got.nas, got.call_id) == (EventKind.STOP, True, "gw1", "00A1")
    assert (got.duration_ms, got.terminate_cause, got.flags) == (61_000, 10, ())


def test_generic_report_with_tags_is_a_call() -> None:
    got = event(STOP, (101, 8), *CALL, (46, 61), by=source("generic"))
    assert (got.is_session, got.duration_ms) == (False, 61_000)


def test_sip_attributes_may_be_a_vendors_in_the_dictionary_of_a_client() -> None:
    text = (
        "VENDOR iptelorg 24960\nBEGIN-VENDOR iptelorg\nATTRIBUTE Sip-Method 101 string\n"
        "ATTRIBUTE Sip-From-Tag 105 string\nEND-VENDOR iptelorg\n"
    )
    got = event(
        STOP,
        (CALL_ID, "c1"),
        NOW,
        vsa(24960, 101, "CANCEL"),
        vsa(24960, 105, "f"),
        vsa(9, 105, "not a tag"),
        (26, b"\x00"),
        by=source("kamailio", dictionary=text),
    )
    assert (got.kind, got.from_tag, got.flags) == (EventKind.OTHER, "f", ())


def test_number_that_a_dictionary_gives_another_name_is_not_taken_for_ours() -> None:
    text = "ATTRIBUTE Sip-Method 101 integer\nATTRIBUTE Sip-From-Tag 105 string\nATTRIBUTE Ascend-Thing 216 integer\n"
    got = event(START, INVITE, *CALL, (216, "sip:x@h"), (30, "sip:y@h"), by=source("kamailio", dictionary=text))
    assert got.called_uri == "sip:y@h"
