"""What one client may take up: its rate."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.radius.share import Share, in_turn


def passes(share: Share) -> bool:
    """Return whether one more request passes, as the receiver does it."""
    if share.tokens < 1 and not share.refill():
        return False
    share.tokens -= 1
    return True


@given(per_s=st.integers(1, 1000), pauses=st.lists(st.floats(0, 0.3, allow_nan=False), min_size=1, max_size=300))
def test_no_second_lets_more_through_than_its_rate_and_what_was_saved(per_s: int, pauses: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 1000.0
        patch.setattr("accounting.radius.share.monotonic", lambda: now)
        share = Share(per_s)
        begun, passed = now, 0
        for pause in pauses:
            now += pause
            passed += passes(share)
        assert passed <= per_s + (now - begun) * per_s + 1e-6
        now += 1.0
        assert sum(passes(share) for _ in range(2 * per_s)) >= per_s - 1


def test_what_was_taken_beyond_the_rate_is_paid_before_more_passes() -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 1000.0
        patch.setattr("accounting.radius.share.monotonic", lambda: now)
        share = Share(10)
        share.tokens -= 30
        told = []
        for pause in (1.0, 1.0, 0.15, 0.0):
            now += pause
            told.append(passes(share))
        assert told == [False, False, True, False]


def test_without_a_limit_all_pass() -> None:
    share = Share()
    assert all(passes(share) for _ in range(10_000))


def test_a_new_limit_holds_at_once() -> None:
    share = Share()
    share.limit(3)
    assert [passes(share) for _ in range(4)] == [True, True, True, False]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6), at_most=st.integers(1, 40))
def test_clients_take_turns_and_nothing_is_lost(lengths: list[int], at_most: int) -> None:
    shares = [Share() for _ in lengths]
    for name, (share, length) in enumerate(zip(shares, lengths, strict=True)):
        share.queue.extend((name, number) for number in range(length))
    waiting, batches = deque(shares), []
    while waiting:
        before = [len(share.queue) for share in shares]
        batches.append(in_turn(waiting, at_most))
        taken = [old - len(share.queue) for old, share in zip(before, shares, strict=True)]
        assert len(batches[-1]) == sum(taken) == min(at_most, sum(before))
        for old, mine in zip(before, taken, strict=True):
            assert mine == old or mine >= at_most // len(shares)
    for name, length in enumerate(lengths):
        assert [n for batch in batches for who, n in batch if who == name] == list(range(length))
