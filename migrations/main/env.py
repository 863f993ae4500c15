"""Alembic's entry to the main database's history."""

from cdr.store.tables import main_metadata
from migrations.history import run

run("main", main_metadata, "alembic_version")
