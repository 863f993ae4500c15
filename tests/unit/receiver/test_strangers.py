"""Whom the kernel's filter lets through: whoever the receiver's own table knows."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import example, given
from hypothesis import strategies as st

from accounting.radius.clients import Client, ClientTable, Network, address_of, network_of
from accounting.radius.strangers import INSTRUCTIONS_MAX, SAMPLE, program_of

NEVER, ALWAYS = 0xFFFFFFFF, 0
"""Random numbers: of a datagram that is no sample, and of one that is."""


def lets_in(networks: list[Network], source: IPv4Address | IPv6Address, random: int) -> bool:
    """Run the program as the kernel does, on the IP header of a datagram."""
    header = bytes([0x45]) + bytes(11) if source.version == 4 else bytes([0x60]) + bytes(7)
    header += source.packed
    program, at, word = program_of(networks), 0, 0
    while True:
        code, true, false, operand = program[at]
        at += 1
        place = operand - (0x100000000 - 0x100000)
        if code == 0x20:
            word = int.from_bytes(header[place : place + 4]) if place < 0x1000 else random
        elif code == 0x30:
            word = header[place]
        elif code == 0x54:
            word &= operand
        elif code == 0x74:
            word >>= operand
        elif code == 0x05:
            at += operand
        elif code == 0x15:
            at += true if word == operand else false
        elif code == 0x25:
            at += true if word > operand else false
        else:
            assert code == 0x06
            return operand != 0


def networks_of(family: type[IPv4Network] | type[IPv6Network], bits: int) -> st.SearchStrategy[Network]:
    numbers, lengths = st.integers(0, 2**bits - 1), st.integers(0, bits)
    return st.builds(lambda number, length: family((number, length), strict=False), numbers, lengths)


@given(
    networks=st.lists(networks_of(IPv4Network, 32) | networks_of(IPv6Network, 128), max_size=8),
    other=st.ip_addresses(),
    place=st.integers(0, 7),
    low=st.integers(0, 2**128 - 1),
)
@example([network_of("::ffff:10.0.0.0/104")], ip_address("10.1.2.3"), 0, 0)
@example([], ip_address("10.1.2.3"), 0, 0)
def test_the_filter_lets_in_whom_the_table_knows(
    networks: list[Network], other: IPv4Address | IPv6Address, place: int, low: int
) -> None:
    distinct = {network_of(network) for network in networks}
    table = ClientTable(Client(f"client-{n}", network, b"", n) for n, network in enumerate(distinct))
    sources = [other]
    if networks:  # an address inside one of them, and the one after its last
        network = networks[place % len(networks)]
        first, last = int(network.network_address), int(network.broadcast_address)
        of = type(network.network_address)
        sources += [of(first | low & int(network.hostmask)), of((last + 1) % 2**network.max_prefixlen)]
    for source in map(address_of, map(str, sources)):  # IPv4 mapped into IPv6 is IPv4 on the wire
        assert lets_in(table.networks, source, NEVER) is (table.find(str(source)) is not None)
        assert lets_in(table.networks, source, ALWAYS)


def test_one_in_so_many_strangers_is_seen() -> None:
    step = 0x100000000 // 4096
    seen = sum(lets_in([], IPv4Address("192.0.2.1"), number * step) for number in range(4096))
    assert seen == 4096 // SAMPLE


def test_a_thousand_clients_fit() -> None:
    assert len(program_of(IPv4Network((number << 8, 24)) for number in range(1000))) <= INSTRUCTIONS_MAX
