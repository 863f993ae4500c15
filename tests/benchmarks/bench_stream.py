"""What a request costs the receiver over TCP and TLS, beside UDP in the same run: its CPU, not the client's speed.

`python -m tests.benchmarks.bench_stream [--requests N] [--rounds N]`: SQLite, four connections (ports over UDP) of one
process each with at most 200 requests outstanding, interleaved rounds, medians.
"""

import argparse
import select
import socket
import ssl
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import monotonic

from accounting.db.engine import upgrade_database
from tests.integration.test_radsec_command import Streams
from tests.support.certificates import make_authority
from tests.support.daemon import cpu_s
from tests.support.radius import SECRET, request

CONNECTIONS, OUTSTANDING, ANSWER_BYTES = 4, 200, 20
PADDING = [(1, bytes(240))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="of each connection")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"udp": [], "tcp": [], "tls": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_authority(folder / "authority")
        service = Streams(folder, f"sqlite:///{folder}/tollbook.db", folder / "authority")
        upgrade_database(f"sqlite:///{folder}/tollbook.db")
        with service.running("receive"):
            for turn in range(asked.rounds):
                for kind, figures in found.items():
                    figures.append(measure(service, folder / "authority", kind, asked.requests, turn))
    cost = {kind: median(us for _, us in figures) for kind, figures in found.items()}
    for kind, figures in found.items():
        rate, ratio = median(rate for rate, _ in figures), cost[kind] / cost["udp"]
        print(f"{kind}: {rate:8,.0f} requests/s, receiver {cost[kind]:5.1f} us each, {ratio:.2f} of UDP")


def measure(service: Streams, authority: Path, kind: str, number: int, turn: int) -> tuple[float, float]:
    """Return requests per second, and the receiver's CPU for each in microseconds."""
    secret = b"radsec" if kind == "tls" else SECRET
    packets = [
        [request(secret, *PADDING, (40, 1), (44, f"{kind}-{turn}-{c}-{n}"), identifier=n % 256) for n in range(number)]
        for c in range(CONNECTIONS)
    ]
    pid = service.pid("receive")
    with ExitStack() as opened:
        clients = [opened.enter_context(_open(service, authority, kind)) for _ in range(CONNECTIONS)]
        before, begun = cpu_s(pid), monotonic()
        _exchange(clients, packets, kind)
        took, spent = monotonic() - begun, cpu_s(pid) - before
    return number * CONNECTIONS / took, spent / (number * CONNECTIONS) * 1e6


def _open(service: Streams, authority: Path, kind: str) -> socket.socket:
    if kind == "udp":
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(("127.0.0.1", service.port))
        return client
    client = socket.create_connection(("127.0.0.1", service.tls if kind == "tls" else service.tcp))
    if kind == "tcp":
        return client
    context = ssl.create_default_context(cafile=authority / "ca.pem")
    context.check_hostname = False
    context.load_cert_chain(authority / "proxy-1.example.net.pem", authority / "proxy-1.example.net.key")
    return context.wrap_socket(client)


def _exchange(clients: list[socket.socket], packets: list[list[bytes]], kind: str) -> None:
    """Send all packets, at most OUTSTANDING of each client unanswered, and read the answers."""
    place = {client.fileno(): n for n, client in enumerate(clients)}
    sent, answered = [0] * len(clients), [0] * len(clients)
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    while any(done < len(packets[n]) * ANSWER_BYTES for n, done in enumerate(answered)):
        for n, client in enumerate(clients):
            room = answered[n] // ANSWER_BYTES + OUTSTANDING
            some = packets[n][sent[n] : room]
            sent[n] += len(some)
            if kind == "udp":
                for packet in some:
                    client.send(packet)
            elif some:
                client.sendall(b"".join(some))
        events = poll.poll(5_000)
        assert events, "no answer for five seconds"
        for fd, _ in events:
            answered[place[fd]] += len(clients[place[fd]].recv(16384))


if __name__ == "__main__":
    main()
