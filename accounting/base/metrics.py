"""Prometheus metrics: how a process keeps their values, and those that stages share.

Each name is documented in docs/reference/metrics.md. A child of a supervisor that serves metrics keeps its values in
files, which the supervisor reads; one that is started again goes on with the values of the one before.
"""

import os

import prometheus_client.values
from prometheus_client import Counter, Gauge, Histogram

from accounting.base.watch import is_supervised, process_name

__all__ = ["Counter", "Gauge", "Histogram"]

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own; a Gauge needs a multiprocess_mode that begins with live."""

if is_supervised() and FOLDER_VARIABLE in os.environ:
    _NAME = process_name()
    prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: _NAME
    )

PIPELINE_BATCHES = Counter("tollbook_pipeline_batches_total", "Pipeline batches committed")
PIPELINE_EVENTS = Counter("tollbook_pipeline_events_total", "Accounting events read from the journal")
PIPELINE_CDRS = Counter("tollbook_pipeline_cdrs_total", "CDR revisions written")
PIPELINE_RETRIES = Counter("tollbook_pipeline_retries_total", "Batches repeated after a transient database error")
PIPELINE_SET_ASIDE = Counter("tollbook_pipeline_set_aside_total", "Events set aside because a batch failed with them")
PIPELINE_BEHIND = Gauge(
    "tollbook_pipeline_behind_rows", "Journal rows that waited when the last batch began", multiprocess_mode="livemax"
)
PIPELINE_NEWEST = Gauge(
    "tollbook_pipeline_newest_event_timestamp_seconds", "Own time of the newest event of the last batch, Unix time",
    multiprocess_mode="livemax",
)  # fmt: skip
JOB_FAILURES = Counter("tollbook_worker_job_failures_total", "Scheduled jobs that failed and were tried again", ["job"])
JOB_SUCCESS = Gauge(
    "tollbook_worker_job_success_timestamp_seconds", "When the job ended well last, Unix time", ["job"],
    multiprocess_mode="livemax",
)  # fmt: skip
SUPERVISOR_RESTARTS = Counter("tollbook_supervisor_restarts_total", "Child processes started again", ["process"])
SUPERVISOR_READY = Gauge(
    "tollbook_supervisor_ready", "1: the process does its work; 0: it is in trouble, or not there", ["process"],
    multiprocess_mode="livemax",
)  # fmt: skip
