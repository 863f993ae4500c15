"""Prometheus counters that stages share; each name is documented in docs/reference/metrics.md."""

from prometheus_client import Counter

PIPELINE_BATCHES = Counter("tollbook_pipeline_batches_total", "Pipeline batches committed")
PIPELINE_EVENTS = Counter("tollbook_pipeline_events_total", "Accounting events read from the journal")
PIPELINE_CDRS = Counter("tollbook_pipeline_cdrs_total", "CDR revisions written")
PIPELINE_RETRIES = Counter("tollbook_pipeline_retries_total", "Batches repeated after a transient database error")
PIPELINE_SET_ASIDE = Counter("tollbook_pipeline_set_aside_total", "Events set aside because a batch failed with them")
JOB_FAILURES = Counter("tollbook_worker_job_failures_total", "Scheduled jobs that failed and were tried again", ["job"])
SUPERVISOR_RESTARTS = Counter("tollbook_supervisor_restarts_total", "Child processes started again", ["process"])
