"""What a database error means: try the same again, wait for the database, or look at the data."""

from sqlalchemy.exc import DBAPIError, OperationalError

# MariaDB error numbers (mysqld_error.h, errmsg.h)
TRANSIENT = {1020, 1205, 1213, 1317, 1412, 1969, 3024}
"""Snapshot too old, lock wait timeout, deadlock, interrupted, table changed, statement timeout of MariaDB and MySQL."""
UNAVAILABLE = {
    1016, 1021, 1023, 1024, 1026, 1030, 1034, 1036, 1037, 1038, 1040, 1041, 1044, 1045, 1049, 1053, 1114, 1129, 1130,
    1135, 1142, 1143, 1146, 1158, 1159, 1160, 1161, 1180, 1184, 1194, 1203, 1206, 1226, 1227, 1290, 1836, 1927, 2002,
    2003, 2005, 2006, 2008, 2013, 2026, 2055,
}  # fmt: skip
AWAY = {1040, 1053, 1203, 2002, 2003, 2005, 2006, 2013}
"""The server is not there, is going down, or is full of connections: it may be back by itself."""
SQLITE_TRANSIENT = ("database is locked", "database table is locked", "database schema has changed")
SQLITE_UNAVAILABLE = (
    "disk is full",
    "disk i/o error",
    "database disk image is malformed",
    "out of memory",
    "interrupted",
    "unable to open",
    "readonly database",
    "no such table",
    "not a database",
)


def is_transient(error: DBAPIError) -> bool:
    """Return whether the same transaction may well succeed if it is simply tried again."""
    number = _number(error)
    if number is not None:
        return number in TRANSIENT
    return isinstance(error, OperationalError) and any(words in str(error.orig).lower() for words in SQLITE_TRANSIENT)


def is_unavailable(error: DBAPIError) -> bool:
    """Return whether the database itself is the trouble (away, full, refusing, busy for long), not what was written."""
    if error.connection_invalidated or is_transient(error):
        return True
    number = _number(error)
    if number is not None:
        return number in UNAVAILABLE
    return isinstance(error, OperationalError) and any(words in str(error.orig).lower() for words in SQLITE_UNAVAILABLE)


def is_away(error: BaseException | None) -> bool:
    """Return whether a server could not be reached; one that refuses, or a file, is not away."""
    return isinstance(error, DBAPIError) and _number(error) in AWAY


def _number(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
