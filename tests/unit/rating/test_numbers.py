"""Numbers as sources write them."""

import pytest

from accounting.event import Source
from cdr.rating.numbers import DIGITS_MAX, to_e164


def client(country: str = "", international: str = "", national: str = "") -> Source:
    return Source(1, "proxy", country=country, international_prefix=international, national_prefix=national)


@pytest.mark.parametrize("text", ["+4915112345678", "+9991234", "+0123", "+1", "+" + "9" * DIGITS_MAX])
def test_digits_after_a_plus_are_taken_as_they_are(text):
    assert to_e164(text, client()) == to_e164(text, client("DE")) == text


def test_separators_and_parameters_of_a_user_part_are_no_digits():
    assert to_e164(" +49 (30) 123-45.6;npdi;phone-context=+1 ", client()) == "+4930123456"


@pytest.mark.parametrize(
    "text",
    ["", " ", "+", "alice", "+49alice", "a+49301234", "49x", "+٤٩", "٤٩٣", "+" + "9" * (DIGITS_MAX + 1), "\\xff12"],
)
def test_what_is_not_a_number_is_empty(text):
    assert to_e164(text, client("DE")) == to_e164(text, client()) == ""


@pytest.mark.parametrize(
    ("text", "source", "number"),
    [
        ("004930123456", client(), "+4930123456"),
        ("004930123456", client("DE"), "+4930123456"),
        ("01149301234", client("US"), "+49301234"),
        ("004930123456", client("US"), ""),  # not the prefix of that country
        ("00049301234", client("DE", international="000"), "+49301234"),
        ("004930123456", client("DE", international="000"), ""),
        ("00999123", client("DE"), "+999123"),  # no plan knows it
        ("00", client(), ""),
        ("000301234", client(), ""),  # no country code begins with 0
    ],
)
def test_international_prefix_is_the_sources_else_its_countrys_else_00(text, source, number):
    assert to_e164(text, source) == number


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("030123456", "DE", "+4930123456"),
        ("(030) 123456", "de", "+4930123456"),
        ("0800123456", "DE", "+49800123456"),
        ("02079460000", "GB", "+442079460000"),
        ("0612345678", "IT", "+390612345678"),  # the 0 belongs to the number
        ("06301234567", "HU", "+36301234567"),
        ("12125551234", "US", "+12125551234"),
        ("030123456", "", ""),
        ("030123456", "XX", ""),
    ],
)
def test_national_numbers_need_a_country(text, country, number):
    assert to_e164(text, client(country)) == number


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("2125551234", "US", "+12125551234"),
        ("5551234", "US", ""),  # local
        ("1001", "DE", ""),  # an extension
        ("1234567", "DE", ""),
        ("4915112345678", "DE", ""),  # +49151... with its plus lost, or +494915...: not ours to guess
    ],
)
def test_digits_without_a_national_prefix_must_be_one_whole_number_and_no_other(text, country, number):
    assert to_e164(text, client(country)) == number


def test_configured_national_prefix_is_cut_off():
    assert to_e164("9030123456", client("DE", national="90")) == "+4930123456"
    assert to_e164("90", client("DE", national="90")) == ""


@pytest.mark.parametrize(
    ("text", "country"), [("110", "DE"), ("112", "DE"), ("116117", "DE"), ("911", "US"), ("999", "GB")]
)
def test_short_codes_are_not_numbers(text, country):
    assert to_e164(text, client(country)) == to_e164(text, client()) == ""
    assert to_e164(f"+{text}", client(country)) == f"+{text}"


def test_phone_context_makes_a_local_number_of_somebody_else():
    assert to_e164("030123456;phone-context=+44", client("DE")) == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [("4915112345678", "+4915112345678"), ("34911000111", "+34911000111"), ("1001", ""), ("015112345678", "")],
)
def test_without_a_country_digits_are_international_if_a_numbering_plan_knows_them(text, number):
    assert to_e164(text, client()) == number
