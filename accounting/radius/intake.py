"""From a datagram to a row for the journal and the reply that waits for its commit: verify, tell repeats, bound.

Does not translate, decode or judge what a request says; every verified one is stored and answered. Does no waiting.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple, Protocol

from accounting.base.clock import now_us
from accounting.db.append import NewRow
from accounting.radius import metrics
from accounting.radius.cache import ReplyCache
from accounting.radius.clients import Client, ClientTable, pack_host
from accounting.radius.drops import DropLog
from accounting.radius.packet import STATUS_SERVER, distrust, is_signed, packet_of, response_to
from accounting.radius.share import Share, in_turn

REPLIES_MAX = 200_000
"""Replies kept for repeats: about 250 bytes each."""
SENDERS_MAX = 50_000
"""Addresses whose client is remembered; beyond, all are looked up anew."""
UNKNOWN_CLIENT = "unknown_client"
"""Why a datagram of a stranger is dropped."""
_NOBODY = Share()


class Way(Protocol):
    """Where a reply goes back: a UDP socket, a connection. An address is opaque but for its first two: host, port."""

    def sendto(self, data: bytes, address: Any, /) -> int: ...


class Answer(NamedTuple):
    """What is sent once the request's row is committed: by which way, to whom, the cache's key, the reply."""

    way: Way
    address: Any
    key: bytes
    reply: bytes
    share: Share


class _Sender(NamedTuple):
    """Whose an address is, None: nobody's; the address as the journal keeps it; what the client takes up."""

    client: Client | None
    host: bytes
    share: Share


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
        self._pending_max = pending_max
        self.replace_clients(clients)
        self._clock = clock
        self._received_us = 0
        self._shares: dict[str, Share] = {}
        self._cache = ReplyCache(reply_cache_s, REPLIES_MAX)
        self._pending: set[bytes] = set()
        self._queued: deque[Share] = deque()
        self.drops = DropLog(metrics.DROPPED, "datagrams dropped")
        self.is_stuck = False  # nothing can be stored

    @property
    def pending(self) -> int:
        """How many verified requests wait for their commit."""
        return len(self._pending)

    def replace_clients(self, clients: ClientTable) -> None:
        """Verify by these from now on. One of several may use half of what may wait."""
        self.clients = clients
        self._client_pending_max = max(1, self._pending_max // 2) if len(clients) > 1 else self._pending_max
        self._senders: dict[str | tuple[Sequence[str], str], _Sender] = {}

    def client_at(self, host: str, names: Sequence[str] = ()) -> Client | None:
        """Return whose an address is, or of those with a certificate, whose the address and these names are."""
        return self._find(host, names).client

    def awaits_certified(self, host: str) -> bool:
        """Return whether somebody with a certificate may come from an address."""
        return self.clients.awaits_certified(host)

    def begin(self) -> None:
        """Take the time of arrival for what is taken next: one for all that was read at once."""
        self._received_us = self._clock()

    def has_room(self, host: str, names: Sequence[str] = ()) -> bool:
        """Return whether neither a client's rate nor what may wait is used up; a stranger's packet is to be told."""
        share = (self._senders.get((names, host) if names else host) or self._find(host, names)).share
        is_full = len(self._pending) >= self._pending_max or share.waiting >= self._client_pending_max
        return not is_full and (share.tokens >= 1 or share.refill())

    def take(self, datagram: bytes, way: Way, address: Any, names: Sequence[str] = (), connection: bytes = b"") -> str:
        """Answer a datagram as the repeat it is, put it with what waits for the next commit, or drop it.

        names: those of a certificate, over TLS. connection: the number of one over which nothing comes twice, so no
        limit drops it; its sender is held back instead, see has_room. Return why it was dropped, "" if it was not.
        """
        client, host, share = self._senders.get((names, address[0]) if names else address[0]) or self._find(
            address[0], names
        )
        if client is None:
            return self._drop(UNKNOWN_CLIENT, "", address)
        packet = packet_of(datagram)
        if isinstance(packet, str):
            return self._drop(packet, client.name, address)
        if packet[0] == STATUS_SERVER:
            return self._tell_status(packet, client, way, address)
        secret = _newest(client, packet) if client.secret_next else client.secret
        if not is_signed(packet, secret):
            return self._drop("bad_authenticator", client.name, address)
        if fault := distrust(packet, secret, required=client.must_authenticate):
            return self._drop(fault, client.name, address)
        peer = host + address[1].to_bytes(2)
        key = peer + packet[1:20] + connection  # id, length, authenticator
        reply = self._cache.get(key)
        if reply is not None:
            metrics.DUPLICATES.inc()
            _send(way, reply, address)
        elif key in self._pending:  # will be answered once, after its commit
            metrics.DUPLICATES.inc()
        elif (len(self._pending) >= self._pending_max or share.waiting >= self._client_pending_max) and not connection:
            return self._drop("overload", client.name, address)
        elif share.tokens < 1 and not share.refill() and not connection:
            return self._drop("rate_limit", client.name, address)
        else:
            share.tokens -= 1
            share.waiting += 1
            self._pending.add(key)
            if not share.queue:
                self._queued.append(share)
            row = (self._received_us, client.source_id, peer, packet)
            share.queue.append((row, Answer(way, address, key, response_to(packet, secret), share)))
        return ""

    def _tell_status(self, packet: bytes, client: Client, way: Way, address: Any) -> str:
        """Answer a Status-Server, but not while nothing can be stored: then the client is to go elsewhere."""
        fault = ""
        for secret in client.secrets:
            fault = distrust(packet, secret, required=True)
            if not fault:
                if not self.is_stuck:
                    metrics.STATUS.inc()
                    _send(way, response_to(packet, secret), address)
                return ""
        return self._drop(fault, client.name, address)

    def _drop(self, reason: str, client: str, address: Any) -> str:
        self.drops.add(reason, client, address)
        return reason

    def batch(self, at_most: int) -> tuple[list[NewRow], list[Answer]]:
        """Give rows that wait, the clients in turn and the oldest of each first, and their answers for `stored`."""
        taken = in_turn(self._queued, at_most)
        return [row for row, _ in taken], [answer for _, answer in taken]

    def stored(self, answers: list[Answer]) -> None:
        """Answer what is on stable storage now."""
        for way, address, _, reply, share in answers:
            _send(way, reply, address)
            share.waiting -= 1
        self._cache.put({answer.key: answer.reply for answer in answers}, monotonic())
        self._pending.difference_update([answer.key for answer in answers])
        metrics.ACKNOWLEDGED.inc(len(answers))

    def tidy(self, now: float) -> None:
        """Forget old replies and say what was dropped; once a second or so."""
        self._cache.expire(now)
        self.drops.report(now)
        metrics.PENDING.set(len(self._pending))

    def _find(self, host: str, names: Sequence[str]) -> _Sender:
        if len(self._senders) >= SENDERS_MAX:
            self._senders.clear()
        client = self.clients.find_certified(names, host) if names else self.clients.find(host)
        share = _NOBODY
        if client is not None:
            share = self._shares.setdefault(client.name, Share())
            share.limit(client.requests_per_s_max)
        sender = self._senders[(names, host) if names else host] = _Sender(client, pack_host(host), share)
        return sender


def _newest(client: Client, packet: bytes) -> bytes:
    """Return the newest secret that may have signed a packet, while a client changes from one to another."""
    if is_signed(packet, client.secret_next):
        return client.secret_next
    if is_signed(packet, client.secret):
        metrics.OLD_SECRET.labels(client.name).inc()
    return client.secret


def _send(way: Way, reply: bytes, address: Any) -> None:
    try:
        way.sendto(reply, address)
    except OSError:  # its buffer is full, or there is no way back: the client repeats and is answered from the cache
        metrics.UNSENT.inc()
