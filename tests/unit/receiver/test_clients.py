"""Which client an address belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.base.errors import SettingsError
from accounting.radius.clients import Client, ClientTable, network_of, pack_peer, peer_text


def table(*networks: str) -> ClientTable:
    return ClientTable(
        Client(network, network_of(network), b"secret", number) for number, network in enumerate(networks)
    )


def found(clients: ClientTable, host: str) -> str | None:
    client = clients.find(host)
    return client and client.name


def test_the_longest_prefix_wins_whatever_the_order() -> None:
    for networks in (
        ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0"),
        ("0.0.0.0/0", "10.1.2.3", "10.1.0.0/16", "10.0.0.0/8"),
    ):
        clients = table(*networks)
        assert found(clients, "10.1.2.3") == "10.1.2.3"
        assert found(clients, "10.1.2.4") == "10.1.0.0/16"
        assert found(clients, "10.2.0.0") == "10.0.0.0/8"
        assert found(clients, "11.0.0.0") == "0.0.0.0/0"


def test_nobody_is_found_outside_of_all_networks() -> None:
    clients = table("192.0.2.0/24", "2001:db8::/32")
    assert found(clients, "192.0.3.1") is None
    assert found(clients, "2001:db9::1") is None
    assert found(table(), "192.0.2.1") is None


def test_ipv6_is_matched_by_prefix_and_its_scope_left_out() -> None:
    clients = table("2001:db8::/32", "2001:db8:1::/48", "fe80::/10", "::/0")
    assert found(clients, "2001:db8:1::9") == "2001:db8:1::/48"
    assert found(clients, "2001:db8:2::9") == "2001:db8::/32"
    assert found(clients, "fe80::1%eth0") == "fe80::/10"
    assert found(clients, "::1") == "::/0"


def test_ipv4_mapped_into_ipv6_is_ipv4_on_both_sides() -> None:
    assert found(table("127.0.0.0/8", "::/0"), "::ffff:127.0.0.1") == "127.0.0.0/8"
    assert found(table("::ffff:127.0.0.0/104"), "127.0.0.1") == "::ffff:127.0.0.0/104"
    assert found(table("::/0"), "127.0.0.1") is None  # all of IPv6 is not all of IPv4


def test_two_clients_of_one_network_are_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"have the same address 127\.0\.0\.0/8"):
        table("127.0.0.0/8", "::ffff:127.0.0.0/104")


@pytest.mark.parametrize(
    ("host", "text"),
    [("192.0.2.1", "192.0.2.1:1813"), ("::ffff:192.0.2.1", "192.0.2.1:1813"), ("2001:db8::1", "[2001:db8::1]:1813")],
)
def test_a_peer_is_18_octets_and_reads_back(host: str, text: str) -> None:
    peer = pack_peer(host, 1813)
    assert len(peer) == 18
    assert peer_text(peer) == text


def test_no_peer_reads_as_nothing() -> None:
    assert peer_text(b"") == ""


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=8, unique=True), st.ip_addresses(v=4))
def test_find_agrees_with_a_search_through_all(hosts: list[object], wanted: object) -> None:
    networks = {network_of(f"{host}/{8 + 3 * place}") for place, host in enumerate(hosts)}
    clients = ClientTable(Client(str(network), network, b"s", 1) for network in networks)
    holding = [network for network in networks if network_of(str(wanted)).subnet_of(network)]  # type: ignore[arg-type]
    best = max(holding, key=lambda network: network.prefixlen, default=None)
    assert found(clients, str(wanted)) == (str(best) if best else None)
