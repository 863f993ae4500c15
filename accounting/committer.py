"""The thread that brings a receiver's requests into the journal: one batch, one commit at a time."""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Protocol

from accounting.base.log import get_logger
from accounting.db.append import NewRow
from accounting.journal import JournalUnavailable
from accounting.radius import metrics

RETRY_FIRST_S = 0.1
RETRY_LAST_S = 5.0

log = get_logger("receiver")


class Store(Protocol):
    """Where rows are kept for good: the journal, or the journal with a spool before it."""

    def append(self, rows: Sequence[NewRow]) -> object:
        """Return when they are on stable storage; JournalUnavailable: append the same rows again."""

    def close(self) -> None: ...


class Committer(Thread):
    """Appends one batch at a time to the journal, again and again until it is stored or nobody wants it any more."""

    def __init__(self, writer: Store, wake: Callable[[], None]) -> None:
        super().__init__(name="committer", daemon=True)
        self._writer = writer
        self._wake = wake
        self._batches: SimpleQueue[list[NewRow] | None] = SimpleQueue()
        self._done = False
        self.trouble = ""  # why the journal cannot be written now
        self._failure: BaseException | None = None
        self._stopped = Event()
        self.start()

    def submit(self, rows: list[NewRow]) -> None:
        """Take a batch; the one before must be done."""
        self._batches.put(rows)

    def take_done(self) -> bool:
        """Return, once, whether the batch is stored; raise what ended this thread, if something did."""
        if self._failure is not None:
            raise self._failure
        if not self._done:
            return False
        self._done = False  # not before it was seen: the thread sets it only after the next submit
        return True

    def stop(self) -> None:
        """Begin nothing new, and give up on a database that is away."""
        self._stopped.set()
        self._batches.put(None)

    def run(self) -> None:
        try:
            while (rows := self._batches.get()) is not None and self._store(rows):
                self._done = True
                self._wake()
        except BaseException as failure:  # noqa: BLE001 - a bug of ours: step() raises it, and the process ends
            self._failure = failure
            self._wake()
        finally:
            self._writer.close()

    def _store(self, rows: list[NewRow]) -> bool:
        wait_s = RETRY_FIRST_S
        failures = 0
        while not self._stopped.is_set():
            began = monotonic()
            try:
                self._writer.append(rows)
            except JournalUnavailable as error:
                failures += 1
                self.trouble = str(error)
                metrics.COMMIT_FAILURES.inc()
                if failures == 1:
                    log.error("nothing can be stored: nothing is answered until it can", cause=str(error))
                self._stopped.wait(wait_s)
                wait_s = min(wait_s * 2, RETRY_LAST_S)
                continue
            self.trouble = ""
            metrics.BATCHES.inc()
            metrics.COMMIT_SECONDS.observe(monotonic() - began)
            if failures:
                log.warning("requests can be stored again", failures=failures)
            return True
        return False
