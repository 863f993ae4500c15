"""The receiver's Prometheus counters; each name is documented in docs/reference/metrics.md."""

from accounting.base.metrics import Counter, Gauge, Histogram

RECEIVED = Counter("tollbook_receiver_received_total", "Packets read")
ACKNOWLEDGED = Counter("tollbook_receiver_acknowledged_total", "Accounting-Requests answered after their commit")
DUPLICATES = Counter("tollbook_receiver_duplicates_total", "Repeats of a request that was answered or still waits")
DROPPED = Counter("tollbook_receiver_dropped_total", "Packets not stored and not answered", ["reason", "client"])
STATUS = Counter("tollbook_receiver_status_server_total", "Status-Server requests answered")
OLD_SECRET = Counter(
    "tollbook_receiver_old_secret_total", "Requests signed with secret while secret_next is set", ["client"]
)
UNSENT = Counter("tollbook_receiver_unsent_total", "Replies that the kernel did not take; a repeat gets them")
FILTERED = Gauge(
    "tollbook_receiver_strangers_filtered",
    "1: the kernel drops what unknown addresses send here, because they flood",
    ["address"],
    multiprocess_mode="livesum",
)
CONNECTIONS = Gauge("tollbook_receiver_connections", "TCP and TLS connections", multiprocess_mode="livesum")
CLOSED = Counter(
    "tollbook_receiver_connections_closed_total", "Connections closed for a fault of the peer", ["reason", "client"]
)
HELD = Counter(
    "tollbook_receiver_connections_held_total", "Times that a connection was not read for a second or so", ["client"]
)
BATCHES = Counter("tollbook_receiver_batches_total", "Commits to the journal")
COMMIT_FAILURES = Counter("tollbook_receiver_commit_failures_total", "Commits that failed and were tried again")
SPOOLED = Counter("tollbook_spool_stored_total", "Requests answered from the spool while the database was away")
SPOOL_MOVED = Counter("tollbook_spool_moved_total", "Requests moved from the spool into the journal")
SPOOL_ROWS = Gauge("tollbook_spool_rows", "Requests that wait in the spool", multiprocess_mode="livesum")
SPOOL_BYTES = Gauge("tollbook_spool_bytes", "Octets in use in the spool's file", multiprocess_mode="livesum")
SPOOL_OLDEST = Gauge(
    "tollbook_spool_oldest_age_seconds",
    "Age of the oldest request in the spool; 0: it is empty",
    multiprocess_mode="livemax",
)
LOST = Counter("tollbook_journal_lost_total", "Requests that the database had taken from a receiver and has no more")
PENDING = Gauge(
    "tollbook_receiver_pending", "Verified requests that wait for their commit", multiprocess_mode="livesum"
)
COMMIT_SECONDS = Histogram(
    "tollbook_receiver_commit_seconds",
    "Time of one commit to the journal",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
