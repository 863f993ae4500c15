"""The supervisor keeps its children running, and none outlives it."""

import os
import signal
import subprocess
import sys

import pytest

from accounting import supervisor

PROGRAM = """
import sys
from accounting import supervisor
supervisor.START_S = float(sys.argv.pop(1))
children = [supervisor.Child(name, tuple(command.split())) for name, command in zip("ab", sys.argv[1:])]
sys.exit(supervisor.supervise(children))
"""


class Supervised:
    """A supervisor in a process of its own, and the pids that its log tells."""

    def __init__(self, *commands: str, start_s: float = 10.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(start_s), *commands],
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def started(self, name: str) -> int:
        """Wait until it tells that it has started a child; return its pid."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "] started " in line and f"process={name}" in line:
                return int(line.split("pid=")[1].split()[0])
        raise AssertionError("it ended")

    def end(self) -> int:
        """Read its log to its end, that is until no child holds it open; return its exit status."""
        assert self.process.stdout is not None
        with self.process:
            self.process.stdout.read()
        return self.process.returncode


def test_child_that_is_killed_starts_again() -> None:
    one = Supervised("sleep 1000", "sleep 1000", start_s=0)
    first = one.started("a")
    one.started("b")
    os.kill(first, signal.SIGKILL)
    assert one.started("a") != first
    one.process.terminate()
    assert one.end() == 0


def test_child_that_dies_at_the_very_start_stops_everything() -> None:
    assert Supervised("sleep 1000", "false").end() == 1


def test_stop_ends_all() -> None:
    two = Supervised("sleep 1000", "sleep 1000")
    two.started("a")
    two.started("b")
    two.process.terminate()
    assert two.end() == 0


def test_second_signal_kills_what_does_not_stop() -> None:
    stubborn = Supervised("env --ignore-signal=TERM sleep 1000")
    stubborn.started("a")
    stubborn.process.terminate()
    stubborn.process.send_signal(signal.SIGINT)
    assert stubborn.end() == 0


def test_children_of_a_killed_supervisor_end() -> None:
    two = Supervised("sleep 1000", "sleep 1000")
    two.started("a")
    two.started("b")
    two.process.kill()
    assert two.end() == -signal.SIGKILL


def test_supervisor_may_be_process_1_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "OUR_PID", 1)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert subprocess.run(["true"], preexec_fn=supervisor.die_with_parent, check=False).returncode == 0
