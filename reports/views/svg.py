"""Small bar charts as inline SVG: readable in print and by a screen reader, nothing fetched. Pure."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

WIDTH = 560
LABEL_CHARS_MAX = 26

# shared with nightly.css, where the classes are coloured
STRONG, SOFT = "strong", "soft"


class Bar(NamedTuple):
    """One bar: `value` is its length; of it `strong` is drawn in the strong colour, the rest softly."""

    label: str
    value: float
    strong: float
    text: str  # what stands beside it or in its tooltip


def columns(title: str, description: str, bars: Sequence[Bar], *, unit: str, height: int = 220) -> Markup:
    """Return upright bars over their labels, with a scale at the left."""
    left, right, top, bottom = 52, 8, 26, 26
    inner_width, inner_height = WIDTH - left - right, height - top - bottom
    step = nice_step(max((bar.value for bar in bars), default=0))
    peak = step * max(1, math.ceil(max((bar.value for bar in bars), default=0) / step))
    parts = []
    for line in range(round(peak / step) + 1):
        y = top + inner_height * (1 - line * step / peak)
        style = "axis" if line == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text("scale", left - 8, y + 4, "end", f"{line * step:,g}"))
    pitch = inner_width / max(1, len(bars))
    thickness = pitch * 0.72
    for place, bar in enumerate(bars):
        x = left + pitch * place + (pitch - thickness) / 2
        soft, strong = inner_height * bar.value / peak, inner_height * bar.strong / peak
        floor = top + inner_height
        parts.append(f"<g><title>{escape(f'{bar.label}: {bar.text}')}</title>")
        if bar.value > bar.strong:
            parts.append(_rect(SOFT, x, floor - soft, thickness, soft - strong))
        if bar.strong > 0:
            parts.append(_rect(STRONG, x, floor - strong, thickness, strong))
        parts.append("</g>")
        if place % label_every(len(bars)) == 0:
            parts.append(_text("label", x + thickness / 2, height - 8, "middle", bar.label))
    parts.append(_text("unit", left - 8, top - 12, "end", unit))
    return _svg(title, description, height, parts)


def rows(title: str, description: str, bars: Sequence[Bar]) -> Markup:
    """Return lying bars, each behind its label and before its text."""
    label_width, text_width, pitch, thickness = 178, 112, 26, 14
    peak = max((bar.value for bar in bars), default=0) or 1
    inner = WIDTH - label_width - text_width
    parts = []
    for place, bar in enumerate(bars):
        y = 6 + place * pitch
        length, strong = inner * bar.value / peak, inner * bar.strong / peak
        middle = y + thickness - 3
        parts.append(f"<g><title>{escape(f'{bar.label}: {bar.text}')}</title>")
        parts.append(_text("name", label_width - 10, middle, "end", shortened(bar.label)))
        parts.append(_rect("track", label_width, y, inner, thickness))
        if bar.value > bar.strong:
            parts.append(_rect(SOFT, label_width, y, length, thickness))
        if bar.strong > 0:
            parts.append(_rect(STRONG, label_width, y, strong, thickness))
        parts.append(_text("value", WIDTH, middle, "end", bar.text) + "</g>")
    return _svg(title, description, max(1, len(bars)) * pitch + 4, parts)


def nice_step(peak: float) -> float:
    """Return a distance of scale lines, 1, 2 or 5 times a power of ten, that gives three to six of them; 1 at least."""
    if peak <= 4:
        return 1
    power = 10.0 ** math.floor(math.log10(peak / 4))
    return next(factor * power for factor in (1, 2, 5, 10) if peak / (factor * power) <= 5)


def label_every(count: int) -> int:
    """Return which labels are shown under so many columns: every one, every second ..."""
    return max(1, math.ceil(count / 25))


def shortened(label: str) -> str:
    """Return a label that fits beside a bar."""
    return label if len(label) <= LABEL_CHARS_MAX else f"{label[: LABEL_CHARS_MAX - 1].rstrip()}…"


def _rect(style: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"/>'
    )


def _text(style: str, x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, description: str, height: int, parts: Sequence[str]) -> Markup:
    return Markup(  # noqa: S704 - every text in it is escaped above
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
