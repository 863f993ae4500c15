"""House rules that no linter knows: sizes, and what tests must not do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LINES_MAX = 450
CODE = sorted(
    p for d in ("accounting", "cdr", "reports", "migrations", "tests", "tools") for p in (ROOT / d).rglob("*.py")
)
TESTS = sorted([*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests").rglob("conftest.py")])
NEVER_IN_TESTS = re.compile(r"(^|\.)(sleep|skip|skipif|xfail|importorskip)$")


def test_files_are_short() -> None:
    assert not [str(p.relative_to(ROOT)) for p in CODE if len(p.read_text().splitlines()) > LINES_MAX]


def test_tests_neither_sleep_nor_skip_nor_mock() -> None:
    assert not [
        f"{p.relative_to(ROOT)}: {name}" for p in TESTS for name in names_used(p) if NEVER_IN_TESTS.search(name)
    ]
    assert not [
        str(p.relative_to(ROOT)) for p in TESTS if re.search(r"^\s*(from|import) unittest", p.read_text(), re.MULTILINE)
    ]


def names_used(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file calls or decorates with."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def test_modules_say_what_they_are() -> None:
    files = [p for p in CODE if p.name != "__init__.py" and "versions" not in p.parts and p.read_text().strip()]
    assert not [str(p.relative_to(ROOT)) for p in files if not ast.get_docstring(ast.parse(p.read_text()))]
