"""Figures as people read them."""

from datetime import UTC, datetime

import pytest

from reports.views import words


@pytest.mark.parametrize(
    ("micros", "text"),
    [(None, "–"), (0, "0.00"), (1_234_567_890_000, "1,234,567.89"), (5_000, "0.01"), (4_999, "0.00"),
     (-70_000, "−0.07"), (-1_000, "0.00")],
)  # fmt: skip
def test_amounts_have_two_decimals(micros: int | None, text: str) -> None:
    assert words.amount(micros) == text
    assert words.is_loss(micros) == text.startswith("−")


def test_shares_and_averages_of_nothing_are_missing() -> None:
    assert (words.share(0, 0), words.average(0, 0)) == ("–", "–")


def test_figures() -> None:
    assert words.share(2, 3) == "66.7 %"
    assert words.average(200_000, 3) == "1:07"
    assert words.minutes(90_000) == "1.5"
    assert words.clock(3_725_999) == "1:02:05"
    assert words.local(datetime(2026, 11, 23, 23, tzinfo=UTC), "Europe/Berlin") == "2026-11-24 00:00:00"
    assert words.local(None, "UTC") == "–"
