"""An operator's correction is an event like others."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.event import AccountingEvent, EventKind, Untranslatable, group_key
from accounting.sources import translate
from tests.unit.sources.rows import row, source

BY = source(kind="operator")
SAID: dict[str, Any] = {
    "call_key": "c1",
    "call_id": "c1",
    "from_tag": "f",
    "to_tag": "t",
    "is_session": False,
    "nas": "proxy1",
    "ended_us": 1_800_000_000_000_000,
    "reason": "carrier's record, ticket 7",
    "actor": "anna",
}


def said(**changed: Any) -> AccountingEvent | Untranslatable:
    return translate(row(json.dumps(SAID | changed).encode()), BY)


def test_correction_tells_when_the_call_ended_and_why() -> None:
    got = said()
    assert isinstance(got, AccountingEvent)
    assert (got.kind, got.at_us, got.reason) == (EventKind.OPERATOR, SAID["ended_us"], SAID["reason"])
    assert (got.call_id, got.from_tag, got.to_tag, group_key(got)) == ("c1", "f", "t", "c1")


def test_correction_of_a_session_has_its_key() -> None:
    got = said(is_session=True, call_id="00A1")
    assert isinstance(got, AccountingEvent)
    assert group_key(got) == "00A1"


def test_text_of_a_correction_is_clean() -> None:
    got = said(reason="two\nlines \ud800")
    assert isinstance(got, AccountingEvent)
    assert got.reason == r"two\x0alines \xed\xa0\x80"


@pytest.mark.parametrize(
    "changed",
    [
        {"call_id": ""},
        {"call_id": 5},
        {"from_tag": None},
        {"is_session": 1},
        {"ended_us": "soon"},
        {"ended_us": True},
        {"ended_us": 1.5},
        {"ended_us": -1},
        {"ended_us": 2**63},
        {"ended_us": None},
    ],
)
def test_wrong_correction_is_refused(changed: dict[str, Any]) -> None:
    got = said(**changed)
    assert isinstance(got, Untranslatable)
    assert got.reason == "bad_correction"


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b'{"call_id": "c1"}'])
def test_what_is_no_correction_is_refused(raw: bytes) -> None:
    got = translate(row(raw), BY)
    assert isinstance(got, Untranslatable)
    assert got.reason == "bad_correction"


@given(st.binary(max_size=200))
def test_no_octets_raise(raw: bytes) -> None:
    translate(row(raw), BY)
