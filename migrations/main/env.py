"""Alembic's entry to the main database's history."""

from migrations.history import run
from migrations.main import metadata

run("main", metadata, "alembic_version")
