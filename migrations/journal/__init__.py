"""History of the journal: writers, source versions, accounting events as they came."""
