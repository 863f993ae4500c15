"""Packets that other programs' tests and sources assert something about, and what must be known of them here."""

import json
from datetime import datetime
from typing import Any

import pytest

from accounting.event import AccountingEvent, EventKind
from accounting.radius.dictionary import DecodeTable, decode_table
from tests.support.radius import Attribute
from tests.unit.sources.rows import DATA, event, source

CASES = {case["id"]: case for case in json.loads((DATA / "oracles/pairing.json").read_text("utf-8"))["radius"]}
FAMILIES = pytest.mark.parametrize("family", ["opensips", "classic"])


def events(case: str, family: str, dialect: str) -> list[AccountingEvent]:
    table = decode_table(family, dialect)
    by = source(dialect, dictionary=family)
    return [event(*_attributes(packet, table), by=by) for packet in CASES[case]["packets"]]


def _attributes(packet: dict[str, Any], table: DecodeTable) -> list[Attribute]:
    return [_attribute(name, value, table) for name, value in packet.items()]


def _attribute(name: str, value: int | str, table: DecodeTable) -> Attribute:
    number = table.numbers[name.lower()]
    assert isinstance(number, int)
    entry = table.entries[number]
    assert entry is not None
    if isinstance(value, int):
        return number, value if entry.type != "string" else str(value)
    if name == "Event-Timestamp":
        return number, int(datetime.fromisoformat(value).timestamp())
    if entry.type == "ipaddr":
        return number, bytes(map(int, value.split(".")))
    if name == "Sip-Method":
        return number, {"Invite": 1, "Bye": 8}[value]
    return number, entry.values[value] if entry.type == "integer" else value


@FAMILIES
@pytest.mark.parametrize("dialect", ["kamailio", "generic"])
def test_kamailio_start_and_stop(family: str, dialect: str) -> None:
    start, stop = events("wire-1", family, dialect)
    assert (start.kind, stop.kind) == (EventKind.START, EventKind.STOP)
    assert stop.at_us - start.at_us == CASES["wire-1"]["expect"]["duration_s"] * 1_000_000
    assert (start.from_tag, start.to_tag) == (stop.from_tag, stop.to_tag) == ("51585361", "75c2f57b")
    assert (start.auth_user, start.called_uri, start.nas) == ("1001", "1002", "127.0.0.1")


@FAMILIES
@pytest.mark.parametrize(
    ("case", "kind", "seconds"),
    [("wire-2", EventKind.START, 0), ("wire-3", EventKind.INTERIM, 30), ("wire-4", EventKind.STOP, 120)],
)
def test_sessions_of_freeradius_tests(family: str, case: str, kind: EventKind, seconds: int) -> None:
    [got] = events(case, family, "generic")
    assert (got.kind, got.is_session, got.duration_ms) == (kind, True, seconds * 1000)
    assert got.terminate_cause == (1 if case == "wire-4" else None)


def test_second_start_of_a_session_has_the_same_key() -> None:
    first, second = events("wire-5", "classic", "generic")
    assert first == second


@FAMILIES
def test_cdr_of_opensips(family: str) -> None:
    [got] = events("wire-6", family, "opensips")
    expect = CASES["wire-6"]["expect"]
    assert (got.kind, got.at_us, got.duration_ms) == (
        EventKind.COMPLETE,
        expect["answer_epoch"] * 1_000_000,
        expect["duration_ms"],
    )
    assert got.setup_ms == expect["setup_s"] * 1000
    assert got.duration_ms is not None
    assert got.at_us // 1000 + got.duration_ms == expect["end_epoch_ms"]


@FAMILIES
def test_failed_invite(family: str) -> None:
    [got] = events("wire-7", family, "kamailio")
    assert (got.kind, got.sip_code) == (EventKind.FAILED, 486)


@FAMILIES
def test_bye_of_the_callee_ends_the_call_though_it_is_answered_481(family: str) -> None:
    start, stop = events("wire-8", family, "kamailio")
    assert (start.kind, stop.kind, stop.sip_code) == (EventKind.START, EventKind.STOP, 481)
    assert (stop.from_tag, stop.to_tag) == (start.to_tag, start.from_tag)
