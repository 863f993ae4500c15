"""User and host parts of what sources write as URIs."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accounting.sources.uri import addr_spec, address_of, host_part, user_part


@pytest.mark.parametrize(
    ("uri", "user", "host"),
    [
        ("sip:alice@lab.example", "alice", "lab.example"),
        ("SIPS:Alice@Lab.Example:5061;transport=tls?subject=x", "Alice", "lab.example"),
        ("sip:o'brien;--%20drop+1_2*3!@lab.example;user=phone", "o'brien;--%20drop+1_2*3!", "lab.example"),
        ("sip:alice:secret@h", "alice", "h"),
        ("sip:+34911;npdi;rn=+34900@h", "+34911;npdi;rn=+34900", "h"),
        ("sip:a/b?c&d=e,f$@h", "a/b?c&d=e,f$", "h"),
        ("tel:+34600123123", "+34600123123", ""),
        ("tel:+34-600-123;phone-context=+34", "+34-600-123", ""),
        ("tel:100;phone-context=lab.example", "100", ""),
        ("tel:+34600@h", "+34600", ""),
        ("+34600123123@", "+34600123123", ""),
        ("34600123123", "34600123123", ""),
        ("34600123123;ext=5", "34600123123", ""),
        ("alice", "alice", ""),
        ("alice@h", "alice", "h"),
        ("mediaproxy@default", "mediaproxy", "default"),
        ("sip:34600123123", "34600123123", ""),
        ("sip:127.0.0.3:35071", "", "127.0.0.3"),
        ("sip:lab.example;lr", "", "lab.example"),
        ("sip:[2001:db8::1]:5060", "", "2001:db8::1"),
        ("sip:bob@[2001:DB8::1]:5060;transport=udp", "bob", "2001:db8::1"),
        ("sip:bob@2001:db8::1", "bob", "2001:db8::1"),
        ("sip:bob@h.example.:5060", "bob", "h.example"),
        ("sip:bob@[2001:db8::1", "bob", "2001:db8::1"),
        ('"Alice" <sip:alice@h>;tag=x', "alice", "h"),
        ('"A <b@c> \\" d" <sip:alice@h;x=y>;tag=x', "alice", "h"),
        ("Alice <sip:alice@h>", "alice", "h"),
        ("<sip:alice@h>", "alice", "h"),
        ("<tel:+34600>;tag=1", "+34600", ""),
        ("<sip:alice@h", "alice", "h"),
        ('"unclosed <sip:alice@h>', "alice", "h"),
        ("  sip:alice@h ", "alice", "h"),
        ("sip:@h", "", "h"),
        ("sip:", "", ""),
        ("", "", ""),
        ("@", "", ""),
        ("<>", "", ""),
        ('"Alice"', "", ""),
    ],
)
def test_parts(uri: str, user: str, host: str) -> None:
    assert (user_part(uri), host_part(uri)) == (user, host)


def test_address_is_user_at_host_without_the_rest() -> None:
    assert address_of('"Alice" <sip:alice:pw@Lab.Example:5060>;tag=x') == "alice@lab.example"
    assert address_of("tel:+34600") == "+34600"
    assert address_of("sip:lab.example") == ""


@given(st.text())
@example('"' * 300)
@example('"\\' * 300)
@example("<" * 300)
def test_any_text_has_parts_of_itself(text: str) -> None:
    assert user_part(text) in text
    assert host_part(text) in text.lower()
    assert addr_spec(text) in text
    assert "@" not in user_part(text)


USER = st.text(st.sampled_from("abcXYZ0189+-_.!~*'();&=$,/?%"), min_size=1)
HOST = st.sampled_from(["lab.example", "10.0.0.1", "[2001:db8::1]", "localhost"])
TAIL = st.sampled_from(["", ":5060", ";transport=udp", ":5060;lr?subject=x"])
FRAME = st.sampled_from(["{}", "<{}>;tag=1", '"A \\" <x>" <{}>', "A <{}>"])


@given(USER, HOST, TAIL, FRAME)
def test_parts_of_any_uri_come_back(user: str, host: str, tail: str, frame: str) -> None:
    uri = frame.format(f"sip:{user}@{host}{tail}")
    assert (user_part(uri), host_part(uri)) == (user, host.strip("[]"))


@given(st.from_regex(r"(sips?|tel):\+?[A-Za-z0-9]{1,20}(@[a-z.]{0,9})?", fullmatch=True))
def test_plain_users_are_what_anybody_reads(uri: str) -> None:
    plain = re.match(r"(?:sips?|tel):(\+?[A-Za-z0-9]+)(?:@|$)", uri)
    assert plain is not None
    assert user_part(uri) == plain[1]
