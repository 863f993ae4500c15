"""RADIUS over TCP and over TLS (RFC 6613, 6614) on real sockets, with certificates that the real openssl made."""

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from accounting.db.engine import open_database
from accounting.radius import stream
from accounting.radius.clients import Client, ClientTable, network_of
from accounting.radius.tls import server_context
from tests.integration.test_receiver_protocol import status_server
from tests.support.certificates import CLIENT, SERVER, make_authority, make_certificate, withdraw
from tests.support.radius import SECRET, is_answer, request
from tests.support.receiving import Rig, change_clients, count, receiving

START = request(SECRET, (40, 1), (44, "call-1"))
ANSWER_BYTES = 20


def requests(number: int) -> list[bytes]:
    return [request(SECRET, (40, 1), (44, f"call-{one}"), identifier=one % 256) for one in range(number)]


@pytest.fixture
def rig(sqlite_url: str) -> Iterator[Rig]:
    with open_database(sqlite_url) as database, receiving(database) as made:
        yield made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder)
    make_certificate(folder, "proxy-2.example.net")
    withdraw(folder)
    other = folder / "other"
    make_authority(other)
    return folder


def context(folder: Path, *, crl: bool = False) -> ssl.SSLContext:
    """Return the receiver's context."""
    return server_context(
        folder / f"{SERVER}.pem", folder / f"{SERVER}.key", folder / "ca.pem", folder / "crl.pem" if crl else None
    )


@pytest.fixture
def over_tls(sqlite_url: str, certificates: Path) -> Iterator[Rig]:
    """Give a receiver of one client, which has a certificate."""
    with open_database(sqlite_url) as database, receiving(database, tls=context(certificates)) as made:
        change_clients(made, certificate=CLIENT)
        yield made


def shake_hands(
    rig: Rig, folder: Path | None, name: str = CLIENT, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLSocket:
    """Return a client's connection; an ssl.SSLError if the handshake fails, or the receiver closes it."""
    mine = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    mine.maximum_version = version
    mine.check_hostname = False
    mine.verify_mode = ssl.CERT_NONE
    if folder is not None:
        mine.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    client = mine.wrap_socket(rig.stream(-1), do_handshake_on_connect=False)
    rig.adopt(client)
    done = []

    def shaken() -> bool:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            return False
        done.append(True)
        return True

    rig.until(shaken, "the handshake is over")
    return client


# --- over TCP


def test_a_request_is_stored_and_answered(rig: Rig) -> None:
    client = rig.stream()
    client.send(START)
    assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)
    [row] = rig.rows()
    assert (row.raw, row.source_id) == (START, rig.sources["proxy-1"])
    assert row.peer[16:] == client.getsockname()[1].to_bytes(2)


def test_many_requests_at_once_are_answered_each_in_their_order(rig: Rig) -> None:
    client, asked = rig.stream(), requests(256)
    client.setblocking(True)
    client.sendall(b"".join(asked))
    client.setblocking(False)
    answers = rig.receive(client, ANSWER_BYTES * 256)
    for number, one in enumerate(asked):
        assert is_answer(answers[number * ANSWER_BYTES :][:ANSWER_BYTES], one, SECRET)
    assert rig.raw() == asked


def test_a_request_may_come_octet_by_octet(rig: Rig) -> None:
    client = rig.stream()
    for number in range(len(START)):
        client.send(START[number : number + 1])
        rig.receiver.step(0)
    assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)


def test_proxy_state_comes_back_and_a_status_server_is_answered(rig: Rig) -> None:
    client = rig.stream()
    asked = request(SECRET, (33, b"one"), (40, 1), (33, b"two"))
    client.send(asked + status_server())
    answers = rig.receive(client, 2 * ANSWER_BYTES + 10)
    status, answer = answers[:ANSWER_BYTES], answers[ANSWER_BYTES:]  # a status is not kept back by a commit
    assert is_answer(status, status_server(), SECRET)
    assert is_answer(answer, asked, SECRET)
    assert answer[20:] == b"\x21\x05one\x21\x05two"


def test_a_repeat_is_answered_again_and_stored_once(rig: Rig) -> None:
    client = rig.stream()
    client.send(START)
    first = rig.receive(client, ANSWER_BYTES)
    client.send(START)
    assert rig.receive(client, ANSWER_BYTES) == first
    assert rig.raw() == [START]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (request(b"another secret", (40, 1)), "bad_authenticator"),
        (request(SECRET, (40, 1), (80, bytes(16))), "bad_message_authenticator"),
        (START[:2] + bytes((0, 19)) + START[4:], "malformed"),
        (START[:2] + bytes((16, 1)) + START[4:], "oversized"),
        (START[:21] + b"\x00" + START[22:], "malformed"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "oversized"),
    ],
)
def test_what_cannot_be_right_ends_the_connection_and_what_came_before_is_kept(
    rig: Rig, sent: bytes, reason: str
) -> None:
    client = rig.stream()
    before = count("connections_closed", reason=reason, client="proxy-1")
    dropped = count("dropped", reason=reason, client="proxy-1")
    client.send(START + sent)
    assert rig.is_closed(client)
    rig.until(lambda: rig.raw() == [START], "the good request is stored")
    rig.streams.tidy(0.0)
    assert count("connections_closed", reason=reason, client="proxy-1") == before + 1
    rig.until(lambda: count("dropped", reason=reason, client="proxy-1") == dropped + 1, "the packet is counted")


def test_another_kind_of_packet_is_dropped_and_the_connection_goes_on(rig: Rig) -> None:
    client = rig.stream()
    client.send(request(SECRET, (1, "alice"), code=1) + START)
    assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)


def test_a_stranger_is_closed_at_once(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database, receiving(database, [("proxy-1", "127.0.0.1/32", SECRET)]) as rig:
        assert rig.is_closed(rig.stream(source="127.0.0.2"))


def test_a_client_taken_out_of_the_settings_is_closed_at_its_next_packet(rig: Rig) -> None:
    client = rig.stream()
    client.send(START)
    rig.receive(client, ANSWER_BYTES)
    rig.receiver.replace_clients(ClientTable([]))
    client.send(START)
    assert rig.is_closed(client)


def test_one_that_has_said_all_gets_its_answers_before_it_is_closed(rig: Rig) -> None:
    client, asked = rig.stream(), requests(3)
    client.send(b"".join(asked))
    client.shutdown(socket.SHUT_WR)
    assert len(rig.receive(client, 1000)) == 3 * ANSWER_BYTES


def test_not_more_than_its_identifiers_wait_of_a_connection(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database, receiving(database, pending_max=100_000) as rig:
        client = rig.stream()
        long = [(1, bytes(250))] * 15
        asked = [request(SECRET, *long, (44, f"call-{one}"), identifier=one % 256) for one in range(4000)]
        with database.journal_write():
            unsent = memoryview(b"".join(asked))
            for _ in range(500):
                with suppress(BlockingIOError):
                    unsent = unsent[client.send(unsent) :]
                rig.receiver.step(0)
            assert len(unsent) > 0  # the kernel holds the peer back
            at_once = stream.READ_BYTES // len(asked[0]) + 1
            assert stream.WAITING_MAX <= rig.receiver.pending <= stream.WAITING_MAX + at_once
        client.close()


def test_one_that_reads_no_answers_is_closed_and_the_others_go_on(rig: Rig) -> None:
    lazy = rig.stream()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    state = [(33, bytes(253))] * 15
    asked = [request(SECRET, *state, (44, f"call-{number}"), identifier=number % 256) for number in range(3000)]
    unsent = memoryview(b"".join(asked))
    closed = count("connections_closed", reason="slow_reader", client="proxy-1")
    in_vain = 0

    def is_closed() -> bool:
        nonlocal unsent, in_vain
        try:
            unsent = unsent[lazy.send(unsent[:65536]) :]
            in_vain = 0
        except BlockingIOError:
            in_vain += 1
            if in_vain > 50:  # the receiver reads no more of it: time passes
                rig.streams.tidy(1e9)
        except ConnectionError:
            return True
        return False

    rig.until(is_closed, "it is closed")
    rig.streams.tidy(0.0)
    assert count("connections_closed", reason="slow_reader", client="proxy-1") == closed + 1
    client = rig.stream()
    client.send(START)
    assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)


@pytest.mark.parametrize(("sent", "reason"), [(START[:30], "unfinished"), (b"", "idle")])
def test_a_silent_peer_is_closed_when_its_time_is_over(rig: Rig, sent: bytes, reason: str) -> None:
    client = rig.stream()
    client.send(sent + START[: len(START) * (not sent)])
    if not sent:
        rig.receive(client, ANSWER_BYTES)
    rig.until(lambda: rig.streams.connections > 0, "it was heard")
    rig.streams.tidy(1e9)
    assert rig.is_closed(client)


def test_connections_are_counted_and_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLIENT_CONNECTIONS_MAX", 3)
    clients = [rig.stream() for _ in range(3)]
    for client in clients:
        client.send(START)
        rig.receive(client, ANSWER_BYTES)
    rig.streams.tidy(0.0)
    assert REGISTRY.get_sample_value("tollbook_receiver_connections") == 3
    assert rig.is_closed(rig.stream())
    clients[0].close()
    rig.until(lambda: rig.streams.connections == 2, "the closed one is forgotten")
    last = rig.stream()
    last.send(START)
    assert rig.receive(last, ANSWER_BYTES)


def test_a_client_with_a_certificate_is_not_heard_without_tls(over_tls: Rig) -> None:
    assert over_tls.is_closed(over_tls.stream(-2))
    before = count("dropped", reason="unknown_client", client="")
    over_tls.client().send(START)
    over_tls.until(lambda: count("dropped", reason="unknown_client", client="") > before, "it was dropped")


def test_a_client_beyond_its_rate_is_held_back_and_loses_nothing(rig: Rig) -> None:
    change_clients(rig, requests_per_s_max=20)
    held, dropped = count("connections_held", client="proxy-1"), count("dropped", reason="rate_limit", client="proxy-1")
    client, asked = rig.stream(), requests(61)
    client.send(b"".join(asked[:60]))  # two seconds' more than its first
    rig.until(lambda: rig.receiver.pending > 0, "they are read")
    client.send(asked[60])
    answers = rig.receive(client, ANSWER_BYTES * 61)
    assert all(is_answer(answers[n * ANSWER_BYTES :][:ANSWER_BYTES], one, SECRET) for n, one in enumerate(asked))
    assert count("connections_held", client="proxy-1") > held
    assert count("dropped", reason="rate_limit", client="proxy-1") == dropped


def test_nothing_is_dropped_for_overload_that_can_wait_in_the_network(sqlite_url: str) -> None:
    with open_database(sqlite_url) as database, receiving(database, pending_max=4) as rig:
        dropped = count("dropped", reason="overload", client="proxy-1")
        client, asked = rig.stream(), requests(100)
        with database.journal_write():
            for one in asked:
                client.send(one)
                rig.receiver.step(0)
            rig.until(lambda: rig.receiver.pending >= 4, "as many wait as may")
            rig.receiver.step(0)
            assert rig.receiver.pending < 100
        answers = rig.receive(client, ANSWER_BYTES * 100)
        assert all(is_answer(answers[n * ANSWER_BYTES :][:ANSWER_BYTES], one, SECRET) for n, one in enumerate(asked))
        assert count("dropped", reason="overload", client="proxy-1") == dropped


# --- over TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_says_who_sends(over_tls: Rig, certificates: Path, version: ssl.TLSVersion) -> None:
    client, asked = shake_hands(over_tls, certificates, version=version), requests(200)
    client.setblocking(True)
    client.sendall(b"".join(asked))
    client.setblocking(False)
    answers = over_tls.receive(client, ANSWER_BYTES * 200)
    assert all(is_answer(answers[n * ANSWER_BYTES :][:ANSWER_BYTES], one, SECRET) for n, one in enumerate(asked))
    assert [row.source_id for row in over_tls.rows()] == [over_tls.sources["proxy-1"]] * 200


def refused(rig: Rig, folder: Path | None, name: str = CLIENT, **how: ssl.TLSVersion) -> bool:
    """Return whether a peer is refused, at the handshake or after it, as TLS 1.3 tells a client."""
    try:
        client = shake_hands(rig, folder, name, **how)
        return rig.is_closed(client)
    except (ssl.SSLError, ConnectionError):
        return True


def test_without_a_certificate_of_the_authority_nobody_comes_in(over_tls: Rig, certificates: Path) -> None:
    before = count("connections_closed", reason="handshake", client="")
    assert refused(over_tls, None)
    assert refused(over_tls, certificates / "other")
    over_tls.streams.tidy(0.0)
    assert count("connections_closed", reason="handshake", client="") == before + 2


def test_a_certificate_that_is_nobodys_in_the_settings_is_refused(over_tls: Rig, certificates: Path) -> None:
    before = count("connections_closed", reason="unknown_client", client="")
    assert refused(over_tls, certificates, "proxy-2.example.net")
    over_tls.streams.tidy(0.0)
    assert count("connections_closed", reason="unknown_client", client="") == before + 1


def test_the_right_certificate_at_a_wrong_address_is_refused(over_tls: Rig, certificates: Path) -> None:
    moved = Client("proxy-1", network_of("192.0.2.0/24"), SECRET, 1, certificate=CLIENT)
    over_tls.receiver.replace_clients(ClientTable([moved]))
    assert refused(over_tls, certificates)


def test_a_withdrawn_certificate_is_refused(sqlite_url: str, certificates: Path) -> None:
    with (
        open_database(sqlite_url) as database,
        receiving(database, tls=context(certificates, crl=True)) as rig,
    ):
        change_clients(rig, certificate=CLIENT)
        assert refused(rig, certificates)
        change_clients(rig, certificate="proxy-2.example.net")
        client = shake_hands(rig, certificates, "proxy-2.example.net")
        client.send(START)
        assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)


def test_new_certificates_are_for_new_connections(over_tls: Rig, certificates: Path, tmp_path: Path) -> None:
    client = shake_hands(over_tls, certificates)
    folder = tmp_path / "renewed"
    shutil.copytree(certificates, folder)
    make_certificate(folder, SERVER)
    over_tls.streams.renew(context(folder))
    other = shake_hands(over_tls, certificates)
    assert client.getpeercert(binary_form=True) != other.getpeercert(binary_form=True)
    for one in (client, other):
        one.send(START)
        assert is_answer(over_tls.receive(one, ANSWER_BYTES), START, SECRET)


def test_who_is_trusted_no_more_is_answered_what_waits_and_then_closed(over_tls: Rig, certificates: Path) -> None:
    client, in_handshake = shake_hands(over_tls, certificates), over_tls.stream(-1)
    with over_tls.database.journal_write():
        client.send(START)
        over_tls.until(lambda: over_tls.receiver.pending == 1, "it waits")
        over_tls.streams.renew(context(certificates, crl=True))
    assert is_answer(over_tls.receive(client, ANSWER_BYTES), START, SECRET)
    assert over_tls.is_closed(client)
    assert over_tls.is_closed(in_handshake)
    assert refused(over_tls, certificates)


def test_a_handshake_that_does_not_end_is_closed_and_holds_nobody_up(over_tls: Rig, certificates: Path) -> None:
    silent = over_tls.stream(-1)
    client = shake_hands(over_tls, certificates)
    client.send(START)
    assert is_answer(over_tls.receive(client, ANSWER_BYTES), START, SECRET)
    over_tls.streams.tidy(1e9)
    assert over_tls.is_closed(silent)


def test_handshakes_of_one_address_are_bounded(
    over_tls: Rig, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HANDSHAKES_MAX", 2)
    held = [over_tls.stream(-1) for _ in range(2)]
    over_tls.until(lambda: over_tls.streams.connections == 2, "both are accepted")
    assert over_tls.is_closed(over_tls.stream(-1))
    for one in held:
        one.close()
    over_tls.until(lambda: over_tls.streams.connections == 0, "both are forgotten")
    assert shake_hands(over_tls, certificates)


def test_without_a_descriptor_it_waits_and_says_so(rig: Rig) -> None:
    before = count("connections_closed", reason="no_descriptor", client="")
    held: list[int] = []
    with suppress(OSError):
        while True:
            held.append(os.dup(0))
    rig.receiver.step(0)
    os.close(held.pop())
    client = rig.stream()
    rig.receiver.step(0)
    rig.receiver.step(0)
    for fd in held:
        os.close(fd)
    rig.streams.tidy(0.0)
    assert count("connections_closed", reason="no_descriptor", client="") == before + 1
    client.send(START)
    assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)
