"""Alembic's entry to the journal's history."""

from migrations.history import run
from migrations.journal import metadata

run("journal", metadata, "alembic_version_journal")
