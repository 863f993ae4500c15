"""What decks are made of, and why a call may have no price: plain values.

It computes nothing, so that commands which only store decks or name them need not load numpy.
"""

from enum import StrEnum
from typing import NamedTuple

DECIMALS_MAX = 6  # amounts are micros
PREFIX_DIGITS_MAX = 18  # 11**18 < 2**63, see cdr.rating.prefixes

NO_DECK = "no_deck"  # no deck is assigned to the account at the answer time
NOT_A_NUMBER = "not_a_number"
NO_RATE = "no_rate"  # none of the account's decks has a rate in force for the number
PRICE_TOO_LARGE = "price_too_large"  # does not fit 64 bits of micros


class Rounding(StrEnum):
    UP = "up"
    HALF_UP = "half-up"
    HALF_EVEN = "half-even"
    DOWN = "down"


class Tariff(NamedTuple):
    """The figures of one rate. Money in nanos, `rate_nanos` per minute; durations in whole seconds."""

    rate_nanos: int
    connect_fee_nanos: int = 0
    initial_s: int = 1
    increment_s: int = 1
    minimum_s: int = 0
    grace_s: int = 0
    max_price_nanos: int | None = None


class Rate(NamedTuple):
    """One line of a deck. `from_us` and `to_us` are epoch microseconds, None where open."""

    id: int
    prefix: str
    destination: str
    tariff: Tariff
    from_us: int | None = None
    to_us: int | None = None
    line: int = 0


class DeckVersion(NamedTuple):
    """One loading of a deck; `from_us` None: always."""

    id: int
    deck_id: int
    deck: str
    version: int
    currency: str
    decimals: int = 4
    rounding: Rounding = Rounding.HALF_UP
    from_us: int | None = None


class Assignment(NamedTuple):
    """A deck that rates an account's calls (customer or carrier alike) while it is valid."""

    id: int
    account_id: int
    deck_id: int
    from_us: int | None = None
    to_us: int | None = None
