"""Starts child processes, starts those again that die or hang, and stops all of them together.

It shares no interpreter with them: what keeps a child busy must not slow a receiver down. The sockets that it hands
to a child outlive the child: what arrives while it restarts waits in them.
"""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from prometheus_client.multiprocess import mark_process_dead

from accounting.base.log import get_logger
from accounting.base.metrics import FOLDER_VARIABLE, SUPERVISOR_READY, SUPERVISOR_RESTARTS
from accounting.base.sockets import SUPERVISED_VARIABLE, Handed, handed_text
from accounting.base.watch import LISTENER_VARIABLE, NAME_VARIABLE, PARENT_VARIABLE, TROUBLE, Watch

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
START_S = 10.0
"""A child that dies so soon and was never ready will not come up: its own message says why, and everything stops."""
WELL_AFTER_S = 60.0
"""A child that lived this long starts again at once and with a clean slate."""
SILENT_S = 15.0
"""A child that has told nothing for so long is not well."""
HANG_S = 60.0
"""A child that has told nothing for so long hangs: it is killed and started again."""
STOP_S = 20.0
TICK_S = 0.1
MESSAGE_BYTES_MAX = 4096
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_OF_SYSTEMD = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC")

log = get_logger(__name__)


class Child(NamedTuple):
    """A process to keep running: its name, its words, the sockets it gets.

    essential: all is ready only when it is, and if it dies at once, all ends. reloads: it is told of SIGHUP.
    """

    name: str
    command: tuple[str, ...]
    sockets: tuple[Handed, ...] = ()
    essential: bool = True
    reloads: bool = False


class Health(NamedTuple):
    """How a child is. silent_s: how long it has told nothing, None before the first time."""

    name: str
    pid: int | None
    is_ready: bool
    silent_s: float | None
    trouble: str

    @property
    def is_alive(self) -> bool:
        """Whether it runs and its loop goes round."""
        return self.pid is not None and (self.silent_s is None or self.silent_s < SILENT_S)

    @property
    def problem(self) -> str:
        """What keeps it from its work, empty if nothing does."""
        if self.pid is None:
            return "is not running"
        if not self.is_alive:
            return f"has told nothing for {self.silent_s:.0f} s"
        return self.trouble or ("" if self.is_ready else "is not ready yet")


class _Kept:
    """One child with its process, its back-off, and what it told last."""

    def __init__(self, child: Child, environment: Mapping[str, str], metrics: Path | None) -> None:
        self.child = child
        self.failures = 0
        self.due = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.must_reload = False
        self.came_up = False
        self.is_ready = False
        self.beat_at: float | None = None
        self._metrics = metrics
        self._environment = environment
        self._forget()

    def start(self) -> None:
        self._forget()
        self.must_reload = False  # it reads the settings as they are now
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            self.child.command,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is told to us alone: a second signal would cut their drain short
            env=self._environment,
            pass_fds=[handed.fd for handed in self.child.sockets],
        )
        log.info("started", child=self.child.name, pid=self.process.pid)

    def hear(self, message: str) -> None:
        """Take what the child tells."""
        told = dict(line.partition("=")[::2] for line in message.splitlines())
        if "WATCHDOG" in told:
            self.beat_at = time.monotonic()
            if "READY" in told and not self.is_ready:
                log.info("ready", child=self.child.name)
                self.came_up = True
            self.is_ready = "READY" in told
            self.trouble = told.get(TROUBLE, "")
            SUPERVISOR_READY.labels(self.child.name).set(self.is_ready and not self.trouble)

    def health(self) -> Health:
        process, beat_at = self.process, self.beat_at
        silent_s = None if beat_at is None else time.monotonic() - beat_at
        return Health(self.child.name, process.pid if process else None, self.is_ready, silent_s, self.trouble)

    def reload(self) -> None:
        """Tell it of a reload that waits, once it can take it."""
        if self.must_reload and self.is_ready and self.process is not None:
            self.must_reload = False
            self.process.send_signal(signal.SIGHUP)

    def kill_hanging(self) -> None:
        """Kill the child if its loop does not go round any more."""
        silent_s = self.health().silent_s
        if self.process is not None and silent_s is not None and silent_s > HANG_S:
            log.error("a process hangs and is killed", child=self.child.name, pid=self.process.pid)
            self.process.kill()
            self.process.wait()

    def died(self) -> int | None:
        """Return the exit status if the child has just been found dead, and plan its next start."""
        if self.process is None or self.process.poll() is None:
            return None
        status = self.process.returncode
        self.process = None
        lived_s = time.monotonic() - self.started
        self._forget()
        if self._metrics is not None:
            mark_process_dead(self.child.name, str(self._metrics))  # type: ignore[no-untyped-call]
        if lived_s > WELL_AFTER_S:
            self.failures = 0
        wait_s = BACK_OFF_S[min(self.failures, len(BACK_OFF_S) - 1)]
        self.failures += 1
        self.due = time.monotonic() + wait_s
        log.error("a process died and will be started again", child=self.child.name, status=status, wait_s=wait_s)
        return status

    def _forget(self) -> None:
        self.started = time.monotonic()
        self.is_ready = False
        self.beat_at = None
        self.trouble = ""
        SUPERVISOR_READY.labels(self.child.name).set(0)


class Supervisor:
    """Keeps children running. `health` may be called by other threads; metrics: the folder of the children's values."""

    def __init__(self, children: Sequence[Child], metrics: Path | None = None) -> None:
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._ear.bind("")  # the kernel gives an abstract name, which leaves no file behind
        self._watch = Watch()
        self._is_ready = False
        self._kept = [_Kept(child, self._environment(child, metrics), metrics) for child in children]

    def health(self) -> list[Health]:
        """Return how each child is."""
        return [one.health() for one in self._kept]

    def run(self) -> int:
        """Run the children until SIGTERM or SIGINT; return the exit status for the whole.

        An essential child that dies at the start, never ready, stops everything with 1: it has said what is wrong.
        """
        stop, force = threading.Event(), threading.Event()

        def ask(_number: int, _frame: FrameType | None) -> None:
            (force if stop.is_set() else stop).set()

        def reload(_number: int, _frame: FrameType | None) -> None:
            for one in self._kept:
                one.must_reload = one.child.reloads

        signal.signal(signal.SIGHUP, reload)
        signal.signal(signal.SIGTERM, ask)
        signal.signal(signal.SIGINT, ask)
        began = time.monotonic()
        for one in self._kept:
            one.start()
        status = 0
        while not stop.is_set():
            self._hear()
            for one in self._kept:
                if one.process is None:
                    if time.monotonic() >= one.due:
                        SUPERVISOR_RESTARTS.labels(process=one.child.name).inc()
                        one.start()
                elif one.died() is not None and self._is_hopeless(one, began):
                    status = 1
                    stop.set()
                one.kill_hanging()
                one.reload()
            self._tell()
        self._watch.stopping()
        _stop_all(self._kept, force)
        self._ear.close()
        return status

    def _is_hopeless(self, one: _Kept, began: float) -> bool:
        return one.child.essential and not one.came_up and time.monotonic() - began < START_S

    def _hear(self) -> None:
        """Take what children tell, for a tick at most."""
        if not select.select([self._ear], [], [], TICK_S)[0]:
            return
        message, ancillary, _, _ = self._ear.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(_CREDENTIALS.size))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = _CREDENTIALS.unpack(data)[0]
                for one in self._kept:
                    if one.process is not None and one.process.pid == pid:  # a stranger is not believed
                        one.hear(message.decode("utf-8", "replace"))

    def _tell(self) -> None:
        """Tell the service manager."""
        is_ready = all(one.is_ready for one in self._kept if one.child.essential)
        if is_ready and not self._is_ready:
            self._watch.ready()
        self._is_ready = is_ready
        problems = [(health.name, health.problem) for health in self.health()]
        self._watch.beat("; ".join(f"{name}: {problem}" for name, problem in problems if problem))

    def _environment(self, child: Child, metrics: Path | None) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _OF_SYSTEMD}
        environment[NAME_VARIABLE] = child.name
        environment[PARENT_VARIABLE] = str(os.getpid())
        environment[LISTENER_VARIABLE] = "@" + self._ear.getsockname()[1:].decode()
        environment[SUPERVISED_VARIABLE] = handed_text(child.sockets)
        if metrics is not None:
            environment[FOLDER_VARIABLE] = str(metrics)
        return environment


def _stop_all(kept: Sequence[_Kept], force: threading.Event) -> None:
    alive = [one for one in kept if one.process is not None]
    for one in alive:
        if one.process is not None:
            one.process.terminate()
    deadline = time.monotonic() + STOP_S
    for one in alive:
        while one.process is not None and one.process.poll() is None:
            if force.is_set() or time.monotonic() > deadline:
                log.error("a process did not stop and is killed", child=one.child.name)
                one.process.kill()
                one.process.wait()
            else:
                force.wait(TICK_S)


def tollbook_command(*words: str) -> tuple[str, ...]:
    """Return the words that run a tollbook command in this same interpreter's environment."""
    return (sys.executable, "-m", "tollbook", *words)
