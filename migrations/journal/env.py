"""Alembic's entry to the journal's history."""

from accounting.db.tables import journal_metadata
from migrations.history import run

run("journal", journal_metadata, "alembic_version_journal")
