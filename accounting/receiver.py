"""The receiver: requests in, verified, into the journal, and only after the commit the reply.

One thread reads all ports and answers; the committer's thread commits.
"""

import os
import select
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol

from accounting.base.clock import now_us
from accounting.committer import RETRY_FIRST_S, Committer, Store
from accounting.radius.clients import ClientTable
from accounting.radius.intake import Answer, Intake

TIDY_S = 1.0


class Port(Protocol):
    """Where requests arrive: a UDP socket, or listeners with their connections."""

    def fileno(self) -> int: ...

    def ready(self, intake: Intake) -> None:
        """Something can be read: give what is there to `intake.take`, but come back after 100 or so."""

    def flush(self) -> None:
        """Send the replies that were given since the last time, if they are not gone already."""

    def tidy(self, now: float) -> None:
        """Look after what only time brings about; `now` is of monotonic(). Called once a second or so."""


class Receiver:
    """Reads its ports and answers what the journal has taken. One thread calls step(); another one commits."""

    def __init__(
        self,
        ports: Iterable[Port],
        clients: ClientTable,
        writer: Store,
        *,
        batch_max: int = 256,
        pending_max: int = 100_000,
        reply_cache_s: float = 30,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._ports = {port.fileno(): port for port in ports}
        self._intake = Intake(clients, pending_max=pending_max, reply_cache_s=reply_cache_s, clock=clock)
        self._batch_max = batch_max
        self._in_commit: list[Answer] = []
        self._tidy_at = 0.0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.epoll()
        for fd in (*self._ports, self._wake):
            self._poll.register(fd, select.EPOLLIN)
        self._committer = Committer(writer, self.wake)

    @property
    def pending(self) -> int:
        """How many verified requests wait for their commit."""
        return self._intake.pending

    @property
    def trouble(self) -> str:
        """What keeps requests from being stored now, empty if nothing does."""
        return self._committer.trouble

    def replace_clients(self, clients: ClientTable) -> None:
        """Let these send from now on, and nobody else; what was accepted stays so."""
        self._intake.replace_clients(clients)

    def wake(self) -> None:
        """Make a waiting step() return; safe in a signal handler and in other threads."""
        os.eventfd_write(self._wake, 1)

    def step(self, wait_s: float = TIDY_S) -> None:
        """Wait until something arrives or a commit ends, at most wait_s, and do what there is to do."""
        ready = dict(self._poll.poll(wait_s))
        if ready.pop(self._wake, 0):  # read before looking for an ended commit: the next one may wake again at once
            os.eventfd_read(self._wake)
        self._settle()
        self._submit()
        for fd in ready:
            self._intake.begin()
            self._ports[fd].ready(self._intake)
            self._settle()
            self._submit()
        self._intake.drops.count()
        now = monotonic()
        self._intake.is_stuck = bool(self._committer.trouble)
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_S
            self._intake.tidy(now)
            for port in self._ports.values():
                port.tidy(now)

    def drain(self, at_most_s: float) -> int:
        """Read no more, commit and answer what was taken; return how many requests had to be left unanswered."""
        for fd in self._ports:
            self._poll.unregister(fd)
        end = monotonic() + at_most_s
        while self.pending and (left := end - monotonic()) > 0:
            self.step(min(left, TIDY_S))
        self._committer.stop()
        self._intake.drops.report(None)
        return self.pending

    def close(self) -> None:
        """Close everything but the ports, which the caller opened."""
        self._committer.stop()
        self._poll.close()
        self._committer.join(RETRY_FIRST_S)
        if not self._committer.is_alive():  # else it may still want to wake us
            os.close(self._wake)

    def _submit(self) -> None:
        """Hand what waits to the committer, if it has nothing to do."""
        if not self._in_commit:
            rows, self._in_commit = self._intake.batch(self._batch_max)
            if rows:
                self._committer.submit(rows)

    def _settle(self) -> None:
        """Answer the batch whose commit has ended, if one has."""
        if self._committer.take_done():
            answers, self._in_commit = self._in_commit, []
            self._submit()  # the next commit runs while these are answered
            self._intake.stored(answers)
            for port in self._ports.values():
                port.flush()
