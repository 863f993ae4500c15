"""Runs the jobs it is given at their intervals until it is told to stop; it does not know what they do.

Jobs are kept in memory only: what was missed while nothing ran is found by the jobs themselves, in the database.
"""

import signal
import threading
import time
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
from accounting.base.metrics import JOB_FAILURES, JOB_SUCCESS
from accounting.base.watch import Watch
from accounting.db.engine import driver_words

TICK_S = 1.0
SILENT_S = 1800.0
"""A job that has neither ended nor begun another batch for so long hangs: the process tells no more that it is well."""
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
        self._moved = time.monotonic()
        self.trouble = ""

    @property
    def is_alive(self) -> bool:
        """Whether its turns come, and go on."""
        return time.monotonic() - self._moved < SILENT_S + self._job.interval_s

    def run(self) -> None:
        """Do the job once; a failure is logged and waited off, so that the next turn finds a living thread."""
        if self._must_stop():
            return
        try:
            self._job.work(self._must_stop)
        except Exception as error:  # noqa: BLE001 - the worker's outermost loop
            JOB_FAILURES.labels(job=self._job.name).inc()
            wait_s = BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
            self._failures += 1
            told = _told(error)
            self.trouble = f"{self._job.name}: {told['error']}"
            log.error("a job failed and will be tried again", job=self._job.name, wait_s=wait_s, **told)
            self._stop.wait(wait_s)
            return
        if self._failures:
            log.info("a job runs again", job=self._job.name, failures=self._failures)
        self._failures, self.trouble = 0, ""
        JOB_SUCCESS.labels(job=self._job.name).set_to_current_time()

    def _must_stop(self) -> bool:
        self._moved = time.monotonic()
        return self._stop.is_set()


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
    runners = [Runner(job, asked) for job in jobs]
    for job, runner in zip(jobs, runners, strict=True):
        scheduler.add_job(
            runner.run,
            IntervalTrigger(seconds=job.interval_s, timezone=UTC),
            id=job.name,
            next_run_time=now(),
        )
    scheduler.start()
    log.info("scheduling", jobs=[job.name for job in jobs])
    watch = Watch()
    watch.ready()
    while not asked.wait(TICK_S):
        if all(runner.is_alive for runner in runners):
            watch.beat("; ".join(runner.trouble for runner in runners if runner.trouble))
    watch.stopping()
    scheduler.shutdown(wait=True)
    log.info("stopped")


def _stop_on_signals(stop: threading.Event) -> None:
    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # receivers read their clients again; here it takes a restart
