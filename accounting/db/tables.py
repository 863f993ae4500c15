"""Tables of the journal: writers, source versions, accounting events as they came, and how far collectors have read.

On SQLite they live in a file of their own. Only accounting.journal writes them.
"""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table
from sqlalchemy.dialects import mysql

from accounting.db.types import BigId, LongText, Name

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
DATAGRAM_BYTES_MAX = 4096  # RFC 2865 section 3

journal_metadata = MetaData(naming_convention=NAMING)

writer = Table(
    "writer",
    journal_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("kind", Name(16), nullable=False),  # receiver | collector | media | spool | operator | replay
    Column("name", Name(255), nullable=False),  # which one: an address it listens on, a collector's name
    Column("host", Name(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    mysql_engine="InnoDB",
    sqlite_autoincrement=True,  # an id is never used again
)

source = Table(
    "source",
    journal_metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("name", Name(255), nullable=False),
    Column("digest", Name(64), nullable=False, unique=True),  # sha256 of settings
    Column("settings", LongText(), nullable=False),  # accounting.event.Source as JSON
    Column("first_us", BigInteger, nullable=False),
    mysql_engine="InnoDB",
    sqlite_autoincrement=True,
)

journal = Table(
    "journal",
    journal_metadata,
    Column("writer", BigInteger, nullable=False, autoincrement=False),
    Column("seq", BigInteger, nullable=False, autoincrement=False),
    Column("received_us", BigInteger, nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("peer", LargeBinary(18).with_variant(mysql.VARBINARY(18), "mysql", "mariadb"), nullable=False),
    # the datagram; a collector's row as JSON
    Column(
        "raw",
        LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb"),
        nullable=False,
    ),
    PrimaryKeyConstraint("writer", "seq"),
    mysql_engine="InnoDB",
    sqlite_with_rowid=False,
)

collector_position = Table(
    "collector_position",
    journal_metadata,
    Column("collector", Name(255), nullable=False),
    Column("table_name", Name(64), nullable=False),
    Column("position", LongText(), nullable=False),  # accounting.collecting.position.Position as JSON
    Column("moved_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("collector", "table_name"),
    mysql_engine="InnoDB",
    sqlite_with_rowid=False,
)
