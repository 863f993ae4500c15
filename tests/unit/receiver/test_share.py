"""What one client may take up: its rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.radius.share import Share


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


def test_without_a_limit_all_pass() -> None:
    share = Share()
    assert all(passes(share) for _ in range(10_000))


def test_a_new_limit_holds_at_once() -> None:
    share = Share()
    share.limit(3)
    assert [passes(share) for _ in range(4)] == [True, True, True, False]
