"""What a database error means: try the same again, wait for the database, or look at the data."""

from sqlalchemy.exc import DBAPIError, OperationalError

# MariaDB error numbers (mysqld_error.h, errmsg.h)
TRANSIENT = {1205, 1213, 1412, 3024}  # lock wait timeout, deadlock, table changed, statement timeout
UNAVAILABLE = {
    1021, 1030, 1040, 1041, 1044, 1045, 1049, 1053, 1114, 1129, 1130, 1142, 1158, 1159, 1160, 1161, 1184, 1203, 1226,
    1290, 1836, 1927, 2002, 2003, 2005, 2006, 2013, 2026, 2055,
}  # fmt: skip
SQLITE_TRANSIENT = ("database is locked", "database table is locked", "database schema has changed")
SQLITE_UNAVAILABLE = (
    "disk is full",
    "disk i/o error",
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


def _number(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
