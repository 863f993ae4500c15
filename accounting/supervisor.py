"""Starts child processes, starts those again that die, and stops all of them together.

It shares no interpreter with them: what keeps a child busy must not slow a receiver down.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

from accounting.base.log import get_logger
from accounting.base.metrics import SUPERVISOR_RESTARTS

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
START_S = 10.0
"""A child that dies this soon at the very start will not come up: its own message says why, and everything stops."""
WELL_AFTER_S = 60.0
"""A child that lived this long starts again at once and with a clean slate."""
STOP_S = 20.0
PR_SET_PDEATHSIG = 1
OUR_PID = os.getpid()
TICK_S = 0.1

log = get_logger(__name__)


class Child(NamedTuple):
    """A process to keep running: its name in the log and its words."""

    name: str
    command: tuple[str, ...]


class _Kept:
    """One child with its process and its back-off."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.failures = 0
        self.due = 0.0
        self.started = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            self.child.command,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is told to us alone: a second signal would cut their drain short
            preexec_fn=die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
        )
        self.started = time.monotonic()
        log.info("started", process=self.child.name, pid=self.process.pid)

    def died(self) -> int | None:
        """Return the exit status if the child has just been found dead, and plan its next start."""
        if self.process is None or self.process.poll() is None:
            return None
        status = self.process.returncode
        self.process = None
        lived_s = time.monotonic() - self.started
        if lived_s > WELL_AFTER_S:
            self.failures = 0
        wait_s = BACK_OFF_S[min(self.failures, len(BACK_OFF_S) - 1)]
        self.failures += 1
        self.due = time.monotonic() + wait_s
        log.error("a process died and will be started again", process=self.child.name, status=status, wait_s=wait_s)
        return status


def supervise(children: Sequence[Child]) -> int:
    """Run children until SIGTERM or SIGINT; return the exit status for the whole.

    A child that dies right at the first start stops everything with status 1: it has said itself what is wrong.
    """
    stop = threading.Event()
    force = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        (force if stop.is_set() else stop).set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    kept = [_Kept(child) for child in children]
    began = time.monotonic()
    for one in kept:
        one.start()
    status = 0
    while not stop.wait(TICK_S):
        for one in kept:
            if one.process is None:
                if time.monotonic() >= one.due:
                    SUPERVISOR_RESTARTS.labels(process=one.child.name).inc()
                    one.start()
            elif one.died() is not None and one.failures == 1 and time.monotonic() - began < START_S:
                status = 1
                stop.set()
    _stop_all(kept, force)
    return status


def _stop_all(kept: Sequence[_Kept], force: threading.Event) -> None:
    alive = [one for one in kept if one.process is not None]
    for one in alive:
        if one.process is not None:
            one.process.terminate()
    deadline = time.monotonic() + STOP_S
    for one in alive:
        while one.process is not None and one.process.poll() is None:
            if force.is_set() or time.monotonic() > deadline:
                log.error("a process did not stop and is killed", process=one.child.name)
                one.process.kill()
                one.process.wait()
            else:
                force.wait(TICK_S)


def tollbook_command(*words: str) -> tuple[str, ...]:
    """Return the words that run a tollbook command in this same interpreter's environment."""
    return (sys.executable, "-m", "tollbook", *words)


def die_with_parent() -> None:
    """Have the kernel end the child when the supervisor is killed, so that no orphan holds the port."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != OUR_PID:  # it was killed before that; in a container it may be process 1 itself
        os._exit(1)
