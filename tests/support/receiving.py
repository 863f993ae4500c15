"""A receiver under test on real sockets, stepped by the test; it never runs on its own."""

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from prometheus_client import REGISTRY

from accounting.base.clock import now_us
from accounting.base.sockets import bind_all, name_of, split_address
from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import JournalRow, JournalWriter, read_after, register_source
from accounting.radius.clients import Client, ClientTable, network_of
from accounting.radius.stream import StreamPort
from accounting.radius.udp import UdpPort, listen
from accounting.receiver import Receiver
from tests.support.radius import SECRET

PATIENCE_S = 30.0
LOOPBACK = ("proxy-1", "127.0.0.0/8", SECRET)


class Rig:
    """A receiver, the database it writes, and clients' sockets."""

    def __init__(
        self,
        database: Database,
        receiver: Receiver,
        names: Sequence[str],
        sources: dict[str, int],
        streams: StreamPort,
    ) -> None:
        self.database = database
        self.receiver = receiver
        self.streams = streams
        self.addresses = [split_address(name) for name in names]
        self.sources = sources
        self._clients: list[socket.socket] = []

    def client(self, place: int = 0, *, source: str | None = None) -> socket.socket:
        """Return a new client's socket, connected to the receiver's so-many-th address."""
        host, port = self.addresses[place]
        client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        if source:
            client.bind((source, 0))
        client.connect((host, port))
        client.setblocking(False)
        self._clients.append(client)
        return client

    def stream(self, place: int = -2, *, source: str = "127.0.0.1") -> socket.socket:
        """Return a new connection to the receiver's TCP address, by place -1 to that for TLS."""
        client = socket.create_connection(self.addresses[place], PATIENCE_S, (source, 0))
        client.setblocking(False)
        self._clients.append(client)
        return client

    def adopt(self, client: socket.socket) -> None:
        """Close this at the end."""
        self._clients.append(client)

    def receive(self, client: socket.socket, size: int) -> bytes:
        """Step until so many octets came over a connection, or it was closed, and return them."""
        found = b""
        while len(found) < size:
            self.until(lambda: has_answer(client), "something comes")
            try:
                octets = client.recv(size - len(found))
            except (ssl.SSLWantReadError, ConnectionResetError) as error:
                if isinstance(error, ConnectionResetError):
                    break
                continue
            if not octets:
                break
            found += octets
        return found

    def is_closed(self, client: socket.socket) -> bool:
        """Step until the receiver sends something or closes a connection; return whether it has closed it."""
        return not self.receive(client, 1)

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Step until something is true."""
        end = monotonic() + PATIENCE_S
        while not true():
            assert monotonic() < end, f"waited in vain until {what}"
            self.receiver.step(0.05)

    def answer(self, client: socket.socket) -> bytes:
        """Step until the client has an answer, and return it."""
        self.until(lambda: has_answer(client), "the client has its answer")
        return client.recv(4096)

    def ask(self, client: socket.socket, datagram: bytes) -> bytes:
        """Send a datagram and return its answer."""
        client.send(datagram)
        return self.answer(client)

    def take(self, client: socket.socket, datagram: bytes) -> None:
        """Send a datagram and step until it was read."""
        before = count("received")
        client.send(datagram)
        self.until(lambda: count("received") > before, "the datagram was read")

    def rows(self) -> list[JournalRow]:
        """Return the whole journal."""
        with self.database.journal_read() as conn:
            return read_after(conn, {}, 1_000_000)

    def raw(self) -> list[bytes]:
        """Return the datagrams in the journal."""
        return [row.raw for row in self.rows()]

    def close(self) -> None:
        """Close the clients' sockets."""
        for client in self._clients:
            client.close()


@contextmanager
def receiving(
    database: Database,
    clients: Sequence[tuple[str, str, bytes]] = (LOOPBACK,),
    *,
    at: Sequence[str] = ("127.0.0.1:0",),
    clock: Callable[[], int] = now_us,
    pending_max: int = 1000,
    batch_max: int = 256,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Rig]:
    """Give a rig whose clients are (name, network, secret); its last two addresses are for TCP and for TLS."""
    sources = {name: register_source(database, Source(0, name)) for name, _, _ in clients}
    table = ClientTable(Client(name, network_of(network), secret, sources[name]) for name, network, secret in clients)
    listeners = listen(at, 4 * 1024 * 1024)
    tcp, over_tls = bind_all("tcp", ("127.0.0.1:0", "127.0.0.1:0"), "listen")
    streams = StreamPort([tcp], [over_tls] if tls else [], tls)
    writer = JournalWriter(database, "receiver", "test", clock=clock)
    writer.open()
    receiver = Receiver(
        [*(UdpPort(listener.socket) for listener in listeners), streams],
        table,
        writer,
        batch_max=batch_max,
        pending_max=pending_max,
        reply_cache_s=30,
        clock=clock,
    )
    names = [*(listener.name for listener in listeners), name_of(tcp), name_of(over_tls)]
    rig = Rig(database, receiver, names, sources, streams)
    try:
        yield rig
    finally:
        receiver.close()
        streams.close()
        rig.close()
        for one in (*(listener.socket for listener in listeners), tcp, over_tls):
            one.close()


def change_clients(rig: Rig, **settings: object) -> None:
    """Let the only client, proxy-1, have other settings from now on."""
    made = Client("proxy-1", network_of("127.0.0.0/8"), SECRET, rig.sources["proxy-1"])
    rig.receiver.replace_clients(ClientTable([made._replace(**settings)]))


def has_answer(client: socket.socket) -> bool:
    """Return whether something waits to be read."""
    poll = select.poll()
    poll.register(client, select.POLLIN)
    return bool(poll.poll(0))


def count(name: str, **labels: str) -> float:
    """Return a receiver's counter as it stands now."""
    return REGISTRY.get_sample_value(f"tollbook_receiver_{name}_total", labels) or 0.0
