"""Stages import downward only, and one module writes a table."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from accounting.db.tables import journal_metadata
from cdr.store.tables import main_metadata

ROOT = Path(__file__).parent.parent.parent
TABLES = frozenset({*journal_metadata.tables, *main_metadata.tables})
TABLE_MODULES = frozenset({"accounting.db.tables", "cdr.store.tables"})
SHARED = {"account": {"cdr.store.accounts", "cdr.store.ledger"}}  # the ledger keeps balance_micros
WRITES = frozenset({"insert", "update", "delete"})
SQL_WRITE = re.compile(
    r"\b(?:INSERT\s+(?:IGNORE\s+|OR\s+\w+\s+)?INTO|REPLACE\s+INTO|UPDATE|DELETE\s+FROM|INTO\s+TABLE)\s+[`\"]?(\w+)",
    re.IGNORECASE,
)


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_module_writes_a_table() -> None:
    several = {table: modules for table, modules in writers_by_table().items() if len(modules) > 1}
    assert several == SHARED


def writers_by_table() -> dict[str, set[str]]:
    """Return {table: modules with an insert, update or delete of it}."""
    found: dict[str, set[str]] = defaultdict(set)
    for stage in ("accounting", "cdr", "reports"):
        for path in (ROOT / stage).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for table in tables_written(path.read_text()):
                found[table].add(module)
    return found


def tables_written(source: str) -> set[str]:
    """Return the tables that a module's source writes.

    Seen are insert(t), t.insert() and the like, insert_rows(connection, t, ...), and SQL in text.
    """
    tree = ast.parse(source)
    names, modules = imported_tables(tree)

    def table_of(node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return names.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            return node.attr if node.attr in TABLES else None
        return None

    written: set[str | None] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if isinstance(node.func, ast.Attribute) and name in WRITES:
                written.add(table_of(node.func.value))
            if name == "insert_rows" or any(name == w or name.endswith(f"_{w}") for w in WRITES):
                written.update(table_of(argument) for argument in node.args)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            written.update(t for t in SQL_WRITE.findall(node.value) if t in TABLES)
    return {table for table in written if table}


def imported_tables(tree: ast.Module) -> tuple[dict[str, str], set[str]]:
    """Return ({local name: table}, {local name of a module of tables})."""
    names: dict[str, str] = {}
    modules: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            local = alias.asname or alias.name
            if node.module in TABLE_MODULES and alias.name in TABLES:
                names[local] = alias.name
            elif f"{node.module}.{alias.name}" in TABLE_MODULES:
                modules.add(local)
    return names, modules


def check_writes(lines: Iterable[str]) -> set[str]:
    return tables_written(
        "\n".join(
            [
                "from cdr.store import tables",
                "from cdr.store.tables import cdr as c",
                *lines,
            ]
        )
    )


def test_writes_are_seen_in_every_form() -> None:
    assert check_writes(["conn.execute(sa.insert(c))"]) == {"cdr"}
    assert check_writes(["conn.execute(tables.batch.update().values(x=1))"]) == {"batch"}
    assert check_writes(["insert_rows(conn, tables.charge, rows)"]) == {"charge"}
    assert check_writes(["sqlite_insert(tables.rate)"]) == {"rate"}
    assert check_writes(["text('DELETE FROM open_call')"]) == {"open_call"}
    assert check_writes(["select(c)", "names.update(a=1)", "text('SELECT * FROM cdr')"]) == set()
