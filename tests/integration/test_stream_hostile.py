"""Connections of peers that mean harm, or have bad luck: what they take from others, and what a reload finds."""

import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest

from accounting.db.engine import open_database
from accounting.radius import stream
from accounting.radius.clients import Client, ClientTable, network_of
from tests.integration.test_stream import (
    ANSWER_BYTES,
    START,
    certificates,
    context,
    over_tls,
    requests,
    rig,
    shake_hands,
)
from tests.support.certificates import CLIENT
from tests.support.radius import SECRET, is_answer, request
from tests.support.receiving import PATIENCE_S, Rig, change_clients, count, has_answer, receiving

__all__ = ["certificates", "over_tls", "rig"]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets


def test_records_without_the_end_of_a_packet_are_bounded(over_tls: Rig, certificates: Path) -> None:
    before = count("connections_closed", reason="unfinished", client="proxy-1")
    client = shake_hands(over_tls, certificates)
    endless = START[:2] + bytes((15, 255)) + bytes(4091)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        for octet in endless:
            client.send(bytes((octet,)))  # a record of 23 octets
            over_tls.receiver.step(0)
    over_tls.streams.tidy(0.0)
    assert count("connections_closed", reason="unfinished", client="proxy-1") == before + 1


def test_handshakes_are_bounded_in_all_and_hold_no_place_of_others(
    sqlite_url: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ALL_HANDSHAKES_MAX", 8)
    with open_database(sqlite_url) as database, receiving(database, tls=context(certificates)) as rig:
        roaming = Client("roaming", network_of("127.0.1.0/24"), b"radsec", 1, certificate=CLIENT)
        plain = Client("proxy-1", network_of("127.0.0.1/32"), SECRET, rig.sources["proxy-1"])
        rig.receiver.replace_clients(ClientTable([roaming, plain]))
        silent = [rig.stream(-1, source=f"127.0.1.{number}") for number in range(1, 13)]
        rig.until(lambda: sum(map(has_answer, silent)) == 4, "four are closed")
        assert rig.streams.connections == 8
        client = rig.stream()
        client.send(START)
        assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)


def test_who_has_proven_nothing_is_closed_when_silent_for_a_minute(rig: Rig) -> None:
    silent, proven = rig.stream(), rig.stream()
    proven.send(START)
    assert rig.receive(proven, ANSWER_BYTES)
    rig.streams.tidy(monotonic() + stream.UNPROVEN_S + 1)
    assert rig.is_closed(silent)
    assert rig.streams.connections == 1


def test_a_request_sent_again_from_the_same_port_is_answered_there(rig: Rig) -> None:
    with rig.database.journal_write():
        first = rig.stream()
        port = first.getsockname()[1]
        first.send(START)
        rig.until(lambda: rig.receiver.pending == 1, "it waits")
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        first.close()
        rig.until(lambda: rig.streams.connections == 0, "its connection is gone")
        second = socket.create_connection(rig.addresses[-2], PATIENCE_S, ("127.0.0.1", port))
        second.setblocking(False)
        rig.adopt(second)
        second.send(START)
        rig.until(lambda: rig.receiver.pending == 2, "it waits again")
    assert is_answer(rig.receive(second, ANSWER_BYTES), START, SECRET)


@pytest.mark.parametrize("is_tls", [False, True])
def test_one_that_reads_at_once_has_all_its_long_answers(over_tls: Rig, certificates: Path, is_tls: bool) -> None:
    if not is_tls:
        change_clients(over_tls)
    client = shake_hands(over_tls, certificates) if is_tls else over_tls.stream()
    state = [(33, bytes(200))] * 8
    asked = [request(SECRET, *state, (44, f"call-{n}"), identifier=n) for n in range(256)]
    wanted, found = (ANSWER_BYTES + 8 * 202) * 256, []

    def send() -> None:
        client.sendall(b"".join(asked))

    def read() -> None:
        while sum(found) < wanted and (octets := client.recv(65536)):
            found.append(len(octets))

    with over_tls.database.journal_write():
        client.settimeout(PATIENCE_S)
        sending = Thread(target=send)
        sending.start()
        over_tls.until(lambda: over_tls.receiver.pending == 256, "all wait")
        sending.join()
    reading = Thread(target=read)
    reading.start()
    over_tls.until(lambda: not reading.is_alive(), "all is read")
    assert sum(found) == wanted


def test_a_reload_gives_connections_that_are_there_their_new_limits(rig: Rig) -> None:
    change_clients(rig, requests_per_s_max=1)
    client = rig.stream()
    client.send(b"".join(requests(60)))  # a minute's
    assert len(rig.receive(client, ANSWER_BYTES * 60)) == ANSWER_BYTES * 60
    change_clients(rig, requests_per_s_max=100_000)
    client.send(START)
    assert is_answer(rig.receive(client, ANSWER_BYTES), START, SECRET)
    held = count("connections_held", client="proxy-1")
    renamed = Client("renamed", network_of("127.0.0.0/8"), SECRET, rig.sources["proxy-1"], requests_per_s_max=5)
    rig.receiver.replace_clients(ClientTable([renamed]))
    for n in range(3):
        client.send(b"".join(request(SECRET, (40, 1), (44, f"new-{n}-{i}"), identifier=i) for i in range(4)))
        rig.receive(client, ANSWER_BYTES * 4)
    assert count("connections_held", client="proxy-1") > held


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("asked", [b"", START])
def test_a_goodbye_ends_a_connection_and_what_came_before_is_stored(
    over_tls: Rig, certificates: Path, asked: bytes, version: ssl.TLSVersion
) -> None:
    client = shake_hands(over_tls, certificates, version=version)
    if asked:
        client.send(asked)
    with suppress(ssl.SSLWantReadError):
        client.unwrap()
    if asked:
        over_tls.until(lambda: over_tls.raw() == [asked], "it is stored")
    over_tls.until(lambda: over_tls.streams.connections == 0, "the connection is closed")


def test_packets_without_the_secret_prove_nothing(rig: Rig) -> None:
    client = rig.stream()
    client.send(b"\x01" + START[1:])  # an Access-Request
    before = count("received")
    rig.until(lambda: count("received") > before, "it was read")
    rig.streams.tidy(monotonic() + stream.UNPROVEN_S + 1)
    assert rig.is_closed(client)


def test_held_connections_of_a_client_are_read_in_turn(rig: Rig) -> None:
    change_clients(rig, requests_per_s_max=20)
    clients = [rig.stream() for _ in range(4)]
    for number, client in enumerate(clients):
        mine = [request(SECRET, (40, 1), (44, f"{number}-{n}"), identifier=n) for n in range(40)]
        client.send(b"".join(mine))
    for client in clients:
        assert len(rig.receive(client, ANSWER_BYTES * 40)) == ANSWER_BYTES * 40
