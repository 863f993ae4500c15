"""Money is exact: what does not fit is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.base.money import (
    INT64_MAX,
    MoneyError,
    check_currency,
    format_exact,
    format_micros,
    parse_micros,
    parse_nanos,
)


@given(st.integers(min_value=-INT64_MAX, max_value=INT64_MAX))
def test_what_is_written_is_read_back(micros: int) -> None:
    assert parse_micros(format_micros(micros, 6)) == micros
    assert parse_micros(format_exact(micros)) == micros


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("12.50", 12_500_000),
        ("-0.000001", -1),
        ("+1", 1_000_000),
        ("0.1000000000", 100_000),
        ("007", 7_000_000),
    ],
)
def test_decimal_text_is_read_exactly(text: str, micros: int) -> None:
    assert parse_micros(text) == micros


def test_rates_may_be_finer_than_amounts() -> None:
    assert parse_nanos("0.012345678") == 12_345_678
    with pytest.raises(MoneyError, match="more than 6 decimals"):
        parse_micros("0.0123456")
    with pytest.raises(MoneyError, match="more than 9 decimals"):
        parse_nanos("0.0000000001")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "1.",
        ".5",
        "1e3",
        "NaN",
        "inf",
        "-",
        "1_000",
        "1,5",
        "1 000",
        "0x10",
        "١٢",
        "１",
        "--1",
        "1.5.2",
        "9" * 500,
    ],
)
def test_text_that_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(MoneyError):
        parse_micros(text)


@pytest.mark.parametrize("value", [1.5, 1, None, True])
def test_what_is_not_text_is_refused(value: Any) -> None:
    with pytest.raises(MoneyError):
        parse_micros(value)


def test_amounts_beyond_64_bits_are_refused() -> None:
    assert parse_micros("9223372036854.775807") == INT64_MAX
    for text in ("9223372036854.775808", "-9223372036854.775808"):
        with pytest.raises(MoneyError, match="too large"):
            parse_micros(text)


@pytest.mark.parametrize(
    ("micros", "decimals", "text"),
    [
        (1_234_500, 4, "1.2345"),
        (-5_000, 4, "-0.0050"),
        (0, 0, "0"),
        (3_000_000, 0, "3"),
        (-1, 6, "-0.000001"),
        (0, 2, "0.00"),
    ],
)
def test_amounts_are_written_with_the_decimals_asked_for(micros: int, decimals: int, text: str) -> None:
    assert format_micros(micros, decimals) == text


def test_writing_never_rounds() -> None:
    with pytest.raises(AssertionError):
        format_micros(1_234_567, 4)
    assert format_exact(1_234_567) == "1.234567"
    assert format_exact(1_200_000) == "1.20"


def test_currency_codes_have_three_capital_letters() -> None:
    assert check_currency("EUR") == "EUR"
    for code in ("eur", "EURO", "", "E1R", "EUR\n"):
        with pytest.raises(MoneyError):
            check_currency(code)
