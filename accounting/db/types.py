"""Column types that mean the same on SQLite and MariaDB."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, LargeBinary, String, Text
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

COLLATION = "utf8mb4_nopad_bin"  # utf8mb4_bin takes 'a' and 'a ' for equal

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""A 64-bit key; on SQLite INTEGER, so that it can be the rowid."""


def Name(length: int) -> TypeEngine[str]:  # noqa: N802 - reads as a type
    """Return a text type compared byte for byte, trailing spaces included."""
    return String(length).with_variant(mysql.VARCHAR(length, collation=COLLATION), "mysql", "mariadb")


def LongText() -> TypeEngine[str]:  # noqa: N802 - reads as a type
    """Return a text type of up to 16 MiB."""
    return Text().with_variant(mysql.MEDIUMTEXT(collation=COLLATION), "mysql", "mariadb")


def Bytes() -> TypeEngine[bytes]:  # noqa: N802 - reads as a type
    """Return a byte string type of up to 16 MiB."""
    return LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


class Instant(TypeDecorator[datetime]):
    """A UTC instant with microseconds; refuses naive datetimes, gives aware ones.

    DATETIME(6) on MariaDB; on SQLite text `YYYY-MM-DD HH:MM:SS.ffffff`, always with six digits.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(
                sqlite.DATETIME(  # type: ignore[no-untyped-call]
                    storage_format="%(year)04d-%(month)02d-%(day)02d "
                    "%(hour)02d:%(minute)02d:%(second)02d.%(microsecond)06d"
                )
            )
        return dialect.type_descriptor(mysql.DATETIME(fsp=6))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: an instant needs its offset")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)
