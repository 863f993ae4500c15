"""Which rate applies: compiled and vectorised, against the sentences of the contract read literally."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr.rating.book import (
    NO_DECK,
    NO_RATE,
    NOT_A_NUMBER,
    PRICE_TOO_LARGE,
    Assignment,
    DeckVersion,
    Rate,
    RateBook,
    Rated,
    RateRequest,
    build_book,
    compile_version,
    rate_calls,
)
from cdr.rating.prefixes import PREFIX_DIGITS_MAX, build_segments, encode, encode_numbers, find_owners
from cdr.rating.price import Rounding, Tariff, price_call

CENT = Tariff(10**7)
Deck = tuple[DeckVersion, list[Rate]]


def book(decks: list[Deck], assignments: list[Assignment]) -> RateBook:
    return build_book([compile_version(version, rates) for version, rates in decks], assignments)


def rate_one(book: RateBook, number: str, *, account: int = 1, at: int = 0, ms: int = 60_000) -> Rated:
    [rated] = rate_calls(book, [RateRequest(account, number, at, ms)])
    return rated


def one_deck(*rates: Rate, **terms: Any) -> RateBook:
    return book([(DeckVersion(7, 1, "retail", 1, "EUR", **terms), list(rates))], [Assignment(1, 1, 1)])


# ---- the rule, slowly -------------------------------------------------------------------------------------------


def covers(start: int | None, end: int | None, at: int) -> bool:
    return (start is None or start <= at) and (end is None or at < end)


def latest(start: int | None) -> float:
    return float("-inf") if start is None else start


def naive(decks: list[Deck], assignments: list[Assignment], call: RateRequest) -> Rated:
    mine = [a for a in assignments if a.account_id == call.account_id and covers(a.from_us, a.to_us, call.at_us)]
    if not mine:
        return Rated(NO_DECK)
    if not call.number:
        return Rated(NOT_A_NUMBER)
    best = None
    for assignment in sorted(mine, key=lambda a: (latest(a.from_us), a.id), reverse=True):
        begun = [d for d in decks if d[0].deck_id == assignment.deck_id and covers(d[0].from_us, None, call.at_us)]
        if not begun:
            continue
        version, rates = max(begun, key=lambda d: (latest(d[0].from_us), d[0].version))
        in_force = [r for r in rates if call.number[1:].startswith(r.prefix) and covers(r.from_us, r.to_us, call.at_us)]
        if in_force:
            found = max(in_force, key=lambda r: (len(r.prefix), latest(r.from_us)))
            if best is None or len(found.prefix) > len(best[1].prefix):
                best = version, found
    if best is None:
        return Rated(NO_RATE)
    version, found = best
    billed, amount = price_call(found.tariff, call.duration_ms, version.decimals, version.rounding)
    return Rated(
        "", version.id, found.id, found.prefix, found.destination, billed, amount, version.currency, version.decimals
    )


digits = st.text("012", min_size=1, max_size=5)
times = st.integers(0, 6)
bounds = st.tuples(st.none() | times, st.none() | times).filter(lambda b: None in b or b[0] < b[1])


@st.composite
def decks(draw: st.DrawFn) -> list[Deck]:
    made: list[Deck] = []
    for deck_id in range(1, draw(st.integers(1, 3)) + 1):
        for number in range(1, draw(st.integers(1, 3)) + 1):
            version = DeckVersion(
                len(made) + 1, deck_id, f"deck{deck_id}", number, draw(st.sampled_from(["EUR", "USD"])),
                draw(st.integers(0, 6)), draw(st.sampled_from(Rounding)), draw(st.none() | times),
            )  # fmt: skip
            rows = draw(st.dictionaries(st.tuples(digits, st.none() | times), times, max_size=8))
            rates = [
                Rate(
                    len(made) * 100 + at, prefix, f"to {prefix}", Tariff(10**9 + at, increment_s=at + 1), start,
                    (start or 0) + length if length else None,
                )
                for at, ((prefix, start), length) in enumerate(rows.items())
            ]  # fmt: skip
            made.append((version, rates))
    return made


assignments_ = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 4), bounds), max_size=6
).map(lambda rows: [Assignment(at, account, deck, *b) for at, (account, deck, b) in enumerate(rows, 1)])  # fmt: skip
calls_ = st.lists(
    st.builds(
        RateRequest,
        st.integers(1, 4),
        st.one_of(st.just(""), digits.map("+{}".format), st.text("012", min_size=19, max_size=31).map("+{}".format)),
        times,
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=12,
)


@given(decks(), assignments_, calls_)
def test_vectorised_rating_is_the_rule(decks, assignments, calls):
    compiled = book(decks, assignments)
    assert rate_calls(compiled, calls) == [naive(decks, assignments, call) for call in calls]


@given(
    st.sets(st.text("0189", min_size=1, max_size=PREFIX_DIGITS_MAX), max_size=30),
    st.text("0189", min_size=1, max_size=31),
)
def test_segments_find_the_longest_prefix(prefixes, number):
    known = sorted(prefixes)
    segments, parents = build_segments(known)
    keys, is_number = encode_numbers([f"+{number}"], PREFIX_DIGITS_MAX)
    matching = [at for at, prefix in enumerate(known) if number.startswith(prefix)]
    found = int(find_owners(segments, keys)[0])
    chain = []
    while found >= 0:
        chain.append(found)
        found = parents[found]
    assert is_number[0]
    assert chain == sorted(matching, key=lambda at: -len(known[at]))


# ---- examples ---------------------------------------------------------------------------------------------------


def test_longest_prefix_wins_and_a_shorter_number_is_not_under_it():
    deck = one_deck(Rate(1, "49", "Germany", CENT), Rate(2, "4915", "mobile", CENT), Rate(3, "490", "none", CENT))
    assert [rate_one(deck, n).rate_id for n in ("+4915112", "+4930", "+49", "+490")] == [2, 1, 1, 3]
    assert rate_one(deck, "+4").reason == NO_RATE


def test_rate_not_in_force_gives_way_to_the_shorter_prefix():
    deck = one_deck(Rate(1, "49", "Germany", CENT), Rate(2, "4915", "mobile", CENT, 100, 200))
    assert [rate_one(deck, "+4915112", at=at).rate_id for at in (99, 100, 199, 200)] == [1, 2, 2, 1]


def test_latest_beginning_comes_first_among_rates_of_one_prefix():
    deck = one_deck(Rate(1, "49", "old", CENT), Rate(2, "49", "new", CENT, 100), Rate(3, "49", "offer", CENT, 150, 160))
    assert [rate_one(deck, "+49301", at=at).rate_id for at in (99, 100, 150, 160)] == [1, 2, 3, 2]


def test_version_in_force_at_the_answer_rates_and_the_newest_of_one_time_wins():
    terms = [(1, 1, None), (2, 2, None), (3, 3, 100), (4, 4, 50)]
    versions = [
        (DeckVersion(one, 1, "d", number, "EUR", from_us=start), [Rate(one, "49", "", CENT)])
        for one, number, start in terms
    ]
    deck = book(versions, [Assignment(1, 1, 1)])
    assert [rate_one(deck, "+49301", at=at).deck_version_id for at in (0, 49, 50, 99, 100)] == [2, 2, 4, 4, 3]


def test_latest_assignment_wins_at_the_same_prefix_but_a_longer_prefix_beats_it():
    first = (DeckVersion(1, 1, "standard", 1, "EUR"), [Rate(1, "49", "", CENT), Rate(2, "4930", "", CENT)])
    second = (DeckVersion(2, 2, "special", 1, "EUR"), [Rate(3, "49", "", CENT)])
    deck = book([first, second], [Assignment(1, 1, 1), Assignment(2, 1, 2, 100, 200), Assignment(3, 2, 2)])
    assert [rate_one(deck, "+4940", at=at).rate_id for at in (99, 100, 200)] == [1, 3, 1]
    assert rate_one(deck, "+49301", at=150).rate_id == 2
    assert rate_one(deck, "+49301", at=150, account=2).rate_id == 3


def test_of_assignments_from_the_same_time_the_one_made_last_wins():
    both = [(DeckVersion(n, n, f"deck{n}", 1, "EUR"), [Rate(n, "49", "", CENT)]) for n in (1, 2)]
    assert rate_one(book(both, [Assignment(1, 1, 1), Assignment(2, 1, 2)]), "+49301").rate_id == 2
    assert rate_one(book(both, [Assignment(1, 1, 2), Assignment(2, 1, 1)]), "+49301").rate_id == 1


def test_reasons():
    deck = one_deck(Rate(1, "49", "Germany", CENT))
    assert rate_one(deck, "+4930") == Rated("", 7, 1, "49", "Germany", 60, 10_000, "EUR", 4)
    assert rate_one(deck, "+4930", account=2) == Rated(NO_DECK)
    assert rate_one(deck, "+1202") == Rated(NO_RATE)
    assert [rate_one(deck, n) for n in ("", "+", "alice", "4930", "+4x", "+４９")] == [Rated(NOT_A_NUMBER)] * 6
    assert rate_one(build_book([], []), "+4930") == Rated(NO_DECK)
    assert rate_one(book([], [Assignment(1, 1, 1)]), "+4930") == Rated(NO_RATE)


def test_price_beyond_64_bits_is_unrated():
    deck = one_deck(Rate(1, "49", "Germany", Tariff(2**62)))
    assert rate_one(deck, "+4930", ms=2**53) == Rated(PRICE_TOO_LARGE)


def test_numbers_longer_than_any_prefix_are_taken_whole():
    prefix = "4" * PREFIX_DIGITS_MAX
    deck = one_deck(Rate(1, prefix, "long", CENT), Rate(2, "4", "short", CENT))
    assert rate_one(deck, f"+{prefix}5678").rate_id == 1
    assert rate_one(deck, f"+{prefix[1:]}5678").rate_id == 2


def test_no_requests_no_answers():
    assert rate_calls(build_book([], []), []) == []


@pytest.mark.parametrize("prefix", ["9" * PREFIX_DIGITS_MAX, "0", "0" * PREFIX_DIGITS_MAX])
def test_keys_fit_64_bits(prefix):
    assert 0 < encode(prefix) < 2**63
