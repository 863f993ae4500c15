"""Identities as people write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.base.errors import TollbookError
from cdr.rating.directory import ALWAYS_US, FOREVER_US, Identity
from cdr.rating.identities import canonical, ends, overlaps


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("user", "alice", "alice"),
        ("user", "alice\n", "alice"),
        ("user", " Alice@LAB.example ", "Alice@lab.example"),
        ("user", "sip:alice@lab.example", "alice@lab.example"),
        ("user", "+4930123", "+4930123"),
        ("user", "o'brien@lab.example", "o'brien@lab.example"),
        ("ip", "192.0.2.7", "192.0.2.7/32"),
        ("ip", "192.0.2.0/24", "192.0.2.0/24"),
        ("ip", "2001:DB8:0::/48", "2001:db8::/48"),
        ("ip", "[2001:db8::1]", "2001:db8::1/128"),
        ("ip", "::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("number", "+4930", "4930"),
        ("number", "1", "1"),
        ("did", "493012345", "493012345"),
        ("host", "GW.Carrier.Example.", "gw.carrier.example"),
        ("host", "localhost", "localhost"),
    ],
)
def test_one_form(kind, text, value):
    assert canonical(kind, text) == value
    assert canonical(kind, value) == value


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        ("user", "", "not a SIP user"),
        ("user", "alice@", "not a SIP user"),
        ("user", "@lab.example", "not a SIP user"),
        ("user", "alice smith", "not a SIP user"),
        ("user", "alice@lab.example:5060", "not a SIP user"),
        ("user", "a\nb", "not a SIP user"),
        ("ip", "192.0.2.7/24", "write 192.0.2.0/24"),
        ("ip", "2001:db8::1/32", "write 2001:db8::/32"),
        ("ip", "192.0.2", "not an address"),
        ("ip", "gw.example", "not an address"),
        ("ip", "192.0.2.0/33", "not an address"),
        ("number", "+49 30 123", "digits only"),
        ("number", "", "digits only"),
        ("number", "+", "digits only"),
        ("number", "++49", "digits only"),
        ("number", "٤٩٣٠", "digits only"),
        ("did", "4930x", "digits only"),
        ("did", "1234567890123456", "E.164"),
        ("did", "030123", "country code"),
        ("host", "198.51.100.1", "--ip"),
        ("host", "sip:gw.example", "without sip:"),
        ("host", "gw.example:5060", "port"),
        ("host", "", "not a host name"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(kind, text, hint):
    with pytest.raises(TollbookError, match=hint):
        canonical(kind, text)


@given(st.sampled_from(["user", "ip", "number", "did", "host"]), st.text(max_size=40))
def test_any_text_is_made_canonical_once_or_refused(kind, text):
    with contextlib.suppress(TollbookError):
        value = canonical(kind, text)
        assert canonical(kind, value) == value


def carol(account_id=1, from_us=ALWAYS_US, to_us=FOREVER_US):
    return Identity(account_id, "user", "carol", from_us, to_us)


def test_half_open_intervals_may_touch():
    assert not overlaps(carol(to_us=10), carol(2, from_us=10))
    assert overlaps(carol(to_us=11), carol(2, from_us=10))
    assert overlaps(carol(), carol())


def test_other_values_never_overlap():
    assert not overlaps(carol(), carol()._replace(value="dave"))


def test_an_end_may_be_given_to_what_had_none():
    assert ends(carol(to_us=10), carol())
    assert ends(carol(from_us=5, to_us=10), carol(from_us=5))
    assert not ends(carol(), carol())
    assert not ends(carol(2, to_us=10), carol())
    assert not ends(carol(from_us=5, to_us=10), carol())
    assert not ends(carol(to_us=10), carol(to_us=20))
