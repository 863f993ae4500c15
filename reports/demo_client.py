"""Sends a day's reports to a receiver over UDP, as a proxy does: some at a time, each repeated until answered."""

import hmac
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import NamedTuple

from accounting.base.errors import TollbookError
from accounting.radius.packet import ACCOUNTING_REQUEST, ACCOUNTING_RESPONSE, HEADER_BYTES
from accounting.sample import Copies, Report, delayed

WINDOW = 64  # requests that wait for their answer at a time; a proxy has some for each of its worker processes
RETRY_S = 0.5
TRIES_MAX = 20
FAILED_OVER_S = 2  # what the proxy says that it waited for the first server
TICK_S = 0.05
REPLY_BYTES_MAX = 4096


@dataclass(slots=True, kw_only=True)
class Sent:
    """What was sent, and what came back."""

    reports: int = 0
    requests: int = 0  # the reports, some of them once more in another request
    datagrams: int = 0
    answered: int = 0  # requests
    twice: int = 0  # sent twice on purpose, the same datagram
    failed_over: int = 0  # sent once more on purpose, in another request
    repeated: int = 0  # sent again for want of an answer


class _Waiting(NamedTuple):
    datagram: bytes
    sent_at: float
    tries: int


def send(address: tuple[str, int], secret: bytes, reports: Sequence[Report], progress: Callable[[int], None]) -> Sent:
    """Send all reports in their order and return the counts; progress is told how many requests are answered.

    TollbookError if a request stays unanswered.
    """
    sent = Sent(reports=len(reports))
    due = deque(_requests(reports, sent))
    sent.requests = len(due)
    free = deque(range(WINDOW))
    waiting: dict[int, _Waiting] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(address)
        client.setblocking(False)
        while due or waiting:
            while due and free:
                attributes, copies = due.popleft()
                identifier = free.popleft()
                datagram = _signed(attributes, secret, identifier)
                waiting[identifier] = _Waiting(datagram, time.monotonic(), 1)
                for _ in range(copies):
                    _put(client, datagram, sent)
            _repeat(client, waiting, sent)
            if select.select([client], [], [], TICK_S)[0]:
                free.extend(_collect(client, secret, waiting))
            sent.answered = sent.requests - len(due) - len(waiting)
            progress(sent.answered)
    return sent


def _requests(reports: Sequence[Report], sent: Sent) -> list[tuple[bytes, int]]:
    """Return attributes of requests, and how often each is sent without waiting for its answer."""
    requests = []
    for report in reports:
        is_twice = report.copies is Copies.RETRANSMITTED
        requests.append((report.attributes, 2 if is_twice else 1))
        sent.twice += is_twice
        if report.copies is Copies.FAILED_OVER:
            requests.append((delayed(report, FAILED_OVER_S), 1))
            sent.failed_over += 1
    return requests


def _signed(attributes: bytes, secret: bytes, identifier: int) -> bytes:
    """Return the request with its Request Authenticator (RFC 2866 section 3)."""
    head = bytes([ACCOUNTING_REQUEST, identifier]) + (HEADER_BYTES + len(attributes)).to_bytes(2)
    return head + md5(head + bytes(16) + attributes + secret, usedforsecurity=False).digest() + attributes


def _is_answer(reply: bytes, asked: bytes, secret: bytes) -> bool:
    made = md5(reply[:4] + asked[4:20] + reply[20:] + secret, usedforsecurity=False).digest()
    return reply[:2] == bytes([ACCOUNTING_RESPONSE, asked[1]]) and hmac.compare_digest(made, reply[4:20])


def _repeat(client: socket.socket, waiting: dict[int, _Waiting], sent: Sent) -> None:
    now = time.monotonic()
    for identifier, (datagram, sent_at, tries) in waiting.items():
        if now - sent_at > RETRY_S:
            if tries == TRIES_MAX:
                raise TollbookError(f"the receiver has not answered a request in {TRIES_MAX} tries")
            waiting[identifier] = _Waiting(datagram, now, tries + 1)
            _put(client, datagram, sent)
            sent.repeated += 1


def _collect(client: socket.socket, secret: bytes, waiting: dict[int, _Waiting]) -> list[int]:
    """Take the replies that are there; return the identifiers that are free again."""
    done: list[int] = []
    while True:
        try:
            reply = client.recv(REPLY_BYTES_MAX)
        except (BlockingIOError, ConnectionRefusedError):
            return done
        asked = waiting.get(reply[1]) if len(reply) >= HEADER_BYTES else None
        if asked is not None and _is_answer(reply, asked.datagram, secret):  # of two equal replies the second is late
            del waiting[reply[1]]
            done.append(reply[1])


def _put(client: socket.socket, datagram: bytes, sent: Sent) -> None:
    try:
        client.send(datagram)
        sent.datagrams += 1
    except (BlockingIOError, ConnectionRefusedError):
        return  # it is repeated later
