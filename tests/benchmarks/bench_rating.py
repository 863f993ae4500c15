"""How many calls a second are rated against two decks of 50,000 prefixes: python -m tests.benchmarks.bench_rating"""

import random
import statistics
import time
from collections.abc import Callable
from zoneinfo import ZoneInfo

from cdr.rating.book import Assignment, DeckVersion, Rate, RateRequest, build_book, compile_version, rate_calls
from cdr.rating.deck import parse_deck
from cdr.rating.prefixes import encode_numbers, find_owners
from cdr.rating.price import Tariff

PREFIXES, CALLS, ROUNDS = 50_000, 1_000_000, 5
AT_US = 1_800_000_000_000_000


def seconds(work: Callable[[], object]) -> float:
    """Return the median time of a few rounds."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def random_prefixes(dice: random.Random) -> list[str]:
    """Return distinct prefixes of one to nine digits."""
    found: set[str] = set()
    while len(found) < PREFIXES:
        found.add(str(dice.randrange(1, 10 ** dice.randint(1, 9))))
    return sorted(found)


def main() -> None:
    """Print the figures."""
    dice = random.Random(1)
    prefixes = random_prefixes(dice)
    rates = [Rate(n, p, f"to {p[:3]}", Tariff(dice.randrange(10**9), 0, 60, 6)) for n, p in enumerate(prefixes, 1)]
    versions = [compile_version(DeckVersion(n, n, f"deck{n}", 1, "EUR"), rates) for n in (1, 2)]
    book = build_book(versions, [Assignment(n, n, 1 + n % 2) for n in range(1, 1001)])
    numbers = [f"+{dice.choice(prefixes)[:6]}{dice.randrange(10**7, 10**8)}" for _ in range(CALLS)]
    calls = [RateRequest(dice.randint(1, 1000), number, AT_US, dice.randrange(600_000)) for number in numbers]
    text = "\n".join(["prefix,destination,rate", *(f"{r.prefix},{r.destination},0.0123" for r in rates)]).encode()
    print(f"parse {PREFIXES:,} lines: {seconds(lambda: parse_deck(text, ZoneInfo('UTC'))):.2f} s")
    print(f"compile {PREFIXES:,} rates: {seconds(lambda: compile_version(versions[0].version, rates)):.2f} s")
    found = seconds(lambda: find_owners(versions[0].segments, encode_numbers(numbers, versions[0].longest)[0]))
    print(f"longest prefix of {CALLS:,} numbers: {CALLS / found:,.0f}/s")
    for size in (1, 10, 1000, 20_000, CALLS):
        took = seconds(lambda size=size: rate_calls(book, calls[:size]))  # type: ignore[misc]
        print(f"rate_calls of {size:,}: {took * 1000:.2f} ms, {size / took:,.0f}/s")


if __name__ == "__main__":
    main()
