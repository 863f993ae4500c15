"""What counts as a difference between two sources, and what is only another way to count."""

from cdr.differences import SHOWN_MAX, Comparison, View, differences, views_of
from cdr.pairing import PairingLimits
from tests.unit.pairing.scenario import parse


def view(
    source: str = "a", duration_ms: int | None = 60_000, *, is_exact: bool = False, code: int | None = None
) -> View:
    return View(source, "answered" if code is None else "busy", code, duration_ms, is_exact, "alice", "bob")


def test_whole_seconds_may_differ_by_one() -> None:
    assert not differences(view(duration_ms=60_000), view(duration_ms=61_000))
    assert not differences(view(duration_ms=60_000), view(duration_ms=61_080, is_exact=True))
    assert differences(view(duration_ms=60_000), view(duration_ms=62_000)) == [("duration", "60.000 s", "62.000 s")]


def test_exact_durations_may_differ_by_what_the_network_takes() -> None:
    assert not differences(view(duration_ms=60_001, is_exact=True), view(duration_ms=60_061, is_exact=True))
    assert differences(view(duration_ms=60_001, is_exact=True), view(duration_ms=60_062, is_exact=True))


def test_what_a_source_does_not_say_is_no_difference() -> None:
    assert not differences(view(duration_ms=None), view())
    assert not differences(View("a", "", None, None, False, "", ""), view())


def test_another_code_is_told_once_with_the_disposition() -> None:
    assert differences(view(code=486), view(code=600)) == [("code", "486", "600")]
    assert [figure for figure, _, _ in differences(view(code=486), view())] == ["disposition"]


def test_a_failure_without_a_code_agrees_with_any_failure() -> None:
    vague = View("cdrs", "failed", None, None, False, "", "")
    assert not differences(vague, view(code=486))
    assert differences(vague, view()) == [("disposition", "failed", "answered")]


def test_each_source_is_paired_alone() -> None:
    scenario = parse("""
    10:00:00 start    c1  alice > bob
    10:00:00 complete c1  alice > bob 61250ms at=sql rank=2
    10:01:01 stop     c1  by callee
    10:02:00 media    c1  61s timeout at=relay rank=3
    """)
    views = views_of(scenario.events, now_us=scenario.now_us, limits=PairingLimits())
    assert [(v.duration_ms, v.is_exact) for v in views] == [(61_000, False), (61_250, True)]
    assert not differences(*views)


def test_an_answer_without_an_end_has_no_duration() -> None:
    scenario = parse("""
    10:00:00 start    c1  alice > bob
    """)
    [seen] = views_of(scenario.events, now_us=scenario.now_us, limits=PairingLimits())
    assert (seen.disposition, seen.duration_ms) == ("answered", None)


def test_lists_are_short_and_counts_are_whole() -> None:
    comparison = Comparison()
    for number in range(SHOWN_MAX + 5):
        comparison.add(number, f"c{number}", [view("a")])
        comparison.add(number, f"d{number}", [view("a"), view("b", 90_000)])
    [pair] = comparison.pairs()
    assert (pair.both, pair.only["a"], pair.only["b"]) == (SHOWN_MAX + 5, SHOWN_MAX + 5, 0)
    assert pair.differing == {"duration": SHOWN_MAX + 5}
    assert len(pair.only_shown["a"]) == len(pair.differing_shown) == SHOWN_MAX


def test_sources_without_a_common_call_are_not_compared() -> None:
    comparison = Comparison()
    comparison.add(1, "c1", [view("a")])
    comparison.add(2, "c2", [view("b")])
    assert comparison.pairs() == []
    assert comparison.seen == {"a": 1, "b": 1}
