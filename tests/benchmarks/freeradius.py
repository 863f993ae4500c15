"""FreeRADIUS as a peer of the receiver's benchmark: as Debian brings it, with the least it can do, and to a file."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, make_url

from tests.support.daemon import listens, program, running
from tests.support.load import free_port
from tests.support.radload import SECRET

PACKAGES = "freeradius freeradius-mysql"
STOCK = Path("/etc/freeradius/3.0")
TABLES = STOCK / "mods-config/sql/main/mysql"
KINDS = ("stock", "lean", "detail")
"""stock: rlm_sql with its own schema and queries; lean: rlm_sql, one INSERT into a narrow table; detail: its file."""

# Threads and connections as Debian's radiusd.conf and mods-available/sql have them.
_SERVER = """
prefix = /usr
name = freeradius
logdir = {folder}
run_dir = {folder}
confdir = {folder}
raddbdir = {folder}
modconfdir = {folder}
libdir = /usr/lib/freeradius
pidfile = {folder}/pid
max_request_time = 30
cleanup_delay = 5
max_requests = 16384
log {{
    destination = stdout
}}
security {{
    max_attributes = 200
    status_server = yes
}}
proxy_requests = no
client load {{
    ipaddr = 127.0.0.0/8
    secret = {secret}
}}
thread pool {{
    start_servers = 5
    max_servers = 32
    min_spare_servers = 3
    max_spare_servers = 10
    max_requests_per_server = 0
    auto_limit_acct = no
}}
modules {{
{modules}
}}
policy {{
    $INCLUDE {stock}/policy.d/accounting
}}
server accounting {{
    listen {{
        type = acct
        ipaddr = 127.0.0.1
        port = {port}
        recv_buff = 4194304
    }}
    preacct {{
        acct_unique
    }}
    accounting {{
        {use}
    }}
}}
"""
_SQL = """
    expr {{
    }}
    always ok {{
        rcode = ok
    }}
    sql {{
        dialect = "mysql"
        driver = "rlm_sql_mysql"
        server = "{host}"
        port = {port}
        login = "{user}"
        password = "{password}"
        radius_db = "{database}"
        acct_table1 = "radacct"
        acct_table2 = "radacct"
        postauth_table = "radpostauth"
        authcheck_table = "radcheck"
        authreply_table = "radreply"
        groupcheck_table = "radgroupcheck"
        groupreply_table = "radgroupreply"
        usergroup_table = "radusergroup"
        client_table = "nas"
        group_attribute = "SQL-Group"
        delete_stale_sessions = yes
        pool {{
            start = 5
            min = 3
            max = 32
            spare = 10
            uses = 0
            lifetime = 0
            idle_timeout = 60
        }}
        {queries}
    }}
"""
_LEAN = r"""
        sql_user_name = "%{User-Name}"
        accounting {
            reference = "one.query"
            one {
                query = "\
                    INSERT INTO lean (at, kind, session, from_tag, caller, called, user) VALUES \
                    (%{integer:Event-Timestamp}, %{integer:Acct-Status-Type}, '%{Acct-Session-Id}', '%{Attr-105}', \
                    '%{Calling-Station-Id}', '%{Called-Station-Id}', '%{User-Name}')"
            }
        }
"""
_DETAIL = """
    expr {{
    }}
    detail detail {{
        filename = {folder}/detail
        escape_filenames = no
        permissions = 0600
        locking = no
    }}
"""
_LEAN_TABLE = (
    "CREATE TABLE lean (id BIGINT AUTO_INCREMENT PRIMARY KEY, at BIGINT, kind INT, session VARCHAR(255), "
    "from_tag VARCHAR(255), caller VARCHAR(255), called VARCHAR(255), user VARCHAR(255)) ENGINE=InnoDB"
)


@contextmanager
def freeradius(kind: str, folder: Path, database: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run one of KINDS against an empty database; give its process and port."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    url = make_url(database)
    port = free_port()
    if kind == "detail":
        modules = _DETAIL.format(folder=folder)
    else:
        _make_tables(url, kind)
        modules = _SQL.format(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password or "",
            database=url.database,
            queries=f"$INCLUDE {TABLES}/queries.conf" if kind == "stock" else _LEAN,
        )
    settings = _SERVER.format(
        folder=folder,
        secret=SECRET,
        modules=modules,
        stock=STOCK,
        port=port,
        use="detail" if kind == "detail" else "sql",
    )
    (folder / "radiusd.conf").write_text(settings)
    command = [program("freeradius", PACKAGES), "-f", "-l", "stdout", "-n", "radiusd", "-d", str(folder)]
    address = ("127.0.0.1", port)
    with running(["env", "TZ=UTC", *command], folder / "log", lambda: listens(address), cwd=folder) as process:
        yield process, port


def stored(kind: str, folder: Path, database: str) -> int:
    """Return how many requests it has kept."""
    if kind == "detail":
        with (folder / "detail").open("rb") as file:
            return sum(line.startswith(b"\tAcct-Session-Id") for line in file)
    return _scalar(database, "SELECT count(*) FROM lean" if kind == "lean" else _STOCK_COUNT)


_STOCK_COUNT = "SELECT count(*) + count(acctstoptime) FROM radacct"


def _scalar(database: str, statement: str) -> int:
    engine = _engine(make_url(database))
    with engine.connect() as conn:
        number = conn.exec_driver_sql(statement).scalar_one()
    engine.dispose()
    return int(number)


def _make_tables(url: URL, kind: str) -> None:
    if kind == "lean":
        statements = [_LEAN_TABLE]
    else:
        lines = (TABLES / "schema.sql").read_text().splitlines()
        statements = "\n".join(line for line in lines if not line.startswith("#")).split(";")
    engine = _engine(url)
    with engine.begin() as conn:
        for statement in statements:
            if statement.strip():
                conn.exec_driver_sql(statement, execution_options={"no_parameters": True})
    engine.dispose()


def _engine(url: URL) -> Engine:
    return create_engine(url.set(drivername="mysql+mysqldb"))
