"""RADIUS dictionary files, one per family of clients: data, read by accounting.radius.dictionary."""
