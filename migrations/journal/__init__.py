"""History of the journal: writers, source versions, accounting events as they came."""

from accounting.db.tables import journal_metadata as metadata

__all__ = ["metadata"]
