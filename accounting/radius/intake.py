"""From a datagram to a row for the journal and the reply that waits for its commit: verify, tell repeats, bound.

Does not translate, decode or judge what a request says; every verified one is stored and answered. Does no waiting.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, Protocol

from accounting.base.clock import now_us
from accounting.db.append import NewRow
from accounting.radius import metrics
from accounting.radius.cache import ReplyCache
from accounting.radius.clients import Client, ClientTable, pack_host
from accounting.radius.drops import DropLog
from accounting.radius.packet import STATUS_SERVER, is_authentic, is_signed, packet_of, response_to

REPLIES_MAX = 200_000
"""Replies kept for repeats: about 250 bytes each."""
HOSTS_MAX = 50_000
"""Addresses whose client is remembered; beyond, all are looked up anew."""


class Way(Protocol):
    """Where a reply goes back: a UDP socket, a connection. An address is opaque but for its first two: host, port."""

    def sendto(self, data: bytes, address: Any, /) -> int: ...


class Answer(NamedTuple):
    """What is sent once the request's row is committed: by which way, to whom, the cache's key, the reply."""

    way: Way
    address: Any
    key: bytes
    reply: bytes


class Intake:
    """Verified requests that wait for their commit, and the replies already given. One thread uses it."""

    def __init__(
        self,
        clients: ClientTable,
        *,
        pending_max: int = 100_000,
        reply_cache_s: float = 30,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._clients = clients
        self._pending_max = pending_max
        self._clock = clock
        self._received_us = 0
        self._hosts: dict[str, tuple[Client | None, bytes]] = {}
        self._cache = ReplyCache(reply_cache_s, REPLIES_MAX)
        self._pending: set[bytes] = set()
        self._rows: list[NewRow] = []
        self._answers: list[Answer] = []
        self.drops = DropLog()
        self.is_stuck = False  # nothing can be stored

    @property
    def pending(self) -> int:
        """How many verified requests wait for their commit."""
        return len(self._pending)

    def replace_clients(self, clients: ClientTable) -> None:
        """Verify by these from now on."""
        self._clients = clients
        self._hosts.clear()

    def begin(self) -> None:
        """Take the time of arrival for what is taken next: one for all that was read at once."""
        self._received_us = self._clock()

    def take(self, datagram: bytes, way: Way, address: Any) -> None:
        """Drop a datagram, answer it as the repeat it is, or put it with what waits for the next commit."""
        client, host = self._hosts.get(address[0]) or self._find(address[0])
        if client is None:
            self.drops.add("unknown_client", "", address)
            return
        packet = packet_of(datagram)
        if isinstance(packet, str):
            self.drops.add(packet, client.name, address)
            return
        if packet[0] == STATUS_SERVER:
            self._tell_status(packet, client, way, address)
            return
        secret = client.secret_next
        if not secret or not is_signed(packet, secret):
            secret = client.secret
            if not is_signed(packet, secret):
                self.drops.add("bad_authenticator", client.name, address)
                return
            if client.secret_next:
                metrics.OLD_SECRET.labels(client.name).inc()
        if not is_authentic(packet, secret, required=client.must_authenticate):
            self.drops.add("bad_message_authenticator", client.name, address)
            return
        peer = host + address[1].to_bytes(2)
        key = peer + packet[1:20]  # id, length, authenticator
        reply = self._cache.get(key)
        if reply is not None:
            metrics.DUPLICATES.inc()
            _send(way, reply, address)
        elif key in self._pending:  # will be answered once, after its commit
            metrics.DUPLICATES.inc()
        elif len(self._pending) >= self._pending_max:
            self.drops.add("overload", client.name, address)
        else:
            self._pending.add(key)
            self._rows.append((self._received_us, client.source_id, peer, packet))
            self._answers.append(Answer(way, address, key, response_to(packet, secret)))

    def _tell_status(self, packet: bytes, client: Client, way: Way, address: Any) -> None:
        """Answer a Status-Server, but not while nothing can be stored: then the client is to go elsewhere."""
        for secret in filter(None, (client.secret, client.secret_next)):
            if is_authentic(packet, secret, required=True):
                if not self.is_stuck:
                    metrics.STATUS.inc()
                    _send(way, response_to(packet, secret), address)
                return
        self.drops.add("bad_message_authenticator", client.name, address)

    def batch(self, at_most: int) -> tuple[list[NewRow], list[Answer]]:
        """Give the rows that wait, the oldest first, and their answers for `stored`."""
        rows, answers = self._rows, self._answers
        if len(rows) <= at_most:
            self._rows, self._answers = [], []
            return rows, answers
        self._rows, self._answers = rows[at_most:], answers[at_most:]
        return rows[:at_most], answers[:at_most]

    def stored(self, answers: list[Answer]) -> None:
        """Answer what is on stable storage now."""
        for way, address, _, reply in answers:
            _send(way, reply, address)
        self._cache.put({answer.key: answer.reply for answer in answers}, monotonic())
        self._pending.difference_update([answer.key for answer in answers])
        metrics.ACKNOWLEDGED.inc(len(answers))

    def tidy(self, now: float) -> None:
        """Forget old replies and say what was dropped; once a second or so."""
        self._cache.expire(now)
        self.drops.report(now)
        metrics.PENDING.set(len(self._pending))

    def _find(self, host: str) -> tuple[Client | None, bytes]:
        if len(self._hosts) >= HOSTS_MAX:
            self._hosts.clear()
        found = self._clients.find(host), pack_host(host)
        self._hosts[host] = found
        return found


def _send(way: Way, reply: bytes, address: Any) -> None:
    try:
        way.sendto(reply, address)
    except OSError:  # its buffer is full, or there is no way back: the client repeats and is answered from the cache
        metrics.UNSENT.inc()
