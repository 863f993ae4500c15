"""How far a table has been read: the highest id, and below it the ids that were not there yet.

An id is given before its row is committed, so a missing one may belong to a transaction that is still open. Pure.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

GAPS_MAX = 20_000
"""So many ranges of missing ids are kept; beyond that the oldest are given up."""


class Gap(NamedTuple):
    """A range of ids that were missing when it was first seen."""

    first: int
    last: int
    seen_us: int


class Position(NamedTuple):
    """All ids up to `high` were read, or are in a gap, or were given up."""

    high: int = 0
    gaps: tuple[Gap, ...] = ()  # ascending, apart from each other
    anchor: str = ""  # digest of the row at `high`, to notice that ids began again; "" = not known
    made: str = ""  # when the table was made, as the database told
    skip_before: str = ""  # local time: rows dated earlier lie before the collector's `start`
    wall: str = ""  # the latest local time seen in order of ids
    second: str = ""  # the day whose doubled hour is in its second pass
    follow: tuple[tuple[int, str, int], ...] = ()  # rows that are changed in place: id, digest, closed (us; 0: open)


def position_text(position: Position) -> str:
    """Return a position as JSON."""
    return json.dumps(position._asdict(), separators=(",", ":"))


def position_of(text: str) -> Position:
    """Return the position that position_text wrote; fields of an older version have their defaults."""
    kept = {name: value for name, value in json.loads(text).items() if name in Position._fields}
    kept["gaps"] = tuple(Gap(*gap) for gap in kept.get("gaps", ()))
    kept["follow"] = tuple((row, digest, closed) for row, digest, closed in kept.get("follow", ()))
    return Position(**kept)


def advanced(position: Position, ids: Sequence[int], now_us: int) -> Position:
    """Return the position after these ids above `high` were read, ascending; what lies between them is a gap."""
    gaps = list(position.gaps)
    high = position.high
    for number in ids:
        assert number > high, "ids above the position, ascending"
        if number > high + 1:
            gaps.append(Gap(high + 1, number - 1, now_us))
        high = number
    return position._replace(high=high, gaps=tuple(gaps))


def filled(position: Position, ids: Iterable[int]) -> Position:
    """Return the position after rows with these ids appeared in gaps."""
    found = sorted(set(ids))
    if not found:
        return position
    gaps: list[Gap] = []
    at = 0
    for gap in position.gaps:
        first = gap.first
        while at < len(found) and found[at] < gap.first:
            at += 1
        while at < len(found) and found[at] <= gap.last:
            if found[at] > first:
                gaps.append(Gap(first, found[at] - 1, gap.seen_us))
            first = found[at] + 1
            at += 1
        if first <= gap.last:
            gaps.append(gap._replace(first=first))
    return position._replace(gaps=tuple(gaps))


def expired(position: Position, now_us: int, gap_us: int) -> tuple[Position, int]:
    """Return the position without gaps that are too old, or the oldest of too many, and how many ids were given up."""
    kept = [gap for gap in position.gaps if now_us - gap.seen_us <= gap_us]
    if len(kept) > GAPS_MAX:
        kept = sorted(sorted(kept, key=lambda gap: gap.seen_us)[-GAPS_MAX:])
    if len(kept) == len(position.gaps):
        return position, 0
    lost = sum(gap.last - gap.first + 1 for gap in position.gaps) - sum(gap.last - gap.first + 1 for gap in kept)
    return position._replace(gaps=tuple(kept)), lost


def gaps_to_look_at(position: Position, turn: int, now_us: int, *, young_us: int, many: int) -> tuple[Gap, ...]:
    """Return the gaps to ask for this time: the youngest `many` that are young, and as many of the others in turn."""
    young = [gap for gap in position.gaps if now_us - gap.seen_us <= young_us]
    old = [gap for gap in position.gaps if now_us - gap.seen_us > young_us]
    parts = -(-len(old) // many) or 1
    part = turn % parts
    return tuple(sorted([*sorted(young, key=lambda gap: -gap.seen_us)[:many], *old[part * many : (part + 1) * many]]))
