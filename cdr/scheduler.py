"""Runs the jobs it is given at their intervals until it is told to stop; it does not know what they do.

Jobs are kept in memory only: what was missed while nothing ran is found by the jobs themselves, in the database.
"""

import signal
import threading
from collections.abc import Callable, Sequence
from datetime import UTC
from types import FrameType
from typing import NamedTuple

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.exc import DBAPIError

from accounting.base.clock import now
from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.base.metrics import JOB_FAILURES
from accounting.db.engine import driver_words

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)

log = get_logger(__name__)


class Job(NamedTuple):
    """Something to do every interval_s seconds, never twice at once; work gets a stop() to ask in long loops."""

    name: str
    interval_s: float
    work: Callable[[Callable[[], bool]], None]


class Runner:
    """One job with its back-off: after a failure it waits before it tries again, and says when it is well again."""

    def __init__(self, job: Job, stop: threading.Event) -> None:
        self._job = job
        self._stop = stop
        self._failures = 0

    def run(self) -> None:
        """Do the job once; a failure is logged and waited off, so that the next turn finds a living thread."""
        if self._stop.is_set():
            return
        try:
            self._job.work(self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - the worker's outermost loop
            JOB_FAILURES.labels(job=self._job.name).inc()
            wait_s = BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
            self._failures += 1
            log.error("a job failed and will be tried again", job=self._job.name, wait_s=wait_s, **_told(error))
            self._stop.wait(wait_s)
            return
        if self._failures:
            log.info("a job runs again", job=self._job.name, failures=self._failures)
        self._failures = 0


def _told(error: Exception) -> dict[str, str]:
    if isinstance(error, TollbookError):
        return {"error": str(error)}
    if isinstance(error, DBAPIError):
        return {"error": driver_words(error)}
    return {"error": f"{type(error).__name__}: {error}"}


def run_jobs(jobs: Sequence[Job], *, stop: threading.Event | None = None) -> None:
    """Run jobs at their intervals, each at once and then again and again, until SIGTERM or SIGINT (or stop is set).

    What is under way is finished first.
    """
    asked = stop or threading.Event()
    if stop is None:
        _stop_on_signals(asked)
    scheduler = BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(max(1, len(jobs)))},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    for job in jobs:
        scheduler.add_job(
            Runner(job, asked).run,
            IntervalTrigger(seconds=job.interval_s, timezone=UTC),
            id=job.name,
            next_run_time=now(),
        )
    scheduler.start()
    log.info("scheduling", jobs=[job.name for job in jobs])
    asked.wait()
    scheduler.shutdown(wait=True)
    log.info("stopped")


def _stop_on_signals(stop: threading.Event) -> None:
    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
