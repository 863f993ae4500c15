"""Database URLs as operators write them, turned into the ones SQLAlchemy takes."""

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from accounting.base.errors import TollbookError

FORMS = "write sqlite:///FILE or mysql://USER@HOST/DATABASE"
SERVER_SCHEMES = frozenset({"mysql", "mariadb", "mysql+mysqldb", "mariadb+mysqldb"})
OPTIONS = (
    "unix_socket", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_cipher", "ssl_key", "ssl_mode",
    "read_default_file", "read_default_group", "charset",
)  # fmt: skip
"""What may stand behind a ? in a server's URL; others would change how Tollbook speaks with it."""


def parse_url(text: str) -> URL:
    """Return the URL for SQLAlchemy; what Tollbook cannot use is refused without telling a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise TollbookError(f"the database URL cannot be read; {FORMS}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(url)
    if url.drivername in SERVER_SCHEMES:
        return _server(url)
    raise TollbookError(f"the database URL begins with {url.drivername}://; {FORMS}")


def shown(url: URL) -> str:
    """Return a URL as people may see it: no driver, no password, no options."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    user = f"{url.username}@" if url.username else ""
    port = f":{url.port}" if url.port else ""
    return f"mysql://{user}{url.host or 'localhost'}{port}/{url.database}"


def journal_path(main: Path) -> Path:
    """Return the file of the journal that belongs to a main SQLite file."""
    return main.with_name(f"{main.stem}-journal.db")


def _sqlite(url: URL) -> URL:
    if not url.database or url.database == ":memory:" or url.query or url.host:
        raise TollbookError(
            "SQLite needs a file and no options: sqlite:///tollbook.db or sqlite:////var/lib/tollbook.db"
        )
    return URL.create("sqlite", database=str(Path(url.database).absolute()))


def _server(url: URL) -> URL:
    if not url.database:
        raise TollbookError("the database URL names no database; write mysql://USER@HOST/DATABASE")
    if "@" in (url.host or "") or "@" in url.database:  # the rest of a password, which must not be shown
        raise TollbookError("the database URL cannot be read; write an @ of the password as %40")
    if unknown := sorted(name for name in url.query if name not in OPTIONS):
        raise TollbookError(f"the database URL has the unknown option {unknown[0]!r}; known are {', '.join(OPTIONS)}")
    return url.set(drivername="mysql+mysqldb").update_query_dict({"charset": "utf8mb4"})
