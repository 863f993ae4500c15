"""What both histories' env.py do: run on the caller's connection, or on the configured database for a developer."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, MetaData, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import BigInteger, LargeBinary

from accounting.base.config import load_settings
from accounting.db.engine import open_database
from accounting.db.types import Instant

TYPES_IMPORT = "from accounting.db.types import BigId, Bytes, Instant, LongText, Name"


def run(history: str, metadata: MetaData, version_table: str) -> None:
    """Run one history's migrations, or compare it, as the alembic command that loaded us asks."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is not None:
        _run_on(connection, metadata, version_table)
        return
    url = context.get_x_argument(as_dictionary=True).get("url") or load_settings(None).database.url
    with (
        open_database(str(url), check_schema=False) as database,
        database.journal_write() if history == "journal" else database.write() as conn,
    ):
        _run_on(conn, metadata, version_table)


def _run_on(connection: Connection, metadata: MetaData, version_table: str) -> None:
    def ours(name: str | None, kind: str, _parents: Any) -> bool:
        return kind != "table" or name in metadata.tables  # on MariaDB both histories share a database

    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=version_table,
        include_name=ours,
        render_item=_render_item,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _render_item(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Write Tollbook's own types by their names into new migrations."""
    if kind != "type":
        return False
    on_mysql = getattr(item, "_variant_mapping", {}).get("mysql")
    text = ""
    if isinstance(item, Instant):
        text = "Instant()"
    elif isinstance(item, BigInteger) and "sqlite" in getattr(item, "_variant_mapping", {}):
        text = "BigId"
    elif isinstance(item, Text) and isinstance(on_mysql, mysql.MEDIUMTEXT):
        text = "LongText()"
    elif isinstance(item, String) and isinstance(on_mysql, mysql.VARCHAR):
        text = f"Name({item.length})"
    elif isinstance(item, LargeBinary) and isinstance(on_mysql, mysql.MEDIUMBLOB):
        text = "Bytes()"
    if not text:
        return False
    autogen.imports.add(TYPES_IMPORT)
    return text
