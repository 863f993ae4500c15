"""Instants are exact, in UTC, and never naive."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.base.clock import from_us, iso_ms, now, now_us, parse_instant, to_us
from accounting.base.errors import TollbookError


@given(st.integers(min_value=-62_135_596_800_000_000, max_value=253_402_300_799_999_999))
def test_microseconds_survive_the_way_through_datetime(us: int) -> None:
    assert to_us(from_us(us)) == us


def test_now_is_aware_and_of_this_moment() -> None:
    before = now_us()
    assert before <= to_us(now()) <= now_us()
    assert now().utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T07:07:43Z", "2026-11-24T07:07:43.000Z"),
        ("2026-11-24T08:07:43.4759+01:00", "2026-11-24T07:07:43.475Z"),
        (" 2026-11-24 07:07:43+00:00 ", "2026-11-24T07:07:43.000Z"),
    ],
)
def test_instants_are_read_and_written_in_utc(text: str, expected: str) -> None:
    assert iso_ms(parse_instant(text)) == expected


@pytest.mark.parametrize(
    "text",
    ["2026-11-24T07:07:43", "2026-11-24", "", "yesterday", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00"],
)
def test_text_that_is_no_instant_with_an_offset_is_refused(text: str) -> None:
    with pytest.raises(TollbookError):
        parse_instant(text)


def test_milliseconds_are_cut_and_not_rounded_up_into_the_next_second() -> None:
    assert iso_ms(datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == "2026-12-31T23:59:59.999Z"
    assert iso_ms(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == "2026-01-01T00:00:00.000Z"
    assert iso_ms(None) == ""


def test_naive_datetimes_are_refused() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the thing under test
    for function in (to_us, iso_ms):
        with pytest.raises(ValueError, match="naive"):
            function(naive)
