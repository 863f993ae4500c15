"""Runs other people's programs for tests: each in a process group that ends with the test, however the test ends.

Not in a session: a kernel with autogroups gives each session an equal share (sched(7)), and one that is busy was seen
to keep the programs of others off the cores for half a minute.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10
GREETING = "listening on"
"""What a receiver says once it is bound, can store, and hears signals."""


def program(name: str, package: str) -> str:
    """Return a program's path; without it the test fails and says which package brings it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise AssertionError(f"{name} is missing; run: apt-get install --no-install-recommends {package}")
    return found


@contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], bool], *, cwd: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program until the block ends; it is given when `ready` says so. `log` takes what it prints."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, process_group=0)
    watcher = _watch(process.pid)
    try:
        _wait(process, log, ready)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        watcher.communicate()
        process.wait()


def listens(at: tuple[str, int]) -> bool:
    """Return whether something is bound to a UDP address; nothing is sent, which a called party would count."""
    wanted = "".join(f"{int(part):02X}" for part in reversed(at[0].split("."))) + f":{at[1]:04X}"
    return any(line.split()[1] == wanted for line in Path("/proc/net/udp").read_text().splitlines()[1:])


def cpu_s(pid: int) -> float:
    """Return the CPU seconds a process has used, its threads included."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(pid: int) -> str:
    """Return the state of a process as proc(5) has it: R, S, T and so on."""
    return _stat(pid)[0]


def wait_until(true: Callable[[], bool], what: str, within_s: float = START_TIMEOUT_S) -> None:
    """Return once something is true that other processes bring about; fail if it takes too long."""
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while not true():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        pause.wait(0.05)


def _stat(pid: int) -> list[str]:
    """Return what proc(5) tells of a process behind its name, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _watch(group: int) -> "subprocess.Popen[bytes]":
    """Start a watcher: when our end of its pipe closes, by our doing or our death, it kills the group."""
    script = 'cat; kill -9 "-$1" 2>/dev/null; true'  # not "kill -9 -- ...": dash takes that for a signal
    return subprocess.Popen(["sh", "-c", script, "watcher", str(group)], stdin=subprocess.PIPE, process_group=0)


def _wait(process: "subprocess.Popen[bytes]", log: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{process.args!r} did not start: {log.read_text(errors='replace')[-4000:]}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
