"""The log: every line of every process says when, how grave, which process and what; never a secret."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.service import ROOT, Service

SETUP = "from accounting.base.log import configure, get_logger; configure(json={json}); log = get_logger('part')\n"


def lines(program: str, *, as_json: bool = True) -> list[Any]:
    """Return what a program's log says, as JSON values or as text."""
    told = subprocess.run(
        [sys.executable, "-c", SETUP.format(json=as_json) + program, "worker"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    ).stderr.splitlines()  # fmt: skip
    return [json.loads(line) for line in told] if as_json else told


def test_all_lines_of_a_service_are_json_with_time_level_process_and_event(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url, '[log]\nformat = "json"\n')
    with service.running():
        pass
    told = [json.loads(line) for line in service.said().splitlines()]
    assert all({"time", "level", "process", "event"} <= line.keys() for line in told)
    assert {line["process"] for line in told} == {"serve", "receive", "schedule"}


def test_a_problem_that_ends_a_command_is_a_line_like_the_others(tmp_path: Path) -> None:
    config = tmp_path / "t.toml"
    config.write_text(
        '[database]\nurl = "sqlite:///new.db"\n[receiver]\nlisten = ["127.0.0.1:0"]\n[log]\nformat = "json"\n'
    )
    command = [sys.executable, "-m", "tollbook", "receive", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert (line["level"], line["process"]) == ("critical", "receive")
    assert "run: tollbook db upgrade" in line["event"]


def test_other_libraries_warnings_and_errors_nobody_caught_are_lines_like_the_others() -> None:
    told = lines(
        "import logging, threading, warnings\n"
        "logging.getLogger('alembic').error('of a library')\n"
        "warnings.warn('of Python')\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='t'); thread.start(); thread.join()\n"
        "1 / 0\n"
    )
    assert [(line["part"], line["level"]) for line in told] == [
        ("alembic", "error"), ("py.warnings", "warning"), ("main", "critical"), ("main", "critical"),
    ]  # fmt: skip
    assert all("ZeroDivisionError" in line["exception"] for line in told[2:])


def test_variables_are_not_told_with_an_error() -> None:
    program = "def f(secret):\n  1 / 0\ntry:\n  f('hush' + 'hush')\nexcept Exception:\n  log.exception('failed')\n"
    program += "f('hush' + 'hush')\n"
    for as_json in (True, False):
        told = str(lines(program, as_json=as_json))
        assert "ZeroDivisionError" in told
        assert "hushhush" not in told


def test_a_flood_of_one_sentence_is_counted() -> None:
    told = lines(
        "from accounting.base import log as module\n"
        "for number in range(5000): log.warning('the same', number=number)\n"
        "log.warning('another')\n"
        "module.SAME_S = 0.0\n"
        "log.warning('the same', number=-1)\n"
    )
    assert len(told) == module_max() + 2
    assert told[-2]["event"] == "another"
    assert told[-1]["left_out"] == 5000 - module_max()


def module_max() -> int:
    from accounting.base.log import SAME_MAX

    return SAME_MAX
