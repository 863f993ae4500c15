"""Rows of SQL accounting become events: by method and code, by the best clock there is, by the settings' columns."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from accounting.event import AccountingEvent, EventKind, Source, Untranslatable
from accounting.sources import translate
from accounting.sources.localtime import instants
from accounting.sources.uri import user_part
from tests.unit.sources.rows import Row

ACC = {
    "id": "1", "method": "INVITE", "from_tag": "f", "to_tag": "t", "callid": "c", "sip_code": "200",
    "time": "2026-03-02 10:00:00",
}  # fmt: skip
TRANSACTION = {"duration": "0", "ms_duration": "0", "setuptime": "1795504485", "created": "1970-01-01 00:00:00"}
CDR = {"duration": "62", "ms_duration": "61250", "setuptime": "8", "created": "2026-03-02 09:59:52"}
SESSION = {
    "radacctid": 1, "acctsessionid": "s1", "nasipaddress": "192.0.2.1", "username": "alice",
    "acctstarttime": "2026-03-02 10:00:00",
}  # fmt: skip
LATER_US = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def told(
    row: dict[str, Any], table: str = "acc", *, received_us: int = LATER_US, more: Any = None, **known: Any
) -> AccountingEvent | Untranslatable:
    source = Source(id=1, name="db", kind="sql", dialects=("opensips",), **known)
    raw = json.dumps({"table": table, "row": row, **(more or {})}).encode()
    return translate(Row(7, received_us, 1, b"", raw), source)


def event(row: dict[str, Any], table: str = "acc", **known: Any) -> AccountingEvent:
    got = told(row, table, **known)
    assert isinstance(got, AccountingEvent), got
    return got


@pytest.mark.parametrize(
    ("method", "code", "kind"),
    [
        ("INVITE", "200", EventKind.START), ("INVITE", "202", EventKind.START), ("INVITE", "486", EventKind.FAILED),
        ("INVITE", "", EventKind.FAILED), ("INVITE", "183", EventKind.OTHER), ("BYE", "200", EventKind.STOP),
        ("BYE", "481", EventKind.STOP), ("CANCEL", "200", EventKind.OTHER), ("MESSAGE", "200", EventKind.OTHER),
        ("UPDATE", "200", EventKind.OTHER),
    ],
)  # fmt: skip
def test_method_and_code_tell_the_kind(method: str, code: str, kind: EventKind) -> None:
    assert event(ACC | TRANSACTION | {"method": method, "sip_code": code}).kind is kind


@pytest.mark.parametrize("user", ["o'brien;--", "a?b", "+34911;ext=5", "alice"])
def test_bare_user_is_taken_as_it_is(user: str) -> None:
    columns = {"columns": ("auth_user=acc_user",)}
    got = event(ACC | {"src_user": user, "dst_ouser": user, "dst_user": user, "acc_user": user}, **columns)
    said = (got.caller_uri, got.called_uri, got.translated_uri, got.auth_user, got.from_user)
    assert [user_part(one) for one in said] == [user] * 5


@pytest.mark.parametrize("uri", ["sip:alice@h;x=y", "<sip:alice@h>;tag=1", "tel:alice;ext=5", "alice@h"])
def test_uri_in_a_column_is_read_as_a_uri(uri: str) -> None:
    assert user_part(event(ACC | {"src_user": uri}).caller_uri) == "alice"


def test_row_in_cdr_mode_is_a_whole_call_by_its_milliseconds() -> None:
    got = event(ACC | CDR | {"sip_code": "486"})  # the code is another call's
    assert (got.kind, got.at_us, got.duration_ms) == (EventKind.COMPLETE, us("2026-03-02 10:00:00"), 61_250)
    assert (got.setup_ms, got.created_us, got.sip_code) == (8_000, us("2026-03-02 09:59:52"), None)


def test_zeros_of_transaction_mode_are_no_duration_and_no_setup() -> None:
    got = event(ACC | TRANSACTION)
    assert (got.kind, got.duration_ms, got.setup_ms, got.created_us) == (EventKind.START, None, None, None)


def test_clock_that_stepped_back_is_told() -> None:
    assert "absurd_duration" in event(ACC | CDR | {"ms_duration": "4294960000", "duration": "4294960"}).flags


def test_both_rows_of_a_failure_say_the_same() -> None:
    row = ACC | {"sip_code": "486"}
    assert event(row) == event(row, "missed_calls")


def test_time_columns_in_utc_are_preferred_to_local_time() -> None:
    row = ACC | {"time_attr": "1772445600", "time_exten": "250000"}
    assert event(row, timezone="Asia/Kolkata").at_us == 1_772_445_600_250_000
    other = ACC | {"sec": 1_772_445_600, "usec": 250_000}
    assert event(other, columns=("time_s=sec", "time_us=usec")).at_us == 1_772_445_600_250_000
    unused = ACC | {"time_attr": "0", "time_exten": "0"}
    assert event(unused).at_us == us("2026-03-02 10:00:00")


def test_local_time_is_of_the_proxys_zone() -> None:
    assert event(ACC, timezone="Asia/Kolkata").at_us == us("2026-03-02 04:30:00")


def test_doubled_hour_is_flagged_and_resolved_by_the_order_of_ids() -> None:
    row = ACC | {"time": "2026-10-25 02:30:00"}
    first = event(row, timezone="Europe/Berlin")
    second = event(row, timezone="Europe/Berlin", more={"fold": 1})
    assert (first.at_us, second.at_us) == (us("2026-10-25 00:30:00"), us("2026-10-25 01:30:00"))
    assert first.flags[0] == second.flags[0] == "ambiguous_hour"


def test_doubled_hour_that_was_read_before_its_second_pass_is_certain() -> None:
    got = event(ACC | {"time": "2026-10-25 02:30:00"}, timezone="Europe/Berlin", received_us=us("2026-10-25 00:30:02"))
    assert (got.at_us, got.flags) == (us("2026-10-25 00:30:00"), ())


def test_hour_that_spring_leaves_out_is_flagged() -> None:
    got = event(ACC | {"time": "2026-03-29 02:30:00"}, timezone="Europe/Berlin")
    assert (got.at_us, got.flags[0]) == (us("2026-03-29 01:30:00"), "nonexistent_hour")


def test_no_time_is_no_event() -> None:
    got = told(ACC | {"time": "0000-00-00 00:00:00"})
    assert isinstance(got, Untranslatable)
    assert got.reason == "bad_row"


def test_columns_by_the_settings_and_by_their_usual_names() -> None:
    row = ACC | {"src_user": "alice", "dst_ouser": "bob", "src_ip": "127.0.0.1", "uri": "sip:al@h", "acc_user": "x"}
    usual = event(row, own_addresses=("127.0.0.1",))
    assert (usual.caller_uri, usual.called_uri, usual.source_is_own, usual.auth_user) == ("alice", "bob", True, "")
    named = event(row, columns=("auth_user=acc_user", "caller=URI"))
    assert (named.caller_uri, named.called_uri, named.auth_user) == ("sip:al@h", "bob", "x")


def test_octets_that_are_not_utf_8_are_shown() -> None:
    assert event(ACC | {"src_user": {"hex": "6ae9"}}).caller_uri == "j\\xe9"


def test_value_that_fills_its_column_may_be_cut() -> None:
    assert "maybe_cut" in event(ACC, more={"full": ["callid"]}).flags


def test_acc_cdrs_includes_the_ringing_unless_the_settings_say_otherwise() -> None:
    row = {
        "id": 1, "start_time": "2026-03-02 10:00:00", "end_time": "2026-03-02 10:00:04", "duration": "4.009",
        "callid": "c", "from_tag": "f",
    }  # fmt: skip
    ringing = event(row, "acc_cdrs")
    assert (ringing.kind, ringing.at_us, ringing.duration_ms) == (EventKind.STOP, us("2026-03-02 10:00:04"), None)
    assert "duration_includes_ringing" in ringing.flags
    talk = event(row, "acc_cdrs", start_on_confirmed=True)
    assert (talk.kind, talk.at_us, talk.duration_ms) == (EventKind.COMPLETE, us("2026-03-02 10:00:00"), 4_009)
    failed = event(row | {"duration": "0.000"}, "acc_cdrs")
    assert (failed.kind, failed.sip_code) == (EventKind.FAILED, None)


def test_radacct_row_in_each_of_its_states() -> None:
    kinds = [
        event(SESSION | more, "radacct")
        for more in (
            {},
            {"acctupdatetime": "2026-03-02 10:05:00", "acctsessiontime": 300},
            {"acctstoptime": "2026-03-02 10:10:00", "acctsessiontime": 600},
            {"acctstoptime": "2026-03-02 10:00:00", "acctsessiontime": None},
        )
    ]
    assert [(one.kind, one.duration_ms) for one in kinds] == [
        (EventKind.START, None), (EventKind.INTERIM, 300_000), (EventKind.COMPLETE, 600_000), (EventKind.START, None),
    ]  # fmt: skip
    assert "duration_lost" in kinds[3].flags
    assert {(one.is_session, one.nas) for one in kinds} == {(True, "192.0.2.1")}


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b'{"table": "acc"}', b'{"table": "acc", "row": 1}'])
def test_what_no_collector_wrote_is_refused(raw: bytes) -> None:
    got = translate(Row(7, LATER_US, 1, b"", raw), Source(id=1, name="db", kind="sql"))
    assert isinstance(got, Untranslatable)
    assert got.reason == "bad_row"


def test_instants_of_a_local_time() -> None:
    assert instants("nonsense", "UTC") is None
    assert instants("2026-03-02 10:00:00.25", "UTC") == (us("2026-03-02 10:00:00") + 250_000, None, True)


def test_radacct_text_is_read_back_from_how_freeradius_writes_it() -> None:
    got = event(
        SESSION | {"calledstationid": "=2B4930111", "acctsessionid": "a=C3=A4=3D41", "username": "x=zz"}, "radacct"
    )
    assert (got.called_uri, got.call_id, got.auth_user) == ("+4930111", "aä=41", "x=zz")
