"""SQL for rows made into lines of text by the database itself: far cheaper than a Python value for each cell.

Measured for the whole export of CDRs from MariaDB, on 2 busy cores: 4.6 us of Python's CPU time a CDR (400,000 of them,
tests/benchmarks/bench_export.py); an earlier form that fetched 37 values a row took 10 (a million).
"""

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, String, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

SEPARATOR = "\x1f"
"""Between the cells of a line. Reports hold no control characters (accounting.sources.text); see chosen_text."""

STEPS = " ".join(f"WHEN {decimals} THEN {10 ** (6 - decimals)}" for decimals in range(7))
ISO_MS_CHARS = 23  # 2026-11-24 07:07:43.475


class line_of(FunctionElement[str]):  # noqa: N801 - reads as a SQL function
    """All arguments as text with SEPARATOR between them; none may be NULL."""

    name = "line_of"
    type = String()
    inherit_cache = True


class iso_ms(FunctionElement[str]):  # noqa: N801
    """An instant like 2026-11-24T07:07:43.475Z, '' for NULL; what is finer than a millisecond is cut off."""

    name = "iso_ms"
    type = String()
    inherit_cache = True


class decimal_text(FunctionElement[str]):  # noqa: N801
    """(micros, decimals): an amount, not negative, with so many decimals; with all six if it has more; '' for NULL."""

    name = "decimal_text"
    type = String()
    inherit_cache = True


@compiles(line_of)
def _line_of(element: line_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CONCAT_WS('{SEPARATOR}', {compiler.process(element.clauses, **kw)})"


@compiles(line_of, "sqlite")
def _line_of_sqlite(element: line_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"printf('{SEPARATOR.join(['%s'] * len(element.clauses))}', {compiler.process(element.clauses, **kw)})"


@compiles(iso_ms)
def _iso_ms(element: iso_ms, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    return f"COALESCE(CONCAT(REPLACE(LEFT({column}, {ISO_MS_CHARS}), ' ', 'T'), 'Z'), '')"


@compiles(iso_ms, "sqlite")
def _iso_ms_sqlite(element: iso_ms, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    return f"COALESCE(REPLACE(SUBSTR({column}, 1, {ISO_MS_CHARS}), ' ', 'T') || 'Z', '')"


@compiles(decimal_text)
def _decimal_text(element: decimal_text, compiler: SQLCompiler, **kw: Any) -> str:
    micros, decimals = (compiler.process(clause, **kw) for clause in element.clauses)
    whole, six = f"{micros} DIV 1000000", f"1000000 + {micros} MOD 1000000"
    return (
        f"CASE WHEN {micros} IS NULL THEN '' WHEN {micros} MOD (CASE {decimals} {STEPS} END) <> 0 "
        f"THEN CONCAT({whole}, '.', SUBSTR({six}, 2)) WHEN {decimals} = 0 THEN CONCAT({whole}) "
        f"ELSE CONCAT({whole}, '.', SUBSTR({six}, 2, {decimals})) END"
    )


@compiles(decimal_text, "sqlite")
def _decimal_text_sqlite(element: decimal_text, compiler: SQLCompiler, **kw: Any) -> str:
    micros, decimals = (compiler.process(clause, **kw) for clause in element.clauses)
    whole, six = f"({micros} / 1000000)", f"(1000000 + {micros} % 1000000)"
    return (
        f"CASE WHEN {micros} IS NULL THEN '' WHEN {micros} % (CASE {decimals} {STEPS} END) <> 0 "
        f"THEN {whole} || '.' || SUBSTR({six}, 2) WHEN {decimals} = 0 THEN {whole} || '' "
        f"ELSE {whole} || '.' || SUBSTR({six}, 2, {decimals}) END"
    )


def chosen_text(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return text that people chose (a name in a deck) without the separator."""
    return func.replace(column, SEPARATOR, " ")


def or_empty(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column with '' for NULL."""
    return func.coalesce(column, "")


def along(statement: Select[Any], table: FromClause, index: str) -> Select[Any]:
    """Return the statement told to walk a table along an index; MariaDB would sort the whole table instead."""
    hint = f"FORCE INDEX ({index})"
    return statement.with_hint(table, hint, "mysql").with_hint(table, hint, "mariadb")
