"""Who can be told from what: the customers' and carriers' identities, indexed to be asked many times.

Pure: it is built from values and answers from them; nothing is read here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

ALWAYS_US = -(2**63)
FOREVER_US = 2**63 - 1
HOSTS_CACHED_MAX = 65_536
MAPPED_BITS = 96
"""Leading bits of ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2); the IPv4 address follows."""


class Account(NamedTuple):
    """A customer, a carrier, or our own side of the ledger (house)."""

    id: int
    role: str  # customer | carrier | house
    name: str
    currency: str
    timezone: str


class Identity(NamedTuple):
    """What a call may show, and whose it is in [valid_from_us, valid_to_us)."""

    account_id: int
    kind: str  # user | ip | number | did | host
    value: str  # canonical, see cdr.rating.identities
    valid_from_us: int = ALWAYS_US
    valid_to_us: int = FOREVER_US


class Claim(NamedTuple):
    """An account's claim on one value in [from_us, to_us)."""

    account_id: int
    from_us: int
    to_us: int


class Address(NamedTuple):
    """An IP address as a number; IPv4-mapped ones are IPv4."""

    bits: int  # 32 | 128
    value: int


Claims = dict[str, tuple[Claim, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The identities of one role. Tables are asked longest first."""

    users: Claims
    hosts: Claims
    numbers: tuple[tuple[int, Claims], ...]  # by length of the prefix, longest first
    dids: tuple[tuple[int, Claims], ...]
    networks: Mapping[int, tuple[tuple[int, dict[int, tuple[Claim, ...]]], ...]]  # bits -> (prefix length, by network)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """All accounts and what tells them, as of one reading of the database."""

    accounts: Mapping[int, Account]
    names: Mapping[str, int]  # of customers
    customers: Index
    carriers: Index


def build_directory(accounts: Iterable[Account], identities: Iterable[Identity]) -> Directory:
    """Return the directory of these accounts and their identities; identities of others are left out."""
    by_id = {account.id: account for account in accounts}
    of_role: dict[str, list[Identity]] = {"customer": [], "carrier": [], "house": []}
    for identity in identities:
        if identity.account_id in by_id:
            of_role[by_id[identity.account_id].role].append(identity)
    return Directory(
        accounts=by_id,
        names={account.name: account.id for account in by_id.values() if account.role == "customer"},
        customers=_index(of_role["customer"]),
        carriers=_index(of_role["carrier"]),
    )


def find_user(index: Index, user: str, host: str, at_us: int) -> int | None:
    """Return whose SIP user this is: `user@host` first, then `user` of any domain. Users have case, hosts not."""
    if not user:
        return None
    if host:
        found = _valid(index.users.get(f"{user}@{host.lower()}"), at_us)
        if found is not None:
            return found
    return _valid(index.users.get(user), at_us)


def find_number(index: Index, number: str, at_us: int) -> int | None:
    """Return who calls from this E.164 number (with its +); the longest prefix that is valid then wins."""
    return _longest(index.numbers, number, at_us)


def find_did(index: Index, number: str, at_us: int) -> int | None:
    """Return whose incoming E.164 number (with its +) this is; the longest prefix that is valid then wins."""
    return _longest(index.dids, number, at_us)


def find_network(index: Index, host: str, at_us: int) -> tuple[int, int] | None:
    """Return (prefix length, account) of the longest network that holds this address; None also for what is no address.

    The length counts in 128 bits for IPv6 and in 32 for IPv4.
    """
    address = parse_address(host)
    if address is None:
        return None
    for length, table in index.networks.get(address.bits, ()):
        found = _valid(table.get(address.value >> address.bits - length), at_us)
        if found is not None:
            return length, found
    return None


def find_host(index: Index, host: str, at_us: int) -> int | None:
    """Return whose gateway this host is: by the longest network if it is an address, else by exactly this name."""
    network = find_network(index, host, at_us)
    if network is not None:
        return network[1]
    return _valid(index.hosts.get(host.rstrip(".").lower()), at_us) if host else None


@lru_cache(maxsize=HOSTS_CACHED_MAX)
def parse_address(host: str) -> Address | None:
    """Return an address as a number, None if it is a name. Brackets and a zone (%eth0) are dropped."""
    text = host.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Address(address.max_prefixlen, int(address))


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Return a host or CIDR as a network, IPv4-mapped ones as IPv4; ValueError if it is none or has host bits set."""
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= MAPPED_BITS:
        return IPv4Network((int(mapped), network.prefixlen - MAPPED_BITS))
    return network


def _index(identities: list[Identity]) -> Index:
    networks: dict[int, dict[int, dict[int, list[Claim]]]] = {}
    for identity in identities:
        if identity.kind == "ip":
            network = parse_network(identity.value)
            table = networks.setdefault(network.max_prefixlen, {}).setdefault(network.prefixlen, {})
            key = int(network.network_address) >> network.max_prefixlen - network.prefixlen
            table.setdefault(key, []).append(_claim(identity))
    return Index(
        users=_claims(identities, "user"),
        hosts=_claims(identities, "host"),
        numbers=_by_length(_claims(identities, "number")),
        dids=_by_length(_claims(identities, "did")),
        networks={
            bits: tuple(
                (length, {key: tuple(claims) for key, claims in table.items()})
                for length, table in sorted(tables.items(), reverse=True)
            )
            for bits, tables in networks.items()
        },
    )


def _claims(identities: list[Identity], kind: str) -> Claims:
    claims: dict[str, list[Claim]] = {}
    for identity in identities:
        if identity.kind == kind:
            claims.setdefault(identity.value, []).append(_claim(identity))
    return {value: tuple(of_value) for value, of_value in claims.items()}


def _claim(identity: Identity) -> Claim:
    return Claim(identity.account_id, identity.valid_from_us, identity.valid_to_us)


def _by_length(claims: Claims) -> tuple[tuple[int, Claims], ...]:
    tables: dict[int, Claims] = {}
    for digits, of_digits in claims.items():
        tables.setdefault(len(digits), {})[digits] = of_digits
    return tuple(sorted(tables.items(), reverse=True))


def _longest(tables: tuple[tuple[int, Claims], ...], number: str, at_us: int) -> int | None:
    digits = number.lstrip("+")
    for length, table in tables:
        if length <= len(digits):
            found = _valid(table.get(digits[:length]), at_us)
            if found is not None:
                return found
    return None


def _valid(claims: tuple[Claim, ...] | None, at_us: int) -> int | None:
    if claims is not None:
        for account_id, from_us, to_us in claims:
            if from_us <= at_us < to_us:
                return account_id
    return None
