"""CSV cells and lines: quoting, formulas, and the fast way equal to the plain one."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.views.csv import cell, csv_lines, frame_csv, header

SEPARATOR = "\x1f"
CELLS = 4
awkward = st.text(
    st.sampled_from("=@+-\t\r\n\",';.049aü＝＠") | st.characters(codec="utf-8", exclude_characters="\x1f\0"), max_size=5
)
harmless = st.text(st.characters(codec="utf-8", exclude_characters="\x1f\0=@+-\t\r\n＝＠＋－"))


@pytest.mark.parametrize("text", ["+4915112345", "-5", "+0.50", "alice", "", "a=b", "'", "1-2", "\\x3d1", "00491"])
def test_harmless_text_stays(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "+", "-", "-a@b", "+49 151", "\t=1", "＝1", "＋1"]
)
def test_formula_gets_an_apostrophe(text: str) -> None:
    assert cell(text) == f"'{text}"


def test_comma_quote_and_line_end_are_quoted() -> None:
    assert [cell(text) for text in ("a,b", 'say "hi"', "a\nb", "a\rb")] == ['"a,b"', '"say ""hi"""', '"a\nb"', '"a\rb"']


def test_formula_with_comma_is_disarmed_and_quoted() -> None:
    assert cell('=HYPERLINK("x","y")') == '"\'=HYPERLINK(""x"",""y"")"'


@given(st.lists(st.tuples(*[awkward] * CELLS), max_size=5))
def test_lines_are_cells_joined(rows: list[tuple[str, ...]]) -> None:
    lines = csv_lines([SEPARATOR.join(row) for row in rows], CELLS, SEPARATOR)
    assert lines.decode() == "".join(",".join(map(cell, row)) + "\n" for row in rows)


@given(st.lists(st.tuples(*[harmless] * CELLS), max_size=5))
def test_a_reader_gets_the_cells_back(rows: list[tuple[str, ...]]) -> None:
    lines = csv_lines([SEPARATOR.join(row) for row in rows], CELLS, SEPARATOR).decode()
    assert list(csv.reader(io.StringIO(lines, newline=""))) == [list(row) for row in rows]


def test_a_line_with_a_cell_too_many_is_refused() -> None:
    with pytest.raises(AssertionError, match="separator"):
        csv_lines([SEPARATOR.join("abcde")], CELLS, SEPARATOR)


def test_frame_has_header_and_empty_cells_for_what_is_missing() -> None:
    frame = pd.DataFrame(
        {"name": pd.Series(["a,b", None], dtype="string[pyarrow]"), "calls": pd.Series([None, 2], dtype="Int64")}
    )
    assert frame_csv(frame) == b'name,calls\n"a,b",\n,2\n'
    assert frame_csv(frame[:0]) == header(["name", "calls"])
