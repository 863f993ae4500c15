"""Status-Server, Message-Authenticator and two secrets, on real sockets."""

import hmac
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from accounting.db.engine import open_database
from tests.support.radius import SECRET, is_answer, request
from tests.support.receiving import Rig, change_clients, count, has_answer, receiving

START = request(SECRET, (40, 1), (44, "call-1"))


@pytest.fixture
def rig(sqlite_url: str) -> Iterator[Rig]:
    with open_database(sqlite_url) as database, receiving(database) as made:
        yield made


def status_server(identifier: int = 7, secret: bytes = SECRET) -> bytes:
    """Return a Status-Server as RFC 5997 section 3 makes it: a random authenticator, and a Message-Authenticator."""
    head = bytes((12, identifier)) + (38).to_bytes(2) + bytes(range(16)) + b"\x50\x12"
    return head + hmac.new(secret, head + bytes(16), "md5").digest()


def test_a_status_server_is_answered_and_not_stored(rig: Rig) -> None:
    client = rig.client()
    asked = status_server()
    assert is_answer(rig.ask(client, asked), asked, SECRET)
    assert rig.raw() == []


@pytest.mark.parametrize("datagram", [status_server(secret=b"wrong"), request(SECRET, (1, "a"), code=12)])
def test_a_status_server_that_is_not_verified_is_dropped_and_counted(rig: Rig, datagram: bytes) -> None:
    client = rig.client()
    before = count("dropped", reason="bad_message_authenticator", client="proxy-1")
    client.send(datagram)
    rig.until(lambda: count("dropped", reason="bad_message_authenticator", client="proxy-1") > before, "it was counted")
    assert not has_answer(client)


def test_a_status_server_is_not_answered_while_nothing_can_be_stored(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounting.db.append.LOCK_WAIT_S", 0.01)
    with open_database(sqlite_url) as database, receiving(database) as rig:
        client = rig.client()
        with database.journal_write():
            rig.take(client, START)
            failures = count("commit_failures")
            rig.until(lambda: count("commit_failures") > failures, "the commit failed")
            other = rig.client()
            answered = count("status_server")
            other.send(status_server())
            rig.receiver.step(0.2)
            rig.receiver.step(0.2)
            assert not has_answer(other)
        rig.answer(client)
        rig.receiver.step(0)
        assert is_answer(rig.ask(other, status_server()), status_server(), SECRET)
        assert count("status_server") == answered + 1


def test_a_message_authenticator_can_be_demanded(rig: Rig) -> None:
    change_clients(rig, must_authenticate=True)
    client = rig.client()
    before = count("dropped", reason="bad_message_authenticator", client="proxy-1")
    client.send(START)
    rig.until(lambda: count("dropped", reason="bad_message_authenticator", client="proxy-1") > before, "it was counted")
    assert rig.raw() == []


def test_either_of_two_secrets_is_good_and_signs_the_answer(rig: Rig) -> None:
    change_clients(rig, secret_next=b"the next one")
    client = rig.client()
    old = count("old_secret", client="proxy-1")
    for secret in (SECRET, b"the next one"):
        asked = request(secret, (40, 1), (44, secret))
        assert is_answer(rig.ask(client, asked), asked, secret)
    assert count("old_secret", client="proxy-1") == old + 1
    before = count("dropped", reason="bad_authenticator", client="proxy-1")
    client.send(request(b"neither", (40, 1)))
    rig.until(lambda: count("dropped", reason="bad_authenticator", client="proxy-1") > before, "it was counted")
    assert len(rig.raw()) == 2


def test_radclient_gets_its_status(rig: Rig) -> None:
    program = shutil.which("radclient")
    assert program, "radclient is not installed; run: apt-get install freeradius-utils"
    host, port = rig.addresses[0]
    command = [program, "-x", "-t", "20", f"{host}:{port}", "status", SECRET.decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("Message-Authenticator = 0x00\n")
        process.stdin.close()
        rig.until(lambda: process.poll() is not None, "radclient ended")
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert "Received Accounting-Response" in said or "Received Access-Accept" in said
