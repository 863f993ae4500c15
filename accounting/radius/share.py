"""What one client takes up of a receiver, so that one that floods does not starve the others. One thread uses it."""

from collections import deque
from math import inf
from time import monotonic
from typing import Any


class Share:
    """One client's requests that wait, and what is left of its rate: a token bucket that holds a second's requests.

    waiting: those not stored yet; queue: those of them that no batch has taken. Costs nothing where there is no limit;
    the clock is read only where the tokens are used up.
    """

    __slots__ = ("_filled_at", "_per_s", "queue", "tokens", "waiting")

    def __init__(self, per_s: int = 0) -> None:
        self.waiting = 0
        self.queue: deque[Any] = deque()
        self.tokens = 0.0
        self._per_s = 0.0
        self._filled_at = 0.0
        self.limit(per_s)

    def limit(self, per_s: int) -> None:
        """Let it have so many requests in a second from now on, 0: as many as it likes."""
        per_s_now = float(per_s) or inf
        if per_s_now != self._per_s:
            self._per_s = self.tokens = per_s_now
            self._filled_at = monotonic()

    def refill(self) -> bool:
        """Return whether the time that has passed makes a token for one more request, and pays what is owed."""
        now = monotonic()
        tokens = min(self._per_s, self.tokens + (now - self._filled_at) * self._per_s)
        if tokens < 1:
            return False
        self.tokens = tokens
        self._filled_at = now
        return True


def in_turn(shares: deque[Share], at_most: int) -> list[Any]:
    """Take so many from the queues, the oldest of each first, as many of one as of another; leave who has more."""
    taken: list[Any] = []
    while shares and len(taken) < at_most:
        each = max(1, (at_most - len(taken)) // len(shares))
        for _ in range(min(len(shares), at_most - len(taken))):
            share = shares.popleft()
            queue = share.queue
            taken += [queue.popleft() for _ in range(min(each, len(queue)))]
            if queue:
                shares.append(share)
    return taken
