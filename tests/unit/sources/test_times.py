"""When an event happened, by its own word or by its arrival."""

import pytest

from accounting.event import AccountingEvent
from tests.support.radius import Attribute
from tests.unit.sources.rows import ARRIVED, ARRIVED_US, INVITE, STAMP, START, TAGS, event, source

DELAY = 41
DAY = 86_400


def start(*attributes: Attribute) -> AccountingEvent:
    return event(START, INVITE, (44, "c1"), *TAGS, *attributes)


def test_event_timestamp_counts_before_arrival_and_delay() -> None:
    got = start((STAMP, ARRIVED - 9), (DELAY, 5))
    assert (got.at_us, got.timed, got.flags) == ((ARRIVED - 9) * 1_000_000, True, ())


@pytest.mark.parametrize(
    ("text", "us"),
    [
        (b"1799999999.123456", 1_799_999_999_123_456),
        (b" 1799999999.5", 1_799_999_999_500_000),
        (b"1799999999", 1_799_999_999_000_000),
        (b"1799999999.1234567", 1_799_999_999_123_456),
    ],
)
def test_event_timestamp_may_be_text_with_a_fraction(text: bytes, us: int) -> None:
    got = start((STAMP, text))
    assert (got.at_us, got.timed, got.flags) == (us, True, ())


@pytest.mark.parametrize(
    "stamp", [0, 946_684_799, ARRIVED + DAY + 1, 2**32 - 1, b"yesterday", b"\x00\x01", b"-1.5", b"9" * 200]
)
def test_impossible_timestamp_is_told_and_arrival_counts(stamp: int | bytes) -> None:
    got = start((STAMP, stamp), (DELAY, 5))
    assert (got.at_us, got.timed, got.flags) == (ARRIVED_US - 5_000_000, False, ("bad_timestamp",))


@pytest.mark.parametrize("stamp", [946_684_800, ARRIVED + DAY])
def test_timestamps_at_the_borders_are_taken(stamp: int) -> None:
    assert start((STAMP, stamp)).timed


def test_old_timestamp_is_legal_and_told() -> None:
    got = start((STAMP, ARRIVED - 8 * DAY))
    assert (got.timed, got.flags) == (True, ("old_timestamp",))
    assert start((STAMP, ARRIVED - 7 * DAY)).flags == ()


def test_no_timestamp_is_no_oddity() -> None:
    got = start()
    assert (got.at_us, got.timed, got.flags) == (ARRIVED_US, False, ())


def test_delay_over_a_day_is_not_taken_off() -> None:
    got = start((DELAY, DAY + 1))
    assert (got.at_us, got.flags) == (ARRIVED_US, ("bad_delay",))
    assert start((DELAY, DAY)).at_us == ARRIVED_US - DAY * 1_000_000


def test_delay_of_a_wrong_length_is_told() -> None:
    got = start((DELAY, b"\x05"))
    assert (got.at_us, got.flags) == (ARRIVED_US, ("bad_integer",))


def test_delay_of_a_media_proxy_is_the_post_dial_delay_and_not_taken_off() -> None:
    got = event((40, 3), (44, "c1"), *TAGS, (46, 95), (234, "timeout"), (DELAY, 7), by=source("mediaproxy"))
    assert (got.at_us, got.timed) == (ARRIVED_US, False)
