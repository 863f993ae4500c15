"""Longest prefix of many numbers at once: prefixes become disjoint integer segments that one binary search finds.

A number is written in base 11 (0 = no more digits, digit + 1 otherwise) and filled up to PREFIX_DIGITS_MAX places, so
that all numbers under a prefix, and no shorter one, lie in one range that fits 64 bits. Digits past that many cannot
matter, for no prefix has them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cdr.rating.terms import PREFIX_DIGITS_MAX

_BASE = 11
_PLUS = ord("+")
_ZERO = ord("0")

Ints = NDArray[np.int64]


class Segments(NamedTuple):
    """Ascending `starts`; segment i reaches to the next start and belongs to prefix `owners[i]` (-1: to none)."""

    starts: Ints
    owners: Ints


def encode(prefix: str) -> int:
    """Return the key of digits, the first of all keys under them."""
    key = 0
    for digit in prefix:
        key = key * _BASE + ord(digit) - _ZERO + 1
    return key * _width(len(prefix))


def encode_numbers(numbers: Sequence[str], digits: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the keys of the first `digits` digits of '+digits' numbers, and which of them are such numbers."""
    try:
        cells = np.array(numbers, dtype=f"S{digits + 1}")
    except UnicodeEncodeError:
        cells = np.array([n if n.isascii() else "" for n in numbers], dtype=f"S{digits + 1}")
    columns = np.ascontiguousarray(cells.view(np.uint8).reshape(len(numbers), digits + 1).T)
    is_number = (columns[0] == _PLUS) & (columns[1] != 0)
    keys = np.zeros(len(numbers), dtype=np.int64)
    for column in columns[1:]:
        keys *= _BASE
        keys += _DIGIT[column]
        is_number &= _DIGIT[column] >= 0
    keys *= _width(digits)
    return keys, is_number


def build_segments(prefixes: Sequence[str]) -> tuple[Segments, list[int]]:
    """Return the segments of distinct prefixes, and for each prefix the index of the next shorter one (-1: none).

    About 1 us a prefix; compiled once per deck version.
    """
    keys = [encode(prefix) for prefix in prefixes]
    starts, owners = [-1], [-1]
    parents = [-1] * len(prefixes)
    path: list[tuple[int, int]] = []  # (end, prefix) of the prefixes around the current one

    def begin(at: int, owner: int) -> None:
        if starts[-1] == at:
            owners[-1] = owner
        else:
            starts.append(at)
            owners.append(owner)

    def leave() -> None:
        end, _ = path.pop()
        begin(end, path[-1][1] if path else -1)

    for index in sorted(range(len(keys)), key=keys.__getitem__):
        key = keys[index]
        while path and path[-1][0] <= key:
            leave()
        parents[index] = path[-1][1] if path else -1
        path.append((key + _width(len(prefixes[index])), index))
        begin(key, index)
    while path:
        leave()
    return Segments(np.array(starts, dtype=np.int64), np.array(owners, dtype=np.int64)), parents


def find_owners(segments: Segments, keys: Ints) -> Ints:
    """Return for each key the index of its longest prefix, or -1."""
    return segments.owners[np.searchsorted(segments.starts, keys, side="right") - 1]


def _width(digits: int) -> int:
    """Return how many keys lie under a prefix of that many digits."""
    return int(_BASE ** (PREFIX_DIGITS_MAX - digits))


def _digit_table() -> Ints:
    table = np.full(256, -1, dtype=np.int64)
    table[0] = 0  # numpy fills short cells up with NULs
    table[_ZERO : _ZERO + 10] = np.arange(1, 11)
    return table


_DIGIT = _digit_table()
