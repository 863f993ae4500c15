"""A real FreeRADIUS, configured as docs/howto/freeradius.md shows, writes radacct and passes packets on.

radclient reports to it. What the packets and what the table tell is one CDR, and the one of what radclient said.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy

import pytest
from sqlalchemy import URL, create_engine, make_url

from accounting.base.clock import from_us, iso_ms, now_us
from tests.support.daemon import listens, program, running
from tests.support.howto import block
from tests.support.load import free_port
from tests.support.mariadb import Server
from tests.support.operator import Operator

PACKAGES = "freeradius freeradius-mysql"
DATA = Path(__file__).parents[1] / "data/freeradius/radiusd.conf"
STOCK = Path("/etc/freeradius/3.0")
TABLES = "mods-config/sql/main/mysql"
HERE = "127.0.3.1"
CALLED = "+4930123456789"
LASTED_S = 83


class Made:
    """What was reported, to whom."""

    def __init__(self, passed_on: Operator, database: URL, began_s: int) -> None:
        self.passed_on = passed_on
        self.database = database
        self.began_s = began_s


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, mariadb_server: Server) -> Made:
    """Report one session, from its beginning to its end."""
    folder = tmp_path_factory.mktemp("freeradius")
    database = make_url(mariadb_server.create())
    _make_tables(database)
    operator = Operator(folder / "passed_on", sqlite_template, block("freeradius", "[[clients]]", {"192.0.2.30": HERE}))
    began_s = now_us() // 1_000_000 - 600
    session = (
        f'Acct-Session-Id = "s-1", NAS-Identifier = "gateway", User-Name = "alice", NAS-IP-Address = {HERE}, '
        f'Calling-Station-Id = "+4930111", Called-Station-Id = "{CALLED}"'
    )
    with operator.receiving(), _freeradius(folder / "server", operator.address, database) as address:
        _report(address, f'Acct-Status-Type = Accounting-On, NAS-Identifier = "check", Event-Timestamp = {began_s}')
        _report(address, f"Acct-Status-Type = Start, {session}, Event-Timestamp = {began_s}")
        _report(
            address,
            f"Acct-Status-Type = Interim-Update, {session}, Event-Timestamp = {began_s + 60}, Acct-Session-Time = 60",
        )
        _report(
            address,
            f"Acct-Status-Type = Stop, {session}, Event-Timestamp = {began_s + LASTED_S}, "
            f"Acct-Session-Time = {LASTED_S}, Acct-Terminate-Cause = User-Request",
        )
    return Made(operator, database, began_s)


def test_what_it_passes_on_becomes_the_cdr(made: Made) -> None:
    made.passed_on.sell(to={"acme": ("--user", "alice")}, buy_of=("--ip", "192.0.2.99"))
    [row] = made.passed_on.cdrs()
    _check(row, made, source="gateway-1")


def test_its_table_becomes_the_cdr(made: Made, sqlite_template: Path) -> None:
    operator = Operator(made.passed_on.folder.parent / "radacct", sqlite_template, _collector(made.database))
    operator.sell(to={"acme": ("--user", "alice")}, buy_of=("--ip", "192.0.2.99"))
    operator.run("collect", "--once")
    [row] = operator.cdrs()
    _check(row, made, source="radacct")


def test_both_are_one_cdr(made: Made) -> None:
    before = made.passed_on.cdrs()
    settings = made.passed_on.folder / "tollbook.toml"
    settings.write_text(settings.read_text() + _collector(made.database))
    made.passed_on.run("collect", "--once")
    assert made.passed_on.cdrs() == before


def _check(row: dict[str, str], made: Made, source: str) -> None:
    wanted = {
        "source": source,
        "account": "acme",
        "called_number": CALLED,
        "answered_at": iso_ms(from_us(made.began_s * 1_000_000)),
        "ended_at": iso_ms(from_us((made.began_s + LASTED_S) * 1_000_000)),
        "duration_ms": str(LASTED_S * 1_000),
        "disposition": "answered",
        "price": "0.0830",
        "exception": "",
    }
    assert {key: row[key] for key in wanted} == wanted


def _collector(database: URL) -> str:
    url = database.render_as_string(hide_password=False)
    return block(
        "freeradius", "[[collectors]]", {"mysql://tollbook:secret@192.0.2.40/radius": url, "Europe/Berlin": "UTC"}
    )


@contextmanager
def _freeradius(folder: Path, tollbook: tuple[str, int], database: URL) -> Iterator[tuple[str, int]]:
    folder.mkdir()
    address = (HERE, free_port())
    changes = {
        "    ipaddr = 192.0.2.20\n    port = 1813\n": f"    ipaddr = {tollbook[0]}\n    port = {tollbook[1]}\n"
        f"    src_ipaddr = {HERE}\n",
        "192.0.2.40": database.host or "",
        "3306": str(database.port),
        '"radius"\n    password = "secret"\n    radius_db = "radius"': f'"root"\n    password = ""\n'
        f'    radius_db = "{database.database}"',
    }
    (folder / "proxy.conf").write_text(block("freeradius", "home_server tollbook {", changes))
    (folder / "preacct.conf").write_text(block("freeradius", "preacct {", changes))
    (folder / "sql.conf").write_text(block("freeradius", "rlm_sql_mysql", changes))
    (folder / "places.conf").write_text(
        f"prefix = /usr\nraddbdir = {folder}\nown_address = {address[0]}\nown_port = {address[1]}\n"
    )
    queries = folder / "sql/main/mysql"
    queries.mkdir(parents=True)
    (queries / "queries.conf").write_text(_stock(f"{TABLES}/queries.conf"))
    (folder / "policy.conf").write_text(_stock("policy.d/accounting"))
    copy(DATA, folder)
    command = [
        "env", "TZ=UTC", program("freeradius", PACKAGES), "-f", "-l", "stdout", "-n", "radiusd", "-d", str(folder),
    ]  # fmt: skip
    with running(command, folder / "log", lambda: listens(address), cwd=folder):
        yield address


def _make_tables(database: URL) -> None:
    engine = create_engine(database.set(drivername="mysql+mysqldb"))
    lines = [line for line in _stock(f"{TABLES}/schema.sql").splitlines() if not line.startswith("#")]
    with engine.begin() as conn:
        for statement in "\n".join(lines).split(";"):
            if statement.strip():
                conn.exec_driver_sql(statement, execution_options={"no_parameters": True})
    engine.dispose()


def _stock(name: str) -> str:
    """Return a file of the package, which only root and the group freerad may read."""
    program("freeradius", PACKAGES)
    command = ["cat", str(STOCK / name)] if os.geteuid() == 0 else ["sudo", "-n", "cat", str(STOCK / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{STOCK / name} cannot be read ({done.stderr}); run the tests as root, or with sudo"
    return done.stdout


def _report(address: tuple[str, int], attributes: str) -> None:
    command = [
        program("radclient", "freeradius-utils"),
        "-r",
        "3",
        "-t",
        "3",
        f"{address[0]}:{address[1]}",
        "acct",
        "testing123",
    ]
    done = subprocess.run(command, input=attributes, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
