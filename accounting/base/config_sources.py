"""What settings are made from: the file, the environment, secret files; and the words for what is wrong with them.

All work on plain dicts before the models see them, so that everything wrong is told at once.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings import SettingsError as BadEnvironment

SECRET_BYTES_MAX = 65536
FAMILIES = frozenset({"", "opensips", "classic"})
"""Names of RADIUS dictionaries; anything else is a file."""
PAIRS = (("database", "url"), ("clients", "secret"), ("clients", "secret_next"), ("collectors", "url"))
"""Each section's setting that may stand in a file of its own instead, named by <setting>_file."""

PATHS = (
    ("reports", "out"), ("spool", "directory"), ("receiver", "tls_certificate"), ("receiver", "tls_key"),
    ("receiver", "tls_ca"), ("receiver", "tls_crl"),
)  # fmt: skip
"""Settings that are paths."""

SINGULAR = (
    ("clients", "name"), ("collectors", "name"), ("clients", "address"), ("clients", "certificate"),
    ("media", "name"), ("media", "listen"), ("media", "file"),
)  # fmt: skip
"""Settings that no two tables of a section may have alike."""

WORDS = {
    "extra_forbidden": "unknown setting",
    "missing": "is missing",
    "model_type": "is not a table of settings",
    "dict_type": "is not a table of settings",
    "tuple_type": 'is not a list like ["one", "two"]',
    "string_type": "is not text in quotes",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "greater_than_equal": "is less than {ge}",
    "less_than_equal": "is more than {le}",
    "literal_error": "is not {expected}",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
}
"""What is wrong, by pydantic's name for it; anything else is told in pydantic's own words."""

Key = tuple[str | int, ...]
Tree = dict[str, Any]


class Origins(NamedTuple):
    """Where settings came from, to say it in messages."""

    file: Path | None
    variables: Mapping[Key, str]

    def of(self, key: Key) -> str:
        """Return 'file: dotted.key' or 'environment VARIABLE: dotted.key'."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.variables:
                return f"environment {self.variables[key[:length]]}: {dotted(key)}"
        return f"{self.file}: {dotted(key)}" if self.file is not None else dotted(key)


def dotted(key: Key) -> str:
    """Return a key like clients[0].secret."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def read_toml(path: Path, mistakes: list[str]) -> Tree:
    """Return a TOML file's content; {} and a mistake if it cannot be read."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))  # some editors begin a file with a BOM
    except OSError as error:
        mistakes.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        mistakes.append(f"{path}: is not UTF-8 text; save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        mistakes.append(f"{path}: is not TOML: {error}")
    except RecursionError:
        mistakes.append(f"{path}: brackets are nested too deeply")
    return {}


def read_environment(model: type[BaseSettings], ignore: str, mistakes: list[str]) -> tuple[Tree, dict[Key, str]]:
    """Return what the environment sets and by which variables; a mistake for each unknown or unreadable one."""
    prefix = str(model.model_config.get("env_prefix", ""))
    tree: Tree = {}
    variables: dict[Key, str] = {}
    for name in sorted(os.environ):
        if not name.upper().startswith(prefix) or name.upper() == ignore:
            continue
        key = tuple(name[len(prefix) :].lower().split("__"))
        if not _is_setting(model, key):
            mistakes.append(f"environment {name}: unknown setting")
            continue
        source = EnvSettingsSource(model)
        source.env_vars = {name.lower(): os.environ[name]}
        try:
            tree = merge(tree, source())
        except BadEnvironment:
            mistakes.append(f'environment {name}: is not JSON; a list is written like ["one", "two"]')
            continue
        variables[key] = name
    return tree, variables


def _is_setting(model: type[BaseModel], key: tuple[str, ...]) -> bool:
    field = model.model_fields.get(key[0])
    if field is None:
        return False
    inner = field.annotation
    if len(key) == 1:
        return True
    return isinstance(inner, type) and issubclass(inner, BaseModel) and _is_setting(inner, key[1:])


def merge(below: Tree, above: Tree) -> Tree:
    """Return both trees in one; what is above wins, and X_file above hides X below and the other way round."""
    result = dict(below)
    for key, value in above.items():
        twin = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
        result.pop(twin, None)
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    for key in above.keys() & {f"{key}_file" for key in above}:
        result[key] = above[key]
    return result


def resolve_paths(tree: Tree, base: Path) -> None:
    """Make the relative paths in a tree relative to a folder."""
    for _, table, setting in secret_places(tree):
        if isinstance(table.get(f"{setting}_file"), str):
            table[f"{setting}_file"] = str(base / table[f"{setting}_file"])
        if setting == "url" and isinstance(table.get("url"), str):
            table["url"] = resolve_url(table["url"], base)
        if isinstance(table.get("dictionary"), str) and table["dictionary"] not in FAMILIES:
            table["dictionary"] = str(base / table["dictionary"])
    for table in tables_of(tree, "media"):
        if isinstance(table.get("file"), str):
            table["file"] = str(base / table["file"])
    for section, key in PATHS:
        settings = tree.get(section)
        if isinstance(settings, dict) and isinstance(settings.get(key), str):
            settings[key] = str(base / settings[key])


def tables_of(tree: Tree, section: str) -> list[Tree]:
    """Return the tables of a section that is a list of them."""
    tables = tree.get(section)
    return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []


def resolve_url(url: str, base: Path) -> str:
    """Return a SQLite URL with its file's whole path; other URLs as they are."""
    for prefix in ("sqlite:///", "sqlite+pysqlite:///"):
        if url.startswith(prefix) and len(url) > len(prefix):
            return f"{prefix}{base / url.removeprefix(prefix)}"
    return url


def secret_places(tree: Tree) -> Iterator[tuple[Key, Tree, str]]:
    """Give (key, table, setting) of each table whose setting may stand in a file of its own."""
    for section, setting in PAIRS:
        value = tree.get(section)
        if isinstance(value, dict):
            yield (section,), value, setting
        elif isinstance(value, list):
            for number, table in enumerate(value):
                if isinstance(table, dict):
                    yield (section, number), table, setting


def read_secrets(tree: Tree, base: Path, origins: Origins, mistakes: list[str]) -> None:
    """Put what stands in X_file in place of X."""
    for key, table, setting in secret_places(tree):
        named = table.get(f"{setting}_file")
        if not isinstance(named, str):
            continue
        where = origins.of((*key, f"{setting}_file"))
        if setting in table:
            mistakes.append(f"{where}: stands beside {setting}; keep one of them")
            continue
        text = _read_secret(Path(named), where, mistakes)
        table[setting] = resolve_url(text, base) if setting == "url" else text


def _read_secret(path: Path, where: str, mistakes: list[str]) -> str:
    """Return a file's text without its last newline; where it cannot be read a stand-in that passes other checks."""
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_BYTES_MAX).decode()
        text = text.removesuffix("\n").removesuffix("\r")
        if text:
            return text
        mistakes.append(f"{where}: {path} is empty")
    except OSError as error:
        mistakes.append(f"{where}: {path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        mistakes.append(f"{where}: {path} is not UTF-8 text")
    return "sqlite:///unread"


def find_missing_files(tree: Tree, origins: Origins, mistakes: list[str]) -> None:
    """Tell each client's dictionary file that is not there."""
    for number, table in enumerate(tables_of(tree, "clients")):
        name = table.get("dictionary")
        if isinstance(name, str) and name not in FAMILIES and not Path(name).is_file():
            where = origins.of(("clients", number, "dictionary"))
            mistakes.append(f"{where}: is not opensips or classic, and there is no file {name}")


def find_duplicates(tree: Tree, origins: Origins, mistakes: list[str]) -> None:
    """Tell what two clients, collectors or media logs share and may not: names, networks, addresses, files."""
    for section, setting in SINGULAR:
        seen: dict[str, int] = {}
        tables = tree.get(section)
        for number, table in enumerate(tables if isinstance(tables, list) else ()):
            value = table.get(setting) if isinstance(table, dict) else None
            if not isinstance(value, str) or (setting == "address" and table.get("certificate")):
                continue
            first = seen.setdefault(_same(setting, value), number)
            if first != number:
                where = origins.of((section, number, setting))
                mistakes.append(f"{where}: {value!r} is also {dotted((section, first, setting))}")


def _same(setting: str, value: str) -> str:
    if setting == "certificate":
        return value.lower()
    if setting != "address":
        return value
    try:
        return str(ip_network(value))
    except ValueError:
        return value


def complaints(details: list[ErrorDetails], origins: Origins) -> list[str]:
    """Return the models' complaints in our words; a list is not called short because its items are wrong."""
    keys = [detail["loc"] for detail in details]
    return [
        _complaint(detail, origins)
        for detail in details
        if detail["type"] != "too_short" or not any(key[:-1] == detail["loc"] for key in keys)
    ]


def _complaint(detail: ErrorDetails, origins: Origins) -> str:
    """Return one complaint without the value."""
    context = detail.get("ctx", {})
    if detail["type"] in WORDS:
        text = WORDS[detail["type"]].format_map(context)
    else:
        text = str(context["error"]) if "error" in context else detail["msg"]
    return f"{origins.of(detail['loc'])}: {text}"
