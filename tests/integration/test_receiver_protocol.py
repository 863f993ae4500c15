"""Status-Server, Message-Authenticator and two secrets, on real sockets."""

import hmac
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from accounting.db.engine import open_database
from accounting.radius.clients import Client, ClientTable, network_of
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


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (status_server(secret=b"wrong"), "bad_message_authenticator"),
        (request(SECRET, (1, "a"), code=12), "no_message_authenticator"),
    ],
)
def test_a_status_server_that_is_not_verified_is_dropped_and_counted(rig: Rig, datagram: bytes, reason: str) -> None:
    client = rig.client()
    before = count("dropped", reason=reason, client="proxy-1")
    client.send(datagram)
    rig.until(lambda: count("dropped", reason=reason, client="proxy-1") > before, "it was counted")
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
            rig.receiver.step(0)  # sees that it did
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
    before = count("dropped", reason="no_message_authenticator", client="proxy-1")
    client.send(START)
    rig.until(lambda: count("dropped", reason="no_message_authenticator", client="proxy-1") > before, "it was counted")
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


TWO = (("proxy-1", "127.0.0.1/32", SECRET), ("proxy-2", "127.0.0.2/32", SECRET))


def test_one_of_several_clients_may_fill_half_of_what_may_wait(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database, receiving(database, TWO, pending_max=4) as rig:
        flooding, other = rig.client(), rig.client(source="127.0.0.2")
        before = count("dropped", reason="overload", client="proxy-1")
        with database.journal_write():
            for number in range(5):
                rig.take(flooding, request(SECRET, (40, 1), (44, f"call-{number}"), identifier=number))
            rig.take(other, START)
            assert rig.receiver.pending == 3
        assert is_answer(rig.answer(other), START, SECRET)
        rig.until(lambda: count("dropped", reason="overload", client="proxy-1") == before + 3, "all are counted")
        assert [rig.answer(flooding)[1] for _ in range(2)] == [0, 1]
        assert rig.ask(flooding, request(SECRET, (40, 1), (44, "call-4"), identifier=4))[1] == 4


def test_a_client_may_be_given_a_rate_and_the_others_are_not_bound_by_it(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database, receiving(database, TWO) as rig:
        limited = Client("proxy-1", network_of("127.0.0.1/32"), SECRET, rig.sources["proxy-1"], requests_per_s_max=2)
        free = Client("proxy-2", network_of("127.0.0.2/32"), SECRET, rig.sources["proxy-2"])
        rig.receiver.replace_clients(ClientTable([limited, free]))
        flooding, other = rig.client(), rig.client(source="127.0.0.2")
        before = count("dropped", reason="rate_limit", client="proxy-1")
        asked = [request(SECRET, (40, 1), (44, f"call-{number}"), identifier=number) for number in range(100)]
        for one in asked:
            rig.take(flooding, one)
            assert is_answer(rig.ask(other, one), one, SECRET)
        rig.until(lambda: count("dropped", reason="rate_limit", client="proxy-1") > before, "some were dropped")
        while has_answer(flooding):
            flooding.recv(4096)
        assert is_answer(rig.ask(flooding, asked[0]), asked[0], SECRET)  # a repeat is not bound
        rig.until(lambda: is_taken(rig, flooding, asked[99]), "its time comes again")


def is_taken(rig: Rig, client: socket.socket, asked: bytes) -> bool:
    """Send a request and return whether it has an answer soon."""
    client.send(asked)
    rig.receiver.step(0.1)
    rig.receiver.step(0.1)
    while has_answer(client):
        if is_answer(client.recv(4096), asked, SECRET):
            return True
    return False
