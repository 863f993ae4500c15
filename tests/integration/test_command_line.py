"""The front door: exit codes, and problems in one line on stderr without a traceback."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from accounting.db.engine import open_database


def run(folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `tollbook` in a folder."""
    command = [sys.executable, "-m", "tollbook", *words]
    environment = {**os.environ, "NO_COLOR": "1", **variables}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_version_is_printed(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "tollbook")


@pytest.mark.parametrize("words", [["db", "nonsense"], ["db", "upgrade", "--nonsense"]])
def test_wrong_usage_exits_2(tmp_path: Path, words: list[str]) -> None:
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_db_upgrade_makes_the_database_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[database]\nurl = "sqlite:///data.db"\n')
    first, second = (run(tmp_path, "db", "upgrade", "--config", "t.toml") for _ in range(2))
    assert first.stdout == f"sqlite:///{tmp_path}/data.db: created the schema\n"
    assert second.stdout == f"sqlite:///{tmp_path}/data.db: the schema is current\n"
    open_database(f"sqlite:///{tmp_path}/data.db").dispose()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TOLLBOOK_CONFIG": "gone.toml"}, "gone.toml: there is no such configuration file"),
        (
            {"TOLLBOOK_DATABASE__URL": "mysql://u:hush@127.0.0.1:1/t"},
            "database mysql://u@127.0.0.1:1/t cannot be opened",
        ),
        ({"TOLLBOOK_DATABASE__URL": "oracle://u:hush@h/t"}, "environment TOLLBOOK_DATABASE__URL: database.url: is not"),
        (
            {"TOLLBOOK_DATABASE__URL": "sqlite:////proc/no/t.db"},
            "database sqlite:////proc/no/t.db cannot be opened: there is no folder /proc/no",
        ),
    ],
)
def test_a_problem_is_one_line_and_exits_1(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    done = run(tmp_path, "db", "upgrade", **variables)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"tollbook: {words}")
    assert "hush" not in line


def test_an_interrupt_exits_130(sqlite_url: str, tmp_path: Path) -> None:
    with open_database(sqlite_url) as database, database.lease("upgrade"):
        process = subprocess.Popen(
            [sys.executable, "-m", "tollbook", "db", "upgrade"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "TOLLBOOK_DATABASE__URL": sqlite_url},
        )  # fmt: skip
        lock = tmp_path / "tollbook.db.upgrade.lock"
        while lock not in _open_files(process.pid):  # it waits for the lease
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate()[1]
    assert process.returncode == 130


def _open_files(pid: int) -> set[Path]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(descriptor.readlink())
    return found


def test_the_front_door_brings_only_what_every_command_needs(tmp_path: Path) -> None:
    heavy = {"alembic", "apscheduler", "numpy", "pandas", "phonenumbers", "pyarrow"}
    script = f"import sys, tollbook; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
