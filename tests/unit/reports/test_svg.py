"""Charts are well-formed, described, and show what they are given."""

from xml.etree import ElementTree as ET

import pytest

from reports.views.svg import WIDTH, Bar, columns, nice_step, rows

SVG = "{http://www.w3.org/2000/svg}"
BARS = [Bar("<b>&", 10, 4, 'say "hi"'), Bar("empty", 0, 0, "none"), Bar("all", 8, 8, "8")]


@pytest.mark.parametrize("chart", [columns("T<", "D&", BARS, unit="calls"), rows("T<", "D&", BARS)])
def test_chart_is_described_and_escaped(chart: str) -> None:
    root = ET.fromstring(chart)
    assert (root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc"), root.get("role")) == ("T<", "D&", "img")
    assert '<b>&: say "hi"' in [title.text for title in root.iter(f"{SVG}title")]


@pytest.mark.parametrize("chart", [columns("T", "D", BARS, unit="calls"), rows("T", "D", BARS)])
def test_bars_lie_inside_the_chart(chart: str) -> None:
    root = ET.fromstring(chart)
    for rect in root.iter(f"{SVG}rect"):
        x, y, width, height = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + width <= WIDTH
        assert y + height <= float(root.get("viewBox", "").split()[3])


def test_nothing_to_show_is_a_chart_too() -> None:
    for chart in (
        columns("T", "D", [], unit="calls"),
        columns("T", "D", [Bar("0", 0, 0, "")], unit=""),
        rows("T", "D", []),
    ):
        assert ET.fromstring(chart) is not None


@pytest.mark.parametrize("peak", [0, 0.3, 1, 4, 5, 7, 12, 99, 100, 101, 12_345, 9.9e8])
def test_scale_has_a_handful_of_round_steps(peak: float) -> None:
    step = nice_step(peak)
    assert peak / step <= 5
    assert str(f"{step:.0e}")[0] in "125"
