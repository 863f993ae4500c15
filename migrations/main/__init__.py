"""History of the main database: what calls were, what they cost, who paid."""

from cdr.store.tables import main_metadata as metadata

__all__ = ["metadata"]
