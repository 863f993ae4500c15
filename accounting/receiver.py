"""The receiver: datagrams in, verified, into the journal, and only after the commit the reply.

Does not translate, decode or judge what a request says; every verified one is stored and answered.
"""

import os
import select
from collections import Counter
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Any

from accounting.base.clock import now_us
from accounting.base.log import get_logger
from accounting.db.append import NewRow
from accounting.journal import JournalUnavailable, JournalWriter
from accounting.radius import metrics
from accounting.radius.cache import ReplyCache
from accounting.radius.clients import Client, ClientTable, pack_host
from accounting.radius.packet import PACKET_BYTES_MAX, is_authentic, is_signed, packet_of, response_to
from accounting.radius.udp import Bound

DRAIN_MAX = 256
"""Datagrams read before a finished commit is looked after: 256 take about 2.5 ms."""
REPLIES_MAX = 200_000
"""Replies kept for repeats: about 250 bytes each."""
HOSTS_MAX = 50_000
"""Addresses whose client is remembered; beyond, all are looked up anew."""
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 5.0
TIDY_S = 1.0
DROP_LOG_S = 10.0

log = get_logger("receiver")


Answer = tuple[Bound, Any, bytes, bytes]
"""What is sent once the request's row is committed: socket, address as recvfrom gave it, cache key, reply."""


class Receiver:
    """Reads its sockets and answers what the journal has taken. One thread calls step(); another one commits."""

    def __init__(
        self,
        sockets: Sequence[Bound],
        clients: ClientTable,
        writer: JournalWriter,
        *,
        batch_max: int = 256,
        pending_max: int = 100_000,
        reply_cache_s: float = 30,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._sockets = {bound.fileno(): bound for bound in sockets}
        self._clients = clients
        self._clock = clock
        self._batch_max = batch_max
        self._pending_max = pending_max
        self._hosts: dict[str, tuple[Client | None, bytes]] = {}
        self._cache = ReplyCache(reply_cache_s, REPLIES_MAX)
        self._pending: set[bytes] = set()
        self._rows: list[NewRow] = []
        self._answers: list[Answer] = []
        self._in_commit: list[Answer] = []
        self._drops = DropLog()
        self._tidy_at = 0.0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.epoll()
        for fd in (*self._sockets, self._wake):
            self._poll.register(fd, select.EPOLLIN)
        self._committer = Committer(writer, self.wake)

    @property
    def pending(self) -> int:
        """How many verified requests wait for their commit."""
        return len(self._pending)

    def wake(self) -> None:
        """Make a waiting step() return; safe in a signal handler and in other threads."""
        os.eventfd_write(self._wake, 1)

    def step(self, wait_s: float = TIDY_S) -> None:
        """Wait until something arrives or a commit ends, at most wait_s, and do what there is to do."""
        ready = dict(self._poll.poll(wait_s))
        if ready.pop(self._wake, 0):  # read before looking for an ended commit: the next one may wake again at once
            os.eventfd_read(self._wake)
        self._settle()
        self._submit()
        for fd in ready:
            self._receive(self._sockets[fd])
            self._settle()
            self._submit()
        self._drops.count()
        now = monotonic()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_S
            self._cache.expire(now)
            self._drops.report(now)
            metrics.PENDING.set(len(self._pending))

    def drain(self, at_most_s: float) -> int:
        """Read no more, commit and answer what was taken; return how many requests had to be left unanswered."""
        for fd in self._sockets:
            self._poll.unregister(fd)
        end = monotonic() + at_most_s
        while self._pending and (left := end - monotonic()) > 0:
            self.step(min(left, TIDY_S))
        self._committer.stop()
        self._drops.report(None)
        return len(self._pending)

    def close(self) -> None:
        """Close everything but the sockets, which the caller opened."""
        self._committer.stop()
        self._poll.close()
        self._committer.join(RETRY_FIRST_S)
        if not self._committer.is_alive():  # else it may still want to wake us
            os.close(self._wake)

    def _receive(self, bound: Bound) -> None:
        """Read what is there, at most DRAIN_MAX datagrams, and put what is verified and new with what waits.

        All are given one time of arrival: they came within the last 3 ms.
        """
        recvfrom, hosts, pending, drops = bound.recvfrom, self._hosts, self._pending, self._drops
        received_us = self._clock()
        received = duplicates = 0
        for _ in range(DRAIN_MAX):
            try:
                datagram, address = recvfrom(PACKET_BYTES_MAX)  # octets beyond are padding, or it is oversized
            except BlockingIOError:
                break
            except OSError:  # an ICMP error of an earlier reply
                continue
            received += 1
            client, host = hosts.get(address[0]) or self._find(address[0])
            if client is None:
                drops.add("unknown_client", "", address)
                continue
            packet = packet_of(datagram)
            if isinstance(packet, str):
                drops.add(packet, client.name, address)
                continue
            if not is_signed(packet, client.secret):
                drops.add("bad_authenticator", client.name, address)
                continue
            if not is_authentic(packet, client.secret):
                drops.add("bad_message_authenticator", client.name, address)
                continue
            peer = host + address[1].to_bytes(2)
            key = peer + packet[1:20]  # id, length, authenticator
            reply = self._cache.get(key)
            if reply is not None:
                duplicates += 1
                _send(bound, reply, address)
            elif key in pending:  # will be answered once, after its commit
                duplicates += 1
            elif len(pending) >= self._pending_max:
                drops.add("overload", client.name, address)
            else:
                pending.add(key)
                self._rows.append((received_us, client.source_id, peer, packet))
                self._answers.append((bound, address, key, response_to(packet, client.secret)))
        metrics.RECEIVED.inc(received)
        if duplicates:
            metrics.DUPLICATES.inc(duplicates)

    def _find(self, host: str) -> tuple[Client | None, bytes]:
        if len(self._hosts) >= HOSTS_MAX:
            self._hosts.clear()
        found = self._clients.find(host), pack_host(host)
        self._hosts[host] = found
        return found

    def _submit(self) -> None:
        """Hand what waits to the committer, if it has nothing to do."""
        if not self._rows or self._in_commit:
            return
        if len(self._rows) <= self._batch_max:
            rows, self._rows = self._rows, []
            self._in_commit, self._answers = self._answers, []
        else:
            rows, self._rows = self._rows[: self._batch_max], self._rows[self._batch_max :]
            self._in_commit, self._answers = self._answers[: self._batch_max], self._answers[self._batch_max :]
        self._committer.submit(rows)

    def _settle(self) -> None:
        """Answer the batch whose commit has ended, if one has."""
        if not self._committer.take_done():
            return
        answers, self._in_commit = self._in_commit, []
        self._submit()  # the next commit runs while these are answered
        for bound, address, _, reply in answers:
            _send(bound, reply, address)
        self._cache.put({key: reply for _, _, key, reply in answers}, monotonic())
        self._pending.difference_update([key for _, _, key, _ in answers])
        metrics.ACKNOWLEDGED.inc(len(answers))


class Committer(Thread):
    """Appends one batch at a time to the journal, again and again until it is stored or nobody wants it any more."""

    def __init__(self, writer: JournalWriter, wake: Callable[[], None]) -> None:
        super().__init__(name="committer", daemon=True)
        self._writer = writer
        self._wake = wake
        self._batches: SimpleQueue[list[NewRow] | None] = SimpleQueue()
        self._done = False
        self._failure: BaseException | None = None
        self._stopped = Event()
        self.start()

    def submit(self, rows: list[NewRow]) -> None:
        """Take a batch; the one before must be done."""
        self._batches.put(rows)

    def take_done(self) -> bool:
        """Return, once, whether the batch is stored; raise what ended this thread, if something did."""
        if self._failure is not None:
            raise self._failure
        if not self._done:
            return False
        self._done = False  # not before it was seen: the thread sets it only after the next submit
        return True

    def stop(self) -> None:
        """Begin nothing new, and give up on a database that is away."""
        self._stopped.set()
        self._batches.put(None)

    def run(self) -> None:
        try:
            while (rows := self._batches.get()) is not None and self._store(rows):
                self._done = True
                self._wake()
        except BaseException as failure:  # noqa: BLE001 - a bug of ours: step() raises it, and the process ends
            self._failure = failure
            self._wake()
        finally:
            self._writer.close()

    def _store(self, rows: list[NewRow]) -> bool:
        wait_s = RETRY_FIRST_S
        failures = 0
        while not self._stopped.is_set():
            began = monotonic()
            try:
                self._writer.append(rows)
            except JournalUnavailable as error:
                failures += 1
                metrics.COMMIT_FAILURES.inc()
                if failures == 1:
                    log.error("journal is away: nothing is answered until it is back", cause=str(error))
                self._stopped.wait(wait_s)
                wait_s = min(wait_s * 2, RETRY_LAST_S)
                continue
            metrics.BATCHES.inc()
            metrics.COMMIT_SECONDS.observe(monotonic() - began)
            if failures:
                log.warning("journal is back", failures=failures)
            return True
        return False


class DropLog:
    """Counts what is dropped, and says so: the first of each reason at once, then a sum every ten seconds."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._unsaid: dict[str, int] = {}
        self._last: dict[str, tuple[str, str]] = {}
        self._say_at: dict[str, float] = {}

    def add(self, reason: str, client: str, address: Any) -> None:
        """Count one; the reason is a metric's label."""
        self._counts[reason, client] += 1
        self._last[reason] = client, address[0]

    def count(self) -> None:
        """Bring the counts into the metrics."""
        if not self._counts:
            return
        for (reason, client), number in self._counts.items():
            metrics.DROPPED.labels(reason, client).inc(number)
            self._unsaid[reason] = self._unsaid.get(reason, 0) + number
        self._counts.clear()
        now = monotonic()
        for reason in list(self._unsaid):
            if reason not in self._say_at:
                self._say(reason, now)

    def report(self, now: float | None) -> None:
        """Say the sums whose ten seconds are over; all of them with None."""
        self.count()
        for reason in list(self._unsaid):
            if now is None or now >= self._say_at[reason]:
                self._say(reason, now or 0.0)

    def _say(self, reason: str, now: float) -> None:
        client, host = self._last[reason]
        log.warning(
            "datagrams dropped", reason=reason, count=self._unsaid.pop(reason), last_client=client, last_address=host
        )
        self._say_at[reason] = now + DROP_LOG_S


def _send(bound: Bound, reply: bytes, address: Any) -> None:
    try:
        bound.sendto(reply, address)
    except OSError:  # its buffer is full, or there is no way back: the client repeats and is answered from the cache
        metrics.UNSENT.inc()
