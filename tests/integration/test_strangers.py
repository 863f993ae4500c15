"""Beside a flood from unknown addresses, on real sockets with the real kernel's filter."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from prometheus_client import REGISTRY

from accounting.db.engine import open_database
from accounting.radius.clients import Client, ClientTable, network_of
from accounting.radius.strangers import CALM_S, FLOOD_PER_S, SAMPLE, Gate
from accounting.radius.udp import Bound, UdpPort, listen
from tests.support.radius import SECRET, is_answer, request
from tests.support.receiving import Rig, count, receiving

START = request(SECRET, (40, 1), (44, "call-1"))
ONE = ("proxy-1", "127.0.0.1/32", SECRET)
STRANGER = "127.0.0.2"
SO_DETACH_FILTER = 27


def shut_out(host: str, port: int) -> float | None:
    labels = {"address": f"{host}:{port}"}
    return REGISTRY.get_sample_value("tollbook_receiver_strangers_filtered", labels)


@pytest.fixture(params=["127.0.0.1:0", "0.0.0.0:0"])
def rig(sqlite_url: str, request: pytest.FixtureRequest) -> Iterator[Rig]:
    with open_database(sqlite_url) as database, receiving(database, (ONE,), at=(request.param,)) as made:
        yield made


@pytest.fixture
def bound() -> Iterator[Bound]:
    [listener] = listen(["127.0.0.1:0"], 65536)
    yield listener.socket
    listener.socket.close()


def flood(rig: Rig, number: int) -> float:
    """Send so many datagrams as a stranger and return how many of them were read."""
    stranger = rig.client(source=STRANGER)
    before = count("received")
    for _ in range(number // 100):
        for _ in range(100):
            stranger.send(b"x")
        rig.receiver.step(0)
    while has_come(rig):
        pass
    return count("received") - before


def flood_until_shut_out(rig: Rig) -> None:
    """Send more than may come in a second, again where it took longer."""
    for _ in range(10):
        flood(rig, FLOOD_PER_S + 200)
        if shut_out(*rig.addresses[0]):
            return
    raise AssertionError("no flood was noticed")


def has_come(rig: Rig) -> bool:
    before = count("received")
    rig.receiver.step(0.05)
    return count("received") > before


def test_a_few_strangers_are_all_read(rig: Rig) -> None:
    assert flood(rig, FLOOD_PER_S // 2) == FLOOD_PER_S // 2
    assert shut_out(*rig.addresses[0]) == 0


def test_a_flood_is_dropped_by_the_kernel_and_the_clients_are_heard(rig: Rig) -> None:
    flood_until_shut_out(rig)
    assert 0 < flood(rig, 20_000) < 20_000 / SAMPLE * 2
    good = rig.client()
    assert is_answer(rig.ask(good, START), START, SECRET)


def test_a_client_that_a_reload_brings_is_heard_while_others_flood(rig: Rig) -> None:
    flood_until_shut_out(rig)
    clients = [Client(f"proxy-{n}", network_of(f"127.0.0.{n}"), SECRET, rig.sources["proxy-1"]) for n in (1, 3)]
    rig.receiver.replace_clients(ClientTable(clients))
    flood(rig, 1000)  # its sample tells
    new = rig.client(source="127.0.0.3")
    assert is_answer(rig.ask(new, START), START, SECRET)
    assert shut_out(*rig.addresses[0]) == 1


def test_after_the_flood_all_are_read_again(bound: Bound) -> None:
    gate = Gate(bound)
    gate.meet(FLOOD_PER_S + 1, ClientTable([]))
    assert shut_out(*bound.getsockname()) == 1
    for _ in range(CALM_S - 1):
        gate.tidy()
    gate.meet(FLOOD_PER_S // SAMPLE + 1, ClientTable([]))  # of the sample: it goes on
    gate.tidy()
    for _ in range(CALM_S):
        assert shut_out(*bound.getsockname()) == 1
        gate.tidy()
    assert shut_out(*bound.getsockname()) == 0


def test_a_socket_that_outlives_its_process_takes_all_again(bound: Bound) -> None:
    Gate(bound).meet(FLOOD_PER_S + 1, ClientTable([]))
    UdpPort(bound)
    assert not had_filter(bound)


def had_filter(bound: Bound) -> bool:
    """Return whether a socket had a filter; it has none now."""
    try:
        bound.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, bytes(4))
    except FileNotFoundError:
        return False
    return True


def test_more_clients_than_a_filter_holds_are_told_and_nobody_is_shut_out(bound: Bound) -> None:
    many = ClientTable(Client(f"client-{n}", IPv4Network((n << 8, 24)), SECRET, 1) for n in range(2000))
    gate = Gate(bound)
    for _ in range(3):
        gate.meet(FLOOD_PER_S + 1, many)
    assert shut_out(*bound.getsockname()) == 0
    assert not had_filter(bound)
