"""The lease of who runs the pipeline, or anything else that must not run beside it."""

LEASE = "pipeline"
LEASE_WAIT_S = 60
