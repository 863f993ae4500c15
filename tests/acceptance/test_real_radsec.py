"""Real RADIUS servers as clients over TLS: FreeRADIUS, configured as docs/howto/radsec.md shows, and radsecproxy.

The latter shows why that page warns of it. With radclient over TCP.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy
from socket import SOCK_STREAM

import pytest

from tests.support.certificates import CLIENT, SERVER, make_authority
from tests.support.daemon import listens, program, running, wait_until
from tests.support.howto import block
from tests.support.load import free_port
from tests.support.operator import Operator

DATA = Path(__file__).parents[1] / "data/freeradius/keeping.conf"
RELAY = "127.0.7.9"
WITH_NAME = 'Acct-Status-Type = Start\nAcct-Session-Id = "named"\nUser-Name = "alice"\n'
WITHOUT = 'Acct-Status-Type = Start\nAcct-Session-Id = "nameless"\n'


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    folder = tmp_path / "certificates"
    make_authority(folder)
    return folder


@pytest.fixture
def operator(tmp_path: Path, sqlite_template: Path, certificates: Path) -> Operator:
    """Give a Tollbook with the settings that the page shows; `tls` is its port."""
    shown = block(
        "radsec",
        "[[clients]]",
        {
            "/etc/tollbook": str(certificates),
            "192.0.2.10": RELAY,
            "0.0.0.0:2083": f"127.0.0.1:{free_port(SOCK_STREAM)}",
        },
    )
    more = re.sub(r"^(\[receiver\]|listen = .*)\n", "", shown, flags=re.MULTILINE)
    tcp = f'listen_tcp = ["127.0.0.1:{free_port(SOCK_STREAM)}"]\n'
    plain = '[[clients]]\nname = "plain"\naddress = "127.0.0.1"\nsecret = "testing123"\n'
    return Operator(tmp_path / "tollbook", sqlite_template, tcp + more + plain)


def port_of(operator: Operator, setting: str) -> int:
    found = re.search(rf'{setting} = \["127\.0\.0\.1:(\d+)"\]', (operator.folder / "tollbook.toml").read_text())
    assert found
    return int(found[1])


def send(at: tuple[str, int], attributes: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Send a request by the real radclient; its exit status is 0 if there was an answer."""
    command = [program("radclient", "freeradius-utils"), "-t", "10", *options, f"{at[0]}:{at[1]}", "acct", "testing123"]
    return subprocess.run(command, input=attributes, capture_output=True, text=True, check=False)


def test_freeradius_as_the_page_configures_it_sends_over_tls(
    tmp_path: Path, operator: Operator, certificates: Path
) -> None:
    at = (RELAY, free_port())
    with operator.receiving(), freeradius(tmp_path / "relay", at, port_of(operator, "listen_tls"), certificates):
        for attributes in (WITH_NAME, WITHOUT):
            sent = send(at, attributes)
            assert sent.returncode == 0, sent.stdout + sent.stderr
    assert operator.stored("named") == 1
    assert operator.stored("nameless") == 1
    assert "proxy-1" in operator.run("trace")


def test_freeradius_answers_nobody_while_tollbook_refuses_its_certificate(
    tmp_path: Path, operator: Operator, certificates: Path
) -> None:
    other = tmp_path / "other"
    make_authority(other)
    for name in (f"{CLIENT}.pem", f"{CLIENT}.key"):
        copy(other / name, certificates / name)
    at = (RELAY, free_port())
    with operator.receiving(), freeradius(tmp_path / "relay", at, port_of(operator, "listen_tls"), certificates):
        assert send(at, WITHOUT, "-r", "1").returncode != 0
        log = operator.folder / "receive.log"
        wait_until(lambda: "reason=handshake" in log.read_text(), "the reason is told")
        assert RELAY in log.read_text()
    assert operator.stored() == 0


def test_radsecproxy_answers_what_has_no_user_name_itself_as_the_page_warns(
    tmp_path: Path, operator: Operator, certificates: Path
) -> None:
    at = ("127.0.0.1", free_port())
    config = tmp_path / "radsecproxy.conf"
    config.write_text(
        f"ListenUDP {at[0]}:{at[1]}\nSourceTLS {RELAY}\n"
        f"tls default {{\nCACertificateFile {certificates}/ca.pem\nCertificateFile {certificates}/{CLIENT}.pem\n"
        f"CertificateKeyFile {certificates}/{CLIENT}.key\n}}\n"
        "client 127.0.0.1 {\ntype udp\nsecret testing123\n}\n"
        f"server {SERVER} {{\nhost 127.0.0.1\nport {port_of(operator, 'listen_tls')}\ntype tls\nsecret radsec\n"
        "certificateNameCheck off\n}\n"
        f"realm * {{\nserver {SERVER}\naccountingServer {SERVER}\n}}\n"
    )
    command = [program("radsecproxy", "radsecproxy"), "-f", "-d", "2", "-c", str(config)]
    log = tmp_path / "radsecproxy.log"
    with operator.receiving(), running(command, log, lambda: listens(at)):
        wait_until(lambda: f"subject CN={SERVER} up" in log.read_text(), "it has its connection")
        assert send(at, WITHOUT).returncode == 0
        assert send(at, WITH_NAME).returncode == 0
    assert operator.stored("named") >= 1
    assert operator.stored("nameless") == 0


def test_radclient_sends_over_tcp(operator: Operator) -> None:
    with operator.receiving():
        sent = send(("127.0.0.1", port_of(operator, "listen_tcp")), WITHOUT, "-P", "tcp")
        assert sent.returncode == 0, sent.stdout + sent.stderr
    assert operator.stored("nameless") == 1


@contextmanager
def freeradius(folder: Path, at: tuple[str, int], port: int, certificates: Path) -> Iterator[None]:
    """Run a FreeRADIUS that listens at `at` and passes all on to a port for TLS of this machine."""
    folder.mkdir()
    home = f"    ipaddr = 127.0.0.1\n    port = {port}\n    src_ipaddr = {at[0]}\n"
    changes = {"    ipaddr = 192.0.2.20\n    port = 2083\n": home, "/etc/freeradius/3.0/certs": str(certificates)}
    over_tls = block("radsec", "home_server tollbook {", changes)
    over_udp = block("freeradius", "home_server tollbook {", {})
    pool = over_udp[over_udp.index("home_server_pool") :]
    (folder / "proxy.conf").write_text(over_tls + pool)
    for name in ("kept-module.conf", "kept-server.conf"):
        (folder / name).write_text("")
    (folder / "places.conf").write_text(
        f"prefix = /usr\nraddbdir = {folder}\nown_address = {at[0]}\nown_port = {at[1]}\n"
    )
    (folder / "dictionary").write_text("")
    copy(DATA, folder / "radiusd.conf")
    command = [program("freeradius", "freeradius"), "-f", "-l", "stdout", "-n", "radiusd", "-d", str(folder)]
    with running(command, folder / "log", lambda: listens(at), cwd=folder):
        yield
