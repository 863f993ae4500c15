"""Write docs/reference/commands.md from the commands themselves: `make docs`.

tests/unit/test_docs.py fails while the page says something else than the commands do.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import typer

ROOT = Path(__file__).parent.parent
COMMANDS_PAGE = ROOT / "docs" / "reference" / "commands.md"

COMMANDS_HEAD = """\
# Commands

Generated from the commands by `make docs`; `tollbook COMMAND --help` prints the same. Every command takes
`--config FILE`: without it `$TOLLBOOK_CONFIG` is read, else `./tollbook.toml`, else the built-in defaults hold with an
SQLite file `./tollbook.db`. A named file that is missing is an error.

Exit status: 0 on success; 1 on a problem, told on stderr in a sentence; 2 when a command is called wrongly. Every
command is safe to repeat. Instants are ISO 8601 with an offset or `Z`, as `2026-11-24T07:00:00Z`; without one they are
refused.
"""


def main() -> None:
    """Write the generated pages."""
    COMMANDS_PAGE.write_text(commands_page(root_command()), encoding="utf-8")
    print(f"wrote {COMMANDS_PAGE.relative_to(ROOT)}")


def root_command() -> Any:
    """Return the command `tollbook` as it is built for the command line."""
    import tollbook  # late: the page can be checked for style before the commands exist

    return typer.main.get_command(tollbook.app)


def walk(command: Any, words: tuple[str, ...] = ("tollbook",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words, command) of every visible command below, groups left out, in the order of --help."""
    commands = getattr(command, "commands", None)
    if commands is None:
        yield words, command
        return
    for name, child in commands.items():
        if not child.hidden:
            yield from walk(child, (*words, name))


def commands_page(command: Any) -> str:
    """Return the text of docs/reference/commands.md."""
    return COMMANDS_HEAD + "".join(_section(words, leaf) for words, leaf in walk(command))


def _section(words: tuple[str, ...], command: Any) -> str:
    text, example = _split_help(command.help or "")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = [*words, "[OPTIONS]", *(_argument_name(p) for p in arguments)]
    parts = [
        f"\n## `{' '.join(words)}`\n",
        f"```text\n{' '.join(usage)}\n```\n",
        text + "\n",
    ]
    if example:
        parts.append(f"```sh\n{example}\n```\n")
    rows = [_row(p) for p in command.params if not getattr(p, "hidden", False) and "--help" not in p.opts]
    if rows:
        parts.append("\n".join(["| option | meaning | default |", "| --- | --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _split_help(text: str) -> tuple[str, str]:
    """Return the words of a help text and the lines of its example."""
    text = dedent(text.replace("\b\n", "").replace("\b", "").replace("\f", ""))
    found = re.search(r"^\s*Examples?:[ \t]*", text, re.MULTILINE)
    head, tail = (text[: found.start()], text[found.end() :]) if found else (text, "")
    return head.strip(), dedent(tail.strip("\n")).strip()


def _row(param: Any) -> str:
    if param.param_type_name == "argument":
        name = _argument_name(param)
    else:
        name = " / ".join(
            [
                ", ".join(param.opts),
                *([", ".join(param.secondary_opts)] if param.secondary_opts else []),
            ]
        )
    meaning = " ".join((getattr(param, "help", "") or "").split()).replace("|", "\\|")
    default = "required" if param.required else _default(param)
    return f"| `{name}` | {meaning} | {default} |"


def _argument_name(param: Any) -> str:
    return param.metavar or param.name.upper()


def _default(param: Any) -> str:
    if param.default is None or param.default in ((), [], "", False) or callable(param.default):
        return ""
    if isinstance(param.default, bool):
        return f"`{(param.opts if param.default else param.secondary_opts or ['no'])[0]}`"
    return f"`{getattr(param.default, 'value', param.default)}`"


if __name__ == "__main__":
    main()
