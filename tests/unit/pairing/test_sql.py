"""SQL rows, translated and paired: the cases of other programs, the doubled hour, and Call-IDs that were cut."""

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounting.event import AccountingEvent, EventKind, Source, group_key
from accounting.sources import translate
from cdr.call import Call, CallState
from cdr.pairing import pair_group
from cdr.pairing_cut import by_call_id, mend_tags
from tests.unit.sources.rows import DATA, Row

CASES = {case["id"]: case for case in json.loads((DATA / "oracles/pairing.json").read_text("utf-8"))["sql_pairing"]}
LATER_US = 2 * 86_400 * 1_000_000
SQL = Source(id=1, name="sql", kind="sql", dialects=("opensips",), timezone="Europe/Berlin")


def epoch(local: str) -> int:
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1_000_000)


def events_of(rows: list[dict[str, Any]], width: int = 64) -> list[AccountingEvent]:
    made = []
    for row in rows:
        said: dict[str, Any] = {"table": "acc", "row": row}
        said["full"] = [name for name in ("callid", "from_tag", "to_tag") if len(row[name]) == width]
        received_us = max(epoch(one["time"]) for one in rows) + 7_200 * 1_000_000
        got = translate(Row(row["id"], received_us, 1, b"", json.dumps(said).encode()), SQL)
        assert isinstance(got, AccountingEvent), got
        made.append(got)
    return made


def paired(case: str) -> tuple[Call, ...]:
    events = events_of(CASES[case]["rows"])
    now = CASES[case].get("now")
    now_us = epoch(now) if now else max(event.at_us for event in events) + LATER_US
    return pair_group(events, now_us=now_us).calls


@pytest.mark.parametrize(
    "case", ["pair-1", "pair-2", "pair-3", "pair-4", "pair-7", "pair-10", "pair-11", "pair-12", "pair-13", "pair-14"]
)
def test_rows_give_the_calls_expected(case: str) -> None:
    expected = [one.get("duration_ms", one.get("duration_s", 0) * 1000) for one in CASES[case]["expect"]]
    assert [(call.state, call.duration_ms) for call in paired(case)] == [(CallState.CLOSED, ms) for ms in expected]


def test_forks_are_one_call() -> None:
    [serial] = paired("pair-5")
    [parallel] = paired("pair-6")
    assert (serial.duration_ms, serial.attempts) == (60_000, 1)
    assert (parallel.to_tag, parallel.duration_ms, parallel.flags) == ("t1", 300_000, ("multi_answer",))


def test_call_without_bye_is_open() -> None:
    [call] = paired("pair-8")
    assert call.state is CallState.OPEN


def test_media_proxy_ends_a_call_of_sql() -> None:
    [start] = events_of(CASES["pair-9"]["rows"])
    at_us = start.at_us + 305 * 1_000_000
    media = start._replace(ref=2, kind=EventKind.MEDIA, at_us=at_us, duration_ms=245_000, media_info="timeout")
    [call] = pair_group([start, media], now_us=at_us + LATER_US).calls
    assert (call.duration_ms, call.stop_cause) == (245_000, "media")


def test_bye_of_the_doubled_hour_is_told() -> None:
    [call] = paired("pair-12")
    assert (call.duration_ms, "ambiguous_hour" in call.flags) == (1_200_000, True)


def long_call(call_id: str, tags: tuple[str, str] = ("f", "t"), first: int = 1) -> list[dict[str, Any]]:
    said = {"from_tag": tags[0], "to_tag": tags[1], "callid": call_id, "sip_code": "200"}
    return [
        {"id": first, "method": "INVITE", "time": "2026-03-02 10:00:00", **said},
        {"id": first + 1, "method": "BYE", "time": "2026-03-02 10:01:30", **said},
    ]


def test_cut_call_id_is_joined_with_the_whole_one_by_its_tags() -> None:
    whole = [event._replace(source="radius", flags=()) for event in events_of(long_call("x" * 80, first=11))]
    cut = events_of(long_call("x" * 64))
    assert {group_key(event) for event in whole + cut} == {"x" * 64}
    for order in (whole + cut, cut + whole):
        [call] = pair_group(order, now_us=order[0].at_us + LATER_US).calls
        assert (call.call_id, call.duration_ms) == ("x" * 80, 90_000)


def test_calls_whose_ids_begin_alike_stay_apart() -> None:
    events = events_of(long_call("x" * 64 + "1")) + events_of(long_call("x" * 64 + "2", first=11))
    found = pair_group(events, now_us=events[0].at_us + LATER_US).calls
    assert [call.call_id[-1] for call in found] == ["1", "2"]
    cut = events_of(long_call("x" * 64, ("other", "tags"), first=21))
    found = pair_group(events + cut, now_us=events[0].at_us + LATER_US).calls
    assert sorted(len(call.call_id) for call in found) == [64, 65, 65]


LONG_TAG = "a" * 64 + "-tag"


@pytest.mark.parametrize("call_id", ["c1", "x" * 80])
def test_cut_tag_is_joined_with_the_whole_one(call_id: str) -> None:
    whole = [event._replace(source="radius", flags=()) for event in events_of(long_call(call_id, (LONG_TAG, "t"), 11))]
    cut = events_of(long_call(call_id[:64], (LONG_TAG[:64], "t")))
    for order in (whole + cut, cut + whole):
        [call] = pair_group(order, now_us=order[0].at_us + LATER_US).calls
        assert (call.call_id, call.from_tag, call.duration_ms) == (call_id, LONG_TAG, 90_000)


def test_cut_tag_that_could_be_of_two_calls_is_held() -> None:
    events = events_of(long_call("c1", (LONG_TAG + "1", "t"))) + events_of(long_call("c1", (LONG_TAG + "2", "t"), 11))
    cut = events_of(long_call("c1", (LONG_TAG[:64], "t"), 21))
    found = pair_group(events + cut, now_us=events[0].at_us + LATER_US).calls
    assert sorted((call.state.value, call.reason) for call in found) == [
        ("closed", ""), ("closed", ""), ("exception", "cut_call_id"),
    ]  # fmt: skip


def test_cut_tag_alone_is_a_call() -> None:
    [call] = pair_group(cut := events_of(long_call("c1", (LONG_TAG[:64], "t"))), now_us=cut[0].at_us + LATER_US).calls
    assert (call.state, call.duration_ms) == (CallState.CLOSED, 90_000)


def test_row_without_tags_whose_id_was_cut_is_of_the_only_call_that_begins_so() -> None:
    whole = [event._replace(source="radius", flags=()) for event in events_of(long_call("x" * 80, first=11))]
    row = whole[0]._replace(
        ref=30, source="radacct", kind=EventKind.COMPLETE, call_id="x" * 64, from_tag="", to_tag="", is_session=True,
        duration_ms=90_000, rank=2, flags=("maybe_cut",),
    )  # fmt: skip
    [call] = pair_group([*whole, row], now_us=row.at_us + LATER_US).calls
    assert (call.call_id, call.duration_ms) == ("x" * 80, 90_000)


def test_many_calls_whose_ids_begin_alike_are_told_apart_in_one_pass() -> None:
    """With n calls of 3 n events, and not n times as many comparisons."""
    whole, cut = [], []
    for n in range(3_000):
        made = long_call("x" * 64 + f"{n:05}", (f"f{n}", f"t{n}"), first=n * 10)
        whole += [event._replace(source="radius", flags=()) for event in events_of(made)]
        cut += events_of(long_call("x" * 64, (f"f{n}", f"t{n}"), first=n * 10 + 5))[:1]
    found = by_call_id(whole + cut)
    assert {len(group) for group, _ in found} == {3}
    assert len(found) == 3_000


class Counted(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def startswith(self, *words: Any) -> bool:
        Counted.compared += 1
        return super().startswith(*words)

    def __lt__(self, other: str) -> bool:
        Counted.compared += 1
        return super().__lt__(other)


@pytest.mark.parametrize(
    ("tags", "flags"), [(("", ""), ("maybe_cut",)), (("F" * 64, "t{}"), ("maybe_cut", "maybe_cut_tag"))]
)
def test_cut_values_that_begin_many_are_told_apart_with_few_comparisons(
    tags: tuple[str, str], flags: tuple[str, ...]
) -> None:
    """Some tens for each of n calls, and not n."""
    count = 1_000
    [one, _] = events_of(long_call("x" * 64))
    whole, cut = [], []
    for n in range(count):
        names = {"from_tag": Counted("F" * 64 + f"{n:05}"), "to_tag": Counted(f"t{n}")}
        whole.append(one._replace(ref=n, call_id=Counted("x" * 64 + f"{n:05}"), flags=(), **names))
        told = {"from_tag": Counted(tags[0]), "to_tag": Counted(tags[1].format(n))}
        cut.append(one._replace(ref=count + n, call_id=Counted("x" * 64), flags=flags, **told))
    Counted.compared = 0
    found = by_call_id(whole + cut)
    mend_tags([event._replace(call_id="c") for event in whole + cut])
    assert Counted.compared < 150 * count
    if tags[1]:  # the tag that was not cut tells which call it is
        assert {(len(group), is_held) for group, is_held in found} == {(2, False)}
    else:
        assert [len(group) for group, is_held in found if is_held] == [count]


def test_cut_tag_and_cut_call_id_are_of_the_call_that_has_all() -> None:
    """Both calls have the caller's tag's beginning; one of them the callee's tag too."""
    whole = events_of(long_call("x" * 64 + "1", (LONG_TAG + "1", "t1")), width=0)
    whole += events_of(long_call("x" * 64 + "2", (LONG_TAG + "2", "t2"), 11), width=0)
    cut = events_of(long_call("x" * 64, (LONG_TAG[:64], "t2"), 21))
    for order in (whole + cut, cut + whole):
        found = pair_group(order, now_us=order[0].at_us + LATER_US).calls
        assert [(call.state, call.call_id[-1], call.from_tag[-1], len(call.events)) for call in found] == [
            (CallState.CLOSED, "1", "1", 2), (CallState.CLOSED, "2", "2", 2),
        ]  # fmt: skip


def test_cut_call_id_that_could_be_of_two_calls_is_held() -> None:
    events = events_of(long_call("x" * 64 + "1")) + events_of(long_call("x" * 64 + "2", first=11))
    cut = events_of(long_call("x" * 64, first=21))
    found = pair_group(events + cut, now_us=events[0].at_us + LATER_US).calls
    assert [(call.state, call.reason) for call in found if len(call.call_id) == 64] == [
        (CallState.EXCEPTION, "cut_call_id")
    ]


def test_acc_cdrs_alone_is_held_and_beside_acc_only_ends_what_has_no_bye() -> None:
    rows = long_call("c")
    ringing = {
        "id": 9, "start_time": "2026-03-02 09:59:50", "end_time": "2026-03-02 10:01:31", "duration": "101.0",
        "callid": "c", "from_tag": "f",
    }  # fmt: skip
    raw = json.dumps({"table": "acc_cdrs", "row": ringing}).encode()
    got = translate(Row(9, epoch("2026-03-02 10:05:00"), 2, b"", raw), SQL._replace(id=2, name="cdrs"))
    assert isinstance(got, AccountingEvent)
    [alone] = pair_group([got], now_us=got.at_us + LATER_US).calls
    assert (alone.state, alone.reason) == (CallState.EXCEPTION, "answer_unknown")
    [call] = pair_group([*events_of(rows), got], now_us=got.at_us + LATER_US).calls
    assert (call.duration_ms, call.stop_cause) == (90_000, "bye")
    [ended] = pair_group([*events_of(rows[:1]), got], now_us=got.at_us + LATER_US).calls
    assert (ended.duration_ms, ended.stop_cause) == (91_000, "bye")
