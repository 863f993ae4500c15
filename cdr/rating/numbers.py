"""Phone numbers as sources write them, brought to E.164 by the country and prefixes of their client.

It does not guess: what may not be a whole international number comes back as '' and is an alarm, not a wrong price.
"""

import re
from functools import lru_cache

from phonenumbers import (
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    ValidationResult,
    is_possible_number_with_reason,
    is_valid_number,
    is_valid_short_number_for_region,
    parse,
)

from accounting.event import Source

DIGITS_MAX = 31  # with the + it fits the tables' 32 places; E.164 itself ends at 15
CACHE_MAX = 65_536

_SEPARATORS = str.maketrans("", "", "-.() ")  # visual separators of RFC 3966 section 5.1.1
_DIGITS = re.compile(rf"[0-9]{{1,{DIGITS_MAX}}}", re.ASCII)


def to_e164(text: str, source: Source) -> str:
    """Return '+digits' of a number or a SIP user part, '' if it is not a number.

    - Digits after a + are taken as they are, also where no numbering plan knows them.
    - Others are international after the source's international prefix; without one, after that of its country; without
      a country, after 00.
    - The rest are national numbers of the source's country. With the national prefix in front, the length must be
      possible; without it (1001, 12345678) they may be extensions or local numbers, so the numbering plan must know
      them, and they must not be a whole number behind the country's code too (49 30 ... in Germany).
    - Without a country there are no national numbers: the rest are international if a numbering plan knows them so.
    - Short codes (110, 112, 116117) stay '': they mean another line in every place. A proxy that wants them charged
      sends them with a +.
    """
    return _to_e164(text, source.country, source.international_prefix, source.national_prefix)


@lru_cache(CACHE_MAX)
def _to_e164(text: str, country: str, international_prefix: str, national_prefix: str) -> str:
    number, _, parameters = text.strip().partition(";")  # isub, npdi, phone-context: RFC 3966 section 3
    number = number.translate(_SEPARATORS)
    if number.startswith("+"):
        return number if _DIGITS.fullmatch(number, 1) else ""
    if not _DIGITS.fullmatch(number) or "phone-context=" in parameters.lower():
        return ""  # the latter: a local number of somebody else's context
    if international_prefix and number.startswith(international_prefix):
        return _international(number[len(international_prefix) :])
    plan = PhoneMetadata.metadata_for_region(country.upper()) if country else None
    if plan is None:
        if number.startswith("00") and not international_prefix:
            return _international(number[2:])
        return f"+{number}" if _is_whole(number) else ""
    if found := re.match(plan.international_prefix or "00", number):
        return "" if international_prefix else _international(number[found.end() :])
    return _national(number, plan, national_prefix)


def _international(digits: str) -> str:
    return f"+{digits}" if digits and digits[0] != "0" else ""  # no country code begins with 0


def _national(number: str, plan: PhoneMetadata, national_prefix: str) -> str:
    """Return the E.164 form of a number dialled within a country, '' if it may be something else."""
    code, region = plan.country_code or 0, plan.id
    if is_valid_short_number_for_region(PhoneNumber(country_code=code, national_number=int(number)), region):
        return ""
    prefix = national_prefix or plan.national_prefix or ""
    try:
        if national_prefix and number.startswith(national_prefix):
            parsed = parse(f"+{code}{number[len(national_prefix) :]}")
        else:
            parsed = parse(number, region)
    except NumberParseException:
        return ""
    if prefix and number.startswith(prefix):
        known = is_possible_number_with_reason(parsed) == ValidationResult.IS_POSSIBLE
    else:
        known = is_valid_number(parsed) and not _is_international_too(number, code)
    zeros = "0" * (parsed.number_of_leading_zeros or 1) if parsed.italian_leading_zero else ""
    return f"+{parsed.country_code}{zeros}{parsed.national_number}" if known else ""


def _is_international_too(number: str, code: int) -> bool:
    return number.startswith(str(code)) and _is_whole(number)


def _is_whole(number: str) -> bool:
    """Return whether a numbering plan knows these digits as a number with its country code."""
    try:
        return is_valid_number(parse(f"+{number}"))
    except NumberParseException:
        return False
