"""The supervisor keeps its children running, and none outlives it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from accounting import supervisor
supervisor.START_S, supervisor.HANG_S = float(sys.argv.pop(1)), float(sys.argv.pop(1))
children = [supervisor.Child(name, tuple(command.split())) for name, command in zip("ab", sys.argv[1:])]
sys.exit(supervisor.Supervisor(children).run())
"""
CHILD = Path(__file__).parents[1] / "support" / "supervised_child.py"


class Supervised:
    """A supervisor in a process of its own, and the pids that its log tells."""

    def __init__(self, *commands: str, start_s: float = 10.0, hang_s: float = 60.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(start_s), str(hang_s), *commands],
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self, name: str) -> None:
        """Wait until it tells that a child is ready."""
        assert self.process.stdout is not None
        assert any("] ready " in line and f"child={name}" in line for line in self.process.stdout)

    def started(self, name: str) -> int:
        """Wait until it tells that it has started a child; return its pid."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "] started " in line and f"child={name}" in line:
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
    two = Supervised(f"{sys.executable} {CHILD}", f"{sys.executable} {CHILD}")
    two.started("a")
    two.started("b")
    two.process.kill()
    assert two.end() == -signal.SIGKILL


def test_supervisor_may_be_process_1_of_a_container() -> None:
    program = "from accounting.base import watch; import os; os.getppid = lambda: 1; watch.end_with_supervisor()"
    assert subprocess.run([sys.executable, "-c", program], env={"SUPERVISED_BY": "1"}, check=False).returncode == 0


def test_child_that_falls_silent_is_killed_and_started_again() -> None:
    one = Supervised(f"{sys.executable} {CHILD}", start_s=0, hang_s=3)
    first = one.started("a")
    one.ready("a")
    os.kill(first, signal.SIGSTOP)
    assert one.started("a") != first
    one.process.terminate()
    assert one.end() == 0
