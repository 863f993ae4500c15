"""A Kamailio that accounts as docs/howto/kamailio.md shows, and knows where the tests' numbers are."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copy

from sqlalchemy import URL, create_engine

from tests.support.daemon import program, running
from tests.support.howto import block
from tests.support.sipp import SCENARIOS

PACKAGES = "kamailio kamailio-radius-modules kamailio-mysql-modules"
STOCK_TABLES = Path("/usr/share/kamailio/mysql")
ZONE = "Asia/Kolkata"  # of the proxy: nobody else's here
PROBE = (
    "OPTIONS sip:probe@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKprobe\r\n"
    "From: <sip:probe@{host}>;tag=p\r\n"
    "To: <sip:probe@{host}>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


@contextmanager
def kamailio(
    folder: Path,
    at: tuple[str, int],
    accounting: tuple[str, int],
    places: Mapping[str, str],
    database: URL,
    *,
    modules: str = "",
    media: str = "",
) -> Iterator[None]:
    """Run one at an address; it reports to a RADIUS server and a database.

    `places` tells by number what the script does with a call, `media` what it does with every message that has or may
    end a session; `modules` are loaded beside those of the page.
    """
    folder.mkdir()
    changes = {
        "192.0.2.20:1813": f"{accounting[0]}:{accounting[1]}",
        "192.0.2.20  testing123": f"{accounting[0]}  testing123",
        "/etc/kamailio/radius": f"{folder}/radius",
        "mysql://kamailio:secret@192.0.2.30/kamailio": database.render_as_string(hide_password=False),
        "bindaddr        *": f"bindaddr        {at[0]}",
    }
    for name, words in (
        ("radiusclient.conf", "acctserver"),
        ("radius-servers", "192.0.2.20  testing123"),
        ("radius-dictionary", "$INCLUDE /etc/radcli"),
        ("accounting-modules.cfg", 'loadmodule "acc_radius.so"'),
        ("accounting-sql.cfg", 'loadmodule "db_mysql.so"'),
        ("accounting-cdrs.cfg", 'loadmodule "dialog.so"'),
        ("accounting-requests.cfg", "setflag(1)"),
        ("accounting-dialogs.cfg", "dlg_manage()"),
        ("accounting-places.cfg", "$dlg_var(sent) = $ru"),
    ):
        (folder / name).write_text(block("kamailio", words, changes))
    (folder / "addresses.cfg").write_text(
        f"listen=udp:{at[0]}:{at[1]}\n{modules}route[MEDIA] {{\n{media}    return;\n}}\n{_places(places)}"
    )
    copy(SCENARIOS / "kamailio.cfg", folder)
    command = [
        "env", f"TZ={ZONE}", program("kamailio", PACKAGES), "-DD", "-E", "-f", "kamailio.cfg",
        "-Y", str(folder), "-w", str(folder), "-m", "32", "-M", "4",
    ]  # fmt: skip
    with running(command, folder / "log", lambda: _answers(at), cwd=folder):
        yield


def make_tables(database: URL) -> None:
    """Make Kamailio's own tables in an empty database, with the columns that the page adds."""
    scripts = [STOCK_TABLES / "standard-create.sql", STOCK_TABLES / "acc-create.sql"]
    statements = "".join(script.read_text() for script in scripts)
    statements += block("kamailio", "ALTER TABLE acc\n", {}) + block("kamailio", "ALTER TABLE acc_cdrs", {})
    engine = create_engine(database.set(drivername="mysql+mysqldb"))
    with engine.begin() as conn:
        for statement in statements.split(";"):
            if statement.strip():
                conn.exec_driver_sql(statement, execution_options={"no_parameters": True})
    engine.dispose()


def _places(places: Mapping[str, str]) -> str:
    cases = "".join(
        f'        case "{number}":\n            {what}\n            break;\n' for number, what in places.items()
    )
    return (
        f"route[PLACES] {{\n    switch ($rU) {{\n{cases}"
        '        default:\n            t_reply("404", "Not Found");\n            exit;\n    }\n}\n'
    )


def to(*addresses: tuple[str, int], forked: bool = False) -> str:
    """Return the script's words that send a call to a called party; to a second one when the first refuses, or too."""
    uris = [f'"sip:" + $rU + "@{host}:{port}"' for host, port in addresses]
    words = f"$ru = {uris[0]};"
    if len(uris) == 2:
        words = (f"append_branch({uris[1]}); " if forked else f"$avp(second) = {uris[1]}; ") + words
    return words


def _answers(at: tuple[str, int]) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((at[0], 0))
        sock.settimeout(0.2)
        own = f"{at[0]}:{sock.getsockname()[1]}"
        try:
            sock.sendto(PROBE.format(host=at[0], own=own).encode(), at)
            return sock.recv(4096).startswith(b"SIP/2.0 200")
        except (TimeoutError, ConnectionRefusedError):
            return False
