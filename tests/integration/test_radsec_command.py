"""`tollbook receive` over TCP and TLS as processes: handed sockets, reload, kill -9, and what is wrong in settings."""

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copy

import pytest

from accounting.base.config import load_settings
from accounting.base.errors import SettingsError
from accounting.db.engine import open_database
from accounting.journal import read_after
from tests.support.certificates import CLIENT, SERVER, make_authority, run
from tests.support.load import free_port
from tests.support.radius import SECRET, is_answer, request
from tests.support.service import PATIENCE_S, ROOT, Service

TLS_CLIENT = '[[clients]]\nname = "over-tls"\naddress = "127.0.0.1"\ncertificate = "Proxy-1.Example.net"\n'
ANSWER_BYTES = 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)
    return folder


def start(call: str, secret: bytes = b"radsec") -> bytes:
    return request(secret, (40, 1), (44, call))


class Streams(Service):
    """A service that listens for TCP and TLS too; its certificates are copies in its own folder."""

    def __init__(self, folder: Path, url: str, authority: Path, *, processes: int = 1) -> None:
        super().__init__(folder, url, TLS_CLIENT, processes=processes)
        self.tcp, self.tls = (free_port(socket.SOCK_STREAM) for _ in range(2))
        self.folder = folder
        for name in (f"{SERVER}.pem", f"{SERVER}.key", "ca.pem"):
            copy(authority / name, folder / name)
        more = (
            f'listen_tcp = ["127.0.0.1:{self.tcp}"]\nlisten_tls = ["127.0.0.1:{self.tls}"]\n'
            f'tls_certificate = "{SERVER}.pem"\ntls_key = "{SERVER}.key"\ntls_ca = "ca.pem"\n'
        )
        self.config.write_text(self.config.read_text().replace("[receiver]\n", f"[receiver]\n{more}"))

    @contextmanager
    def over_tcp(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.tcp), PATIENCE_S) as client:
            yield client

    @contextmanager
    def over_tls(self, authority: Path) -> Iterator[ssl.SSLSocket]:
        """Give a connection to the receiver, whose certificate must be good for SERVER by this authority."""
        context = ssl.create_default_context(cafile=authority / "ca.pem")
        context.load_cert_chain(authority / f"{CLIENT}.pem", authority / f"{CLIENT}.key")
        with (
            socket.create_connection(("127.0.0.1", self.tls), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=SERVER) as client,
        ):
            yield client


def ask(client: socket.socket, asked: bytes, secret: bytes) -> bool:
    """Return whether a request over a connection is answered; False if it is closed."""
    try:
        client.sendall(asked)
        return is_answer(client.recv(ANSWER_BYTES), asked, secret)
    except (ConnectionError, ssl.SSLError):
        return False


def journalled(url: str) -> list[bytes]:
    with open_database(url) as database, database.journal_read() as conn:
        return [row.raw for row in read_after(conn, {}, 1_000_000)]


def test_processes_share_the_sockets_and_each_answers_its_connections(
    sqlite_url: str, tmp_path: Path, authority: Path
) -> None:
    service = Streams(tmp_path, sqlite_url, authority, processes=2)
    with service.running("receive"):
        for number in range(10):
            with service.over_tcp() as plain, service.over_tls(authority) as client:
                assert ask(plain, start(f"tcp-{number}", SECRET), SECRET)
                assert ask(client, start(f"tls-{number}"), b"radsec")
    assert len(journalled(sqlite_url)) == 20


def test_what_was_answered_over_connections_outlives_a_killed_receiver(
    sqlite_url: str, tmp_path: Path, authority: Path
) -> None:
    service, answered = Streams(tmp_path, sqlite_url, authority), []
    with service.running("receive"):
        for life in range(3):
            pid = service.pid("receive")
            with service.over_tls(authority) as client:
                asked = [request(b"radsec", (40, 1), (44, f"call-{life}-{n}"), identifier=n) for n in range(250)]
                client.sendall(b"".join(asked))
                answers = b""
                with suppress(ConnectionError, ssl.SSLError):
                    while octets := client.recv(4096):
                        if not answers:
                            os.kill(pid, signal.SIGKILL)
                        answers += octets
                answered += [one for one in asked if any(is_answer(got, one, b"radsec") for got in cut(answers))]
            service.wait_for_another("receive", pid)
    assert answered
    assert not set(answered) - set(journalled(sqlite_url))


def cut(answers: bytes) -> list[bytes]:
    return [answers[at : at + ANSWER_BYTES] for at in range(0, len(answers), ANSWER_BYTES)]


def test_a_reload_takes_new_certificates_and_refuses_bad_ones(sqlite_url: str, tmp_path: Path, authority: Path) -> None:
    other = tmp_path / "other"
    make_authority(other)
    service = Streams(tmp_path, sqlite_url, authority)
    with service.running("receive"), service.over_tls(authority) as before:
        assert ask(before, start("first"), b"radsec")
        (tmp_path / f"{SERVER}.key").write_text("no key")
        service.process.send_signal(signal.SIGHUP)
        service.wait(lambda: f"{SERVER}.key: is not PEM" in service.said(), "the bad key is told")
        protect = f"openssl pkey -in {authority}/{SERVER}.key -aes256 -passout pass:hush -out {SERVER}.key"
        run(tmp_path, protect)
        service.process.send_signal(signal.SIGHUP)
        service.wait(lambda: "has a passphrase; take it away" in service.said(), "the protected key is told")
        with service.over_tls(authority) as client:
            assert ask(client, start("second"), b"radsec")
        for name in (f"{SERVER}.pem", f"{SERVER}.key", "ca.pem"):
            copy(other / name, tmp_path / name)
        service.process.send_signal(signal.SIGHUP)
        service.wait(lambda: "clients loaded again" in service.said(), "they are taken")
        with service.over_tls(other) as client:
            assert ask(client, start("third"), b"radsec")
        assert not ask(before, start("fourth"), b"radsec")  # of an authority that is trusted no more


def test_a_client_that_a_reload_takes_away_is_heard_no_more(sqlite_url: str, tmp_path: Path, authority: Path) -> None:
    service = Streams(tmp_path, sqlite_url, authority)
    with service.running("receive"), service.over_tls(authority) as client, service.over_tcp() as plain:
        assert ask(client, start("first"), b"radsec")
        assert ask(plain, start("second", SECRET), SECRET)
        service.config.write_text(service.config.read_text().partition("[[clients]]")[0])
        service.process.send_signal(signal.SIGHUP)
        service.wait(lambda: "clients loaded again" in service.said(), "it is taken")
        assert not ask(client, start("third"), b"radsec")
        assert not ask(plain, start("fourth", SECRET), SECRET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(start("fifth", SECRET), ("127.0.0.1", service.port))
        sample = 'tollbook_receiver_dropped_total{client="",reason="unknown_client"}'
        service.wait(lambda: service.metric(sample) >= 3, "all three were dropped")
    assert len(journalled(sqlite_url)) == 2


def told(tmp_path: Path, text: str) -> list[str]:
    """Return what is wrong with settings."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_settings(path)
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[receiver]\nlisten = []\n", "listens nowhere; name an address in listen, listen_tcp or listen_tls"),
        (
            '[receiver]\nlisten_tls = ["127.0.0.1:2083"]\ntls_ca = "ca.pem"\n',
            "listen_tls needs tls_certificate and tls_key too",
        ),
        (
            f"{TLS_CLIENT}{TLS_CLIENT.replace('over', 'also').replace('Proxy', 'proxy')}",
            "is also clients[0].certificate",
        ),
        (
            '[[clients]]\nname = "a"\naddress = "192.0.2.1"\ncertificate = "*.example.net"\n',
            "is not a name in a certificate",
        ),
        ('[[clients]]\nname = "a"\naddress = "192.0.2.1"\n', "clients[0].secret: is missing"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in line for line in told(tmp_path, text)), told(tmp_path, text)


def test_a_file_of_tls_that_cannot_be_used_is_one_line_and_exit_1(
    sqlite_url: str, tmp_path: Path, authority: Path
) -> None:
    service = Streams(tmp_path, sqlite_url, authority)
    (tmp_path / "ca.pem").unlink()
    service.config.write_text(
        service.config.read_text().replace(f'[metrics]\nlisten = "127.0.0.1:{service.page}"\n', "")
    )
    command = [sys.executable, "-m", "tollbook", "receive", "--config", str(service.config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "[receiver] tls_ca: " in done.stderr
    assert "ca.pem cannot be read: No such file or directory" in done.stderr
    assert done.stderr.count("\n") == 1
