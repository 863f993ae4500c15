"""Text of a source is safe in files, terminals and keys, and says all that was sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.sources.text import clean, text_of
from tests.unit.sources.rows import CALL_ID, INVITE, NOW, START, TAGS, event


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", ""),
        (b"alice", "alice"),
        ("José 日本".encode(), "José 日本"),
        (b"Jos\xe9 Mu\xf1oz", r"Jos\xe9 Mu\xf1oz"),
        (b"a\nb\r\x00", r"a\x0ab\x0d\x00"),
        (b"\x1b[2J", r"\x1b[2J"),
        (b"\x7f\xc2\x85", r"\x7f\xc2\x85"),
        ("a\u2028b\u202ec".encode(), r"a\xe2\x80\xa8b\xe2\x80\xaec"),
        (rb"back\slash \x41", r"back\slash \x41"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
        ("nbsp\u00a0".encode(), "nbsp\u00a0"),
        (b'quote " , ;', 'quote " , ;'),
    ],
)
def test_octets_as_text(octets: bytes, text: str) -> None:
    assert text_of(octets) == text


def test_nothing_is_no_text() -> None:
    assert text_of(None) == ""


@given(st.binary(max_size=253))
def test_any_octets_become_one_line_that_encodes(octets: bytes) -> None:
    text = text_of(octets)
    assert len(text.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)
    assert len(text) <= 4 * len(octets)
    text.encode()


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_readable_text_stays(text: str) -> None:
    assert text_of(text.encode()) == text


def test_text_of_events_is_clean() -> None:
    got = event(START, INVITE, (CALL_ID, b"c\xff\n1"), NOW, *TAGS)
    assert got.call_id == r"c\xff\x0a1"
