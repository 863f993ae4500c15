"""The reference pages say what the code does: commands, settings, tables, metrics; and what pages name exists."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

import accounting
import cdr
import reports
from accounting.base.config import Settings
from accounting.db.tables import journal_metadata
from cdr.store.tables import main_metadata
from reports.export import CDR_COLUMNS, CHARGE_COLUMNS
from tests.unit.test_architecture import writers_by_table
from tools.gen_docs import COMMANDS_PAGE, commands_page, root_command, walk

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def sections(page: Path) -> dict[str, dict[str, list[str]]]:
    """Return {heading in backticks: {first cell in backticks: the other cells}} of a page's tables."""
    found: dict[str, dict[str, list[str]]] = {}
    heading = ""
    for line in page.read_text().splitlines():
        if match := re.fullmatch(r"#+ `(.+)`", line):
            heading = match[1]
            found[heading] = {}
        elif match := re.match(r"\| `([^`]+)` \| (.*) \|$", line):
            cells = re.split(r"(?<!\\) \| ", match[2])
            found.setdefault(heading, {})[match[1]] = cells
    return found


def test_commands_page_is_what_the_commands_say() -> None:
    assert COMMANDS_PAGE.read_text() == commands_page(root_command()), "run: make docs"


def test_pages_named_in_help_exist() -> None:
    named = re.findall(r"docs/[\w/-]+\.md", COMMANDS_PAGE.read_text())
    assert not [page for page in named if not (ROOT / page).exists()]


def test_every_command_has_help_and_an_example() -> None:
    lacking = [" ".join(words) for words, c in walk(root_command()) if "Example" not in (c.help or "")]
    lacking += [
        f"{' '.join(words)} {param.opts[0]}"
        for words, command in walk(root_command())
        for param in command.params
        if param.param_type_name == "option" and not param.help
    ]
    assert not lacking


def test_commands_in_pages_exist() -> None:
    commands = dict(walk(root_command()))
    wrong = [f"{page.relative_to(ROOT)}: {line}" for page, line in shell_lines() if not command_exists(line, commands)]
    assert not wrong


def shell_lines() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                yield page, line.strip()
        for span in re.findall(r"`(tollbook [a-z][^`]*)`", page.read_text()):
            yield page, " ".join(span.split())


def command_exists(line: str, commands: dict[tuple[str, ...], Any]) -> bool:
    """Return whether a shell line that calls tollbook or make names a command, options and targets that exist."""
    words = line.split("#", maxsplit=1)[0].split()
    if words[:1] == ["make"]:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return all(word in targets for word in words[1:] if "=" not in word)
    if not words or not re.fullmatch(r"(\S*/)?tollbook", words[0]):
        return True
    called = ("tollbook", *words[1:])
    options = {word.split("=")[0] for word in called if word.startswith("--")} - {"--help"}
    for length in range(len(called), 1, -1):
        if command := commands.get(called[:length]):
            return options <= {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    return called[1:] == ("--help",)


def settings_keys(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield (section, key, field) of every setting; a list of tables is one section."""
    for name, field in model.model_fields.items():
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        section = next((t for t in inner if issubclass(t, BaseModel)), None)
        if section:
            brackets = "[{}]" if section is field.annotation else "[[{}]]"
            yield from settings_keys(section, brackets.format(name))
        else:
            yield path, field.alias or name, field


def default_text(field: FieldInfo) -> str:
    """Return a setting's default as the page writes it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "none"
    plain = default.get_secret_value() if isinstance(default, SecretStr) else default
    return f"`{json.dumps(plain, default=str)}`"


def test_every_setting_is_documented_with_its_default() -> None:
    expected = {(section, key): default_text(field) for section, key, field in settings_keys(Settings)}
    page = sections(REFERENCE / "settings.md")
    documented = {(section, key): cells[1] for section, rows in page.items() for key, cells in rows.items()}
    assert documented == expected


def test_every_column_is_documented() -> None:
    tables = {**journal_metadata.tables, **main_metadata.tables}
    page = sections(REFERENCE / "tables.md")
    page.pop("", None)
    assert {name: set(rows) for name, rows in page.items()} == {
        name: set(table.columns.keys()) for name, table in tables.items()
    }


def test_tables_page_names_the_module_that_writes_each_table() -> None:
    text = (REFERENCE / "tables.md").read_text()
    parts = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL))
    documented = {
        table: set(re.findall(r"`((?:accounting|cdr|reports)\.[\w.]+)`", part.split("Written by")[-1].split("|")[0]))
        for table, part in parts.items()
    }
    wrong = {t: modules for t, modules in writers_by_table().items() if not modules <= documented[t]}
    assert not wrong


def test_every_metric_is_documented() -> None:
    for package in (accounting, cdr, reports):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    metrics = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name: metric.type
        for metric in REGISTRY.collect()
        if metric.name.startswith("tollbook_")
    }
    documented = {name: cells[0] for name, cells in sections(REFERENCE / "metrics.md").get("", {}).items()}
    assert documented == metrics


def test_every_csv_column_is_documented_in_its_order() -> None:
    parts = (REFERENCE / "csv.md").read_text().split("\n## ")[1:]
    cells = [re.findall(r"^\| (`[^|]+`) \|", part, re.MULTILINE) for part in parts]
    columns = [tuple(re.findall(r"`(\w+)`", " ".join(rows))) for rows in cells]
    assert columns == [CDR_COLUMNS, CHARGE_COLUMNS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(
        r"\]\(([^)\s]+)\)",
        re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL),
    ):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_security_page_names_tests_that_exist() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (REFERENCE / "security.md").read_text())
    assert len(named) > 20
    assert [name for name in named if f"def {name}(" not in tests] == []
