"""The one way from SQL to frames and to streams of rows, with explicit types.

It guesses no type: left alone, a sum or a missing integer becomes float and an empty answer object. Binary columns are
refused.
"""

from collections.abc import Generator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import pandas as pd
from sqlalchemy import BigInteger, ColumnElement, CompoundSelect, Connection, Select, cast, func

STREAM_ROWS = 20_000
"""Rows held in memory at a time."""


class Kind(StrEnum):
    """What a column of a frame holds; the value is its pandas dtype."""

    INTEGER = "Int64"
    TEXT = "string[pyarrow]"
    INSTANT = "datetime64[us, UTC]"


Kinds = Mapping[str, Kind]


def sum_of(column: ColumnElement[Any]) -> ColumnElement[int]:
    """Return SQL for the sum of integers, as an integer (MariaDB's own is a decimal); NULL if there are none."""
    return cast(func.sum(column), BigInteger)


def count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return SQL for in how many rows a condition holds; 0 if there are none."""
    return func.coalesce(sum_of(cast(condition, BigInteger)), 0)


def read_frame(conn: Connection, statement: Select[Any] | CompoundSelect[Any], kinds: Kinds) -> pd.DataFrame:
    """Return a statement's rows as a frame with exactly these columns, in this order, also if there are none."""
    result = conn.execute(statement)
    assert list(result.keys()) == list(kinds), f"{list(result.keys())} instead of {list(kinds)}"
    return build_frame([tuple(row) for row in result], kinds)


def build_frame(rows: Sequence[Sequence[Any]], kinds: Kinds) -> pd.DataFrame:
    """Return row tuples as a frame with these columns and types."""
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    series = {}
    for (name, kind), values in zip(kinds.items(), columns, strict=True):
        first = next((v for v in values if v is not None), None)
        assert not isinstance(first, bytes | float), f"column {name} holds {type(first).__name__}"
        series[name] = pd.Series(list(values), dtype=kind.value)
    return pd.DataFrame(series)


def check_frame(frame: pd.DataFrame, kinds: Kinds) -> pd.DataFrame:
    """Return the frame if it has these columns, in this order and of these types; else it is our own bug."""
    found = {str(name): str(dtype) for name, dtype in frame.dtypes.items()}
    wanted = {name: str(pd.Series([], dtype=kind.value).dtype) for name, kind in kinds.items()}
    assert list(found.items()) == list(wanted.items()), f"frame has {found}, not {wanted}"
    return frame


def stream_rows(
    conn: Connection, statement: Select[Any], rows: int = STREAM_ROWS
) -> Generator[Sequence[Sequence[Any]]]:
    """Yield a statement's rows, so many at a time, by a server-side cursor where there is one.

    Close the generator (contextlib.closing) before the connection is used again: MariaDB refuses it while rows wait.
    """
    with conn.execution_options(stream_results=True, max_row_buffer=rows).execute(statement) as result:
        yield from result.partitions(rows)
