"""Create the tables."""

import sqlalchemy as sa
from alembic import op

from accounting.db.types import BigId, Bytes, LongText, Name

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "collector_position",
        sa.Column("collector", Name(255), nullable=False),
        sa.Column("table_name", Name(64), nullable=False),
        sa.Column("position", LongText(), nullable=False),
        sa.Column("moved_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("collector", "table_name", name=op.f("pk_collector_position")),
        mysql_engine="InnoDB",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "journal",
        sa.Column("writer", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "peer",
            sa.LargeBinary(length=18)
            .with_variant(sa.VARBINARY(length=18), "mariadb")
            .with_variant(sa.VARBINARY(length=18), "mysql"),
            nullable=False,
        ),
        sa.Column("raw", Bytes(), nullable=False),
        sa.PrimaryKeyConstraint("writer", "seq", name=op.f("pk_journal")),
        mysql_engine="InnoDB",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "source",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("name", Name(255), nullable=False),
        sa.Column("digest", Name(64), nullable=False),
        sa.Column("settings", LongText(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("digest", name=op.f("uq_source_digest")),
        mysql_engine="InnoDB",
        sqlite_autoincrement=True,
    )
    op.create_table(
        "writer",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("kind", Name(16), nullable=False),
        sa.Column("name", Name(255), nullable=False),
        sa.Column("host", Name(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_writer")),
        mysql_engine="InnoDB",
        sqlite_autoincrement=True,
    )
