"""The configurations that docs/howto shows, so that tests run exactly those."""

import re
from collections.abc import Mapping
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs/howto"


def block(page: str, containing: str, changes: Mapping[str, str]) -> str:
    """Return the one fenced block of a page that contains these words, with the places' own names and addresses.

    Every change must apply somewhere in the page, so that no change is forgotten when a page is rewritten.
    """
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    found = [body for body in re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if containing in body]
    assert len(found) == 1, f"{len(found)} blocks of {page}.md contain {containing!r}"
    result: str = found[0]
    for old, new in changes.items():
        assert old in text, f"{page}.md no longer says {old!r}"
        result = result.replace(old, new)
    return result
