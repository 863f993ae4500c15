"""The collectors' Prometheus counters; each name is documented in docs/reference/metrics.md."""

from accounting.base.metrics import Counter, Gauge

ROWS = Counter("tollbook_collector_rows_total", "Rows stored in the journal", ["collector", "table"])
FAILURES = Counter("tollbook_collector_failures_total", "Polls that failed and are tried again", ["collector"])
RESTARTS = Counter("tollbook_collector_restarts_total", "Tables found emptied or made again", ["collector", "table"])
GIVEN_UP = Counter("tollbook_collector_given_up_total", "Ids that never appeared, given up", ["collector", "table"])
GAPS = Gauge(
    "tollbook_collector_gaps", "Ranges of ids that may still appear", ["collector", "table"],
    multiprocess_mode="livemax",
)  # fmt: skip
