"""Fuzzing of all that reads octets from outside; docs/decisions/fuzzing.md."""
