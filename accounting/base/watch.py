"""What a process tells of itself, in the words of sd_notify(3): to systemd, or to the supervisor that started it.

A loop tells it, never a thread beside it: a loop that hangs falls silent. Without a listener nothing is sent.
"""

import ctypes
import os
import signal
import socket
import sys
from contextlib import suppress
from time import monotonic

BEAT_S = 1.0
NAME_VARIABLE = "SUPERVISED_AS"
"""The name that the supervisor gives a child; it is in the log and in the names of metrics' files."""
PARENT_VARIABLE = "SUPERVISED_BY"
LISTENER_VARIABLE = "NOTIFY_SOCKET"
TROUBLE = "X_TROUBLE"
"""Our own word of the protocol: what keeps the process from its work, empty if nothing does."""
TROUBLE_CHARS_MAX = 500
_PR_SET_PDEATHSIG = 1


def process_name() -> str:
    """Return what this process is called: by its supervisor, else by the command that it runs."""
    given = os.environ.get(NAME_VARIABLE)
    return given or next((word for word in sys.argv[1:] if not word.startswith("-")), "tollbook")


def is_supervised() -> bool:
    """Return whether a supervisor of ours started this process."""
    return NAME_VARIABLE in os.environ


def end_with_supervisor() -> None:
    """Have the kernel end this process when its supervisor is killed, so that no orphan holds a port."""
    if parent := os.environ.get(PARENT_VARIABLE):
        end_with(int(parent))


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent has died; end now if it has already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


class Watch:
    """Tells one listener how the process is. Never blocks, and nothing depends on its being heard.

    Every message tells the whole state, so one that is lost is made good by the next.
    """

    def __init__(self) -> None:
        self._address = os.environ.get(LISTENER_VARIABLE, "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._is_ready = False
        self._trouble = ""
        self._next = 0.0

    def ready(self) -> None:
        """Tell that the process does its work from now on."""
        self._is_ready = True
        self._tell()

    def beat(self, trouble: str = "") -> None:
        """Tell that the loop goes round, and what troubles it; sent once a second, or when the trouble is another."""
        if self._socket is None:
            return
        now = monotonic()
        if now >= self._next or trouble != self._trouble:
            self._next = now + BEAT_S
            self._trouble = trouble
            self._tell()

    def stopping(self) -> None:
        """Tell that the process has been asked to stop and does so."""
        self._send("STOPPING=1")

    def _tell(self) -> None:
        trouble = " ".join(self._trouble.split())[:TROUBLE_CHARS_MAX]
        state = ["READY=1"] if self._is_ready else []
        self._send(*state, "WATCHDOG=1", f"{TROUBLE}={trouble}", f"STATUS={trouble or 'well'}")

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # nobody listens any more, or does not keep up
                self._socket.sendto("\n".join(lines).encode(), self._address)
