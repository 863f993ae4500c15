"""History of the main database: what calls were, what they cost, who paid."""
