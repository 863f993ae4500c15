"""RADIUS dictionaries: attribute numbers -> names and types, per family of clients or from an operator's own file.

Refuses a dictionary in which a number or a name means two things; pyrad itself lets the last definition win in silence.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pyrad.dictfile import DictFile
from pyrad.dictionary import Dictionary, ParseError

from accounting.base.errors import TollbookError

FAMILIES = ("opensips", "classic")
DICTIONARY_CHARS_MAX = 4 * 1024 * 1024
TABLES_MAX = 256  # decode tables that are kept, one per dictionary in use

Number = int | tuple[int, int]
"""A standard attribute's number, or (vendor, number)."""

_NUMBERED = frozenset({"integer", "signed", "short", "byte", "integer64", "date"})


class DictionaryError(TollbookError):
    """A dictionary that cannot be used; says which file and line."""


class Entry(NamedTuple):
    """What a dictionary says of one attribute. `values` are its named numbers."""

    name: str
    type: str
    values: Mapping[str, int]
    is_encrypted: bool


class DecodeTable(NamedTuple):
    """A dictionary turned round for decoding."""

    entries: tuple[Entry | None, ...]  # 256: by number
    vendor_entries: Mapping[tuple[int, int], Entry]
    numbers: Mapping[str, Number]  # by name in lower case


class _Line(NamedTuple):
    file: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.file} line {self.number}"

    def words(self) -> list[str]:
        return self.text.split("#", 1)[0].split()


def family_of(dialect: str) -> str:
    """Return the dictionary family that clients of a dialect use unless their settings say otherwise."""
    return "opensips" if dialect == "opensips" else "classic"


def decode_table(setting: str, dialect: str) -> DecodeTable:
    """Return the table of a source's dictionary setting: "" (by dialect), a family's name, or a dictionary's text.

    Raises DictionaryError.
    """
    return _decode_table(setting or family_of(dialect))


def dictionary_text(setting: str) -> str:
    """Return what a source keeps of a dictionary setting: "" or a family's name as it is, a file's text.

    Raises DictionaryError.
    """
    return setting if setting in ("", *FAMILIES) else read_dictionary_file(Path(setting))


def read_dictionary_file(path: Path) -> str:
    """Return a dictionary file's text, its includes put in place, once it is known to be usable; or DictionaryError."""
    lines = list(_lines_of(path))
    if not _load(lines, str(path)).attributes:
        raise DictionaryError(f"dictionary {path} defines no attribute")
    return "".join(f"{line.text.rstrip()}\n" for line in lines)


def load_family(family: str) -> Dictionary:
    """Return pyrad's Dictionary of a family, e.g. to name attributes in pyrad packets."""
    return _load(_lines_in(_family_text(family), f"dictionary.{family}"), f"dictionary.{family}")


@lru_cache(maxsize=TABLES_MAX)
def _decode_table(setting: str) -> DecodeTable:
    if len(setting.split(maxsplit=1)) < 2:
        return _table(load_family(setting.strip()))
    return _table(_load(_lines_in(setting, "dictionary"), "dictionary"))


def _family_text(family: str) -> str:
    if family not in FAMILIES:
        raise DictionaryError(f"dictionary {family!r} is not known: use {', '.join(FAMILIES)} or a file")
    return files("accounting.dictionaries").joinpath(f"dictionary.{family}").read_text(encoding="utf-8")


def _lines_of(path: Path) -> Iterator[_Line]:
    size = 0
    try:
        reader = DictFile(str(path.absolute()))
        for text in reader:
            size += len(text)
            if size > DICTIONARY_CHARS_MAX:  # files that include each other twice grow without an end in sight
                raise DictionaryError(_too_large(str(path)))
            yield _Line(reader.File(), reader.Line(), text)
    except OSError as error:
        raise DictionaryError(f"dictionary {path}: cannot read {error.filename}: {error.strerror}") from error
    except (ParseError, ValueError) as error:
        raise DictionaryError(f"dictionary {path}: {error}") from error


def _too_large(name: str) -> str:
    return f"dictionary {name} is larger than {DICTIONARY_CHARS_MAX} characters"


def _lines_in(text: str, name: str) -> list[_Line]:
    lines = [_Line(name, number, line) for number, line in enumerate(text.splitlines(), 1)]
    for line in lines:  # a text has no folder that an include could be looked for in
        if line.words()[:1] and line.words()[0].upper() in ("$INCLUDE", "$INCLUDE-"):
            raise DictionaryError(f"{line}: $INCLUDE is possible in a file only, not in a dictionary's text")
    return lines


def _load(lines: Sequence[_Line], name: str) -> Dictionary:
    if sum(len(line.text) for line in lines) > DICTIONARY_CHARS_MAX:
        raise DictionaryError(_too_large(name))
    _refuse_double_meanings(lines)
    try:
        return Dictionary(StringIO("".join(f"{line.text.rstrip()}\n" for line in lines)))
    except ParseError as error:
        where = lines[error.line - 1] if 0 < error.line <= len(lines) else name
        raise DictionaryError(f"{where}: {error.msg}") from error
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise DictionaryError(f"dictionary {name} cannot be read: {error!r}") from error


def _refuse_double_meanings(lines: Sequence[_Line]) -> None:
    """Raise where a number has two names or a name two numbers; the same definition again is no harm."""
    vendors: set[str] = set()
    vendor = ""
    by_number: dict[tuple[str, str], tuple[str, str, _Line]] = {}
    by_name: dict[str, tuple[tuple[str, str], _Line]] = {}
    for line in lines:
        words = line.words()
        match [word.upper() for word in words[:1]], words[1:]:
            case ["VENDOR"], [name, *_]:
                vendors.add(name)
            case ["BEGIN-VENDOR"], [name, *_]:
                vendor = name
            case ["END-VENDOR"], _:
                vendor = ""
            case ["ATTRIBUTE"], [name, code, kind, *rest]:
                key = (rest[0] if rest and rest[0] in vendors else vendor, _canonical(code))
                known = by_number.setdefault(key, (name, kind, line))
                if known[:2] != (name, kind):
                    what = f"number {code} is {name} ({kind}) here and {known[0]} ({known[1]}) in {known[2]}"
                    raise DictionaryError(f"{line}: {what}; keep the one that this client sends")
                placed = by_name.setdefault(name, (key, line))
                if placed[0] != key:
                    raise DictionaryError(f"{line}: {name} has another number in {placed[1]}; keep one of them")


def _canonical(code: str) -> str:
    """Return a code such as 0x1a or 26.1 in decimal, so that two spellings of one number are seen to be one."""
    try:
        return ".".join(str(int(part, 16 if part.startswith("0x") else 10)) for part in code.split("."))
    except ValueError:
        return code


def _table(dictionary: Dictionary) -> DecodeTable:
    entries: list[Entry | None] = [None] * 256
    vendor_entries: dict[tuple[int, int], Entry] = {}
    numbers: dict[str, Number] = {}
    for name, attribute in dictionary.attributes.items():
        key = dictionary.attrindex.GetForward(name)
        entry = Entry(
            name, attribute.type, _named_values(attribute.type, attribute.values.forward), bool(attribute.encrypt)
        )
        if attribute.is_sub_attribute:
            continue
        if isinstance(key, tuple):
            vendor_entries[key] = entry
        elif 0 < key < 256:
            entries[key] = entry
        else:
            continue  # an internal attribute of FreeRADIUS: never on the wire
        numbers[name.lower()] = key
    return DecodeTable(tuple(entries), MappingProxyType(vendor_entries), MappingProxyType(numbers))


def _named_values(kind: str, values: Mapping[str, bytes]) -> Mapping[str, int]:
    if kind not in _NUMBERED:
        return MappingProxyType({})
    return MappingProxyType({name: int.from_bytes(value) for name, value in values.items()})
