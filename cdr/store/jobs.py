"""Table job_run: which job has been done for which day, so that what was missed is found after any outage."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from cdr.store.tables import job_run

DONE = "done"
FAILED = "failed"
RUNNING = "running"


def load_done(conn: Connection, job: str) -> set[str]:
    """Return what a job has been done for (days as YYYY-MM-DD)."""
    query = select(job_run.c.scheduled_for).where(job_run.c.job == job, job_run.c.status == DONE)
    return set(conn.execute(query).scalars())


def start_run(conn: Connection, job: str, scheduled_for: str, at: datetime) -> None:
    """Record that a job begins; an earlier run for the same day, finished or not, is forgotten."""
    conn.execute(delete(job_run).where(job_run.c.job == job, job_run.c.scheduled_for == scheduled_for))
    conn.execute(
        insert(job_run).values(
            job=job, scheduled_for=scheduled_for, status=RUNNING, started_at=at, finished_at=None, detail=""
        )
    )


def finish_run(conn: Connection, job: str, scheduled_for: str, status: str, detail: str, at: datetime) -> None:
    """Record how a run ended: done or failed, and the file it made or what went wrong."""
    assert status in (DONE, FAILED), status
    finished = conn.execute(
        update(job_run)
        .where(job_run.c.job == job, job_run.c.scheduled_for == scheduled_for)
        .values(status=status, finished_at=at, detail=detail)
    )
    assert finished.rowcount == 1, f"no run of {job} for {scheduled_for} was started"
