"""Which client sends: by its address, the longest CIDR match, IPv6 that holds IPv4 as IPv4; or by its certificate.

Pure: knows neither settings nor sockets.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from accounting.base.errors import SettingsError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")


class Client(NamedTuple):
    """Who may send, with what secret, and the source version its datagrams are journalled under."""

    name: str
    network: Network
    secret: bytes
    source_id: int
    secret_next: bytes = b""  # good too, while clients change from one to the other
    must_authenticate: bool = False  # a Message-Authenticator is demanded, not only checked
    certificate: str = ""  # a name in its certificate, in small letters: it is heard over TLS, and not otherwise
    requests_per_s_max: int = 0  # 0: no limit

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secret, or both."""
        return (self.secret_next, self.secret) if self.secret_next else (self.secret,)


class ClientTable:
    """Clients by network, and those with a certificate by its name. No two have the same."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._plain, self._certified = _Networks(), _Networks()
        self._by_certificate: dict[str, Client] = {}
        self._number = 0
        for given in clients:
            self._number += 1
            client = given._replace(network=network_of(given.network))
            if client.certificate:
                other = self._by_certificate.setdefault(client.certificate, client)
                if other is not client:
                    raise SettingsError([f"clients {other.name} and {client.name} have the same certificate"])
                self._certified.add(client)
            else:
                other = self._plain.add(client)
                if other is not client:
                    words = f"clients {other.name} and {client.name} have the same address {client.network}"
                    raise SettingsError([words])

    def __len__(self) -> int:
        """How many clients there are."""
        return self._number

    @property
    def networks(self) -> list[Network]:
        """Those of the clients without a certificate."""
        return self._plain.networks

    def find(self, host: str) -> Client | None:
        """Return the client of an address as a socket gives it (a scope like %eth0 may follow), or None."""
        return self._plain.find(address_of(host))

    def find_certified(self, names: Sequence[str], host: str) -> Client | None:
        """Return the client that a certificate with these names, in small letters, makes of one at this address."""
        for name in names:
            client = self._by_certificate.get(name)
            if client is not None and address_of(host) in client.network:
                return client
        return None

    def awaits_certified(self, host: str) -> bool:
        """Return whether a client with a certificate may be at this address."""
        return self._certified.find(address_of(host)) is not None


class _Networks:
    """Clients by network; the longest match counts."""

    def __init__(self) -> None:
        self._levels: dict[tuple[int, int], dict[int, Client]] = {}

    @property
    def networks(self) -> list[Network]:
        return [client.network for level in self._levels.values() for client in level.values()]

    def add(self, client: Client) -> Client:
        """Return the client of this network: this one, or the first."""
        network = client.network
        if (key := (network.version, network.prefixlen)) not in self._levels:
            self._levels = dict(sorted({**self._levels, key: {}}.items(), reverse=True))
        return self._levels[key].setdefault(int(network.network_address), client)

    def find(self, address: Address) -> Client | None:
        value, bits = int(address), address.max_prefixlen
        for (version, length), level in self._levels.items():
            if version == address.version:
                client = level.get(value >> bits - length << bits - length)
                if client is not None:
                    return client
        return None


def address_of(host: str) -> Address:
    """Return the address, as IPv4 where it is IPv4 mapped into IPv6."""
    address = ip_address(host.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def network_of(network: Network | str) -> Network:
    """Return the network, as IPv4 where it is IPv4 mapped into IPv6; host bits are ignored."""
    network = ip_network(network, strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((low, network.prefixlen - _MAPPED.prefixlen))
    return network


def pack_host(host: str) -> bytes:
    """Return an address as the 16 octets the journal keeps: IPv6, or IPv4 mapped into it."""
    address = address_of(host)
    return address.packed if isinstance(address, IPv6Address) else _mapped(address)


def pack_peer(host: str, port: int) -> bytes:
    """Return an address and port as the journal keeps them: 16 octets and 2, big endian."""
    return pack_host(host) + port.to_bytes(2)


def peer_text(peer: bytes) -> str:
    """Return a journal row's peer for people: 192.0.2.1:1813, [2001:db8::1]:1813, or '' where there is none."""
    if len(peer) != 18:
        return ""
    host, port = ip_address(peer[:16]), int.from_bytes(peer[16:])
    assert isinstance(host, IPv6Address)
    return f"{host.ipv4_mapped}:{port}" if host.ipv4_mapped else f"[{host}]:{port}"


def _mapped(address: IPv4Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed
