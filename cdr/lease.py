"""The lease of who runs the pipeline, or anything else that must not run beside it."""

LEASE = "pipeline"
LEASE_WAIT_S = 60
LEASE_TRY_S = 5
"""The worker comes again by itself, and must not be waiting here when it is told to stop."""
