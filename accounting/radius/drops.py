"""What a receiver drops or closes, counted in the metrics and told in the log without flooding it."""

from collections import Counter
from time import monotonic
from typing import Any

from accounting.base.log import get_logger
from accounting.base.metrics import Counter as Metric

SAY_EVERY_S = 10.0

log = get_logger("receiver")


class DropLog:
    """Counts what is dropped, and says so: the first of each reason at once, then a sum every ten seconds.

    metric: has the labels reason and client. words: what the log says.
    """

    def __init__(self, metric: Metric, words: str) -> None:
        self._metric = metric
        self._words = words
        self._counts: Counter[tuple[str, str]] = Counter()
        self._unsaid: dict[str, int] = {}
        self._last: dict[str, tuple[str, str, dict[str, str]]] = {}
        self._say_at: dict[str, float] = {}

    def add(self, reason: str, client: str, address: Any, **details: str) -> None:
        """Count one; the reason is a metric's label."""
        self._counts[reason, client] += 1
        self._last[reason] = client, address[0], details

    def count(self) -> None:
        """Bring the counts into the metrics."""
        if not self._counts:
            return
        for (reason, client), number in self._counts.items():
            self._metric.labels(reason, client).inc(number)
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
        client, host, details = self._last[reason]
        count = self._unsaid.pop(reason)
        log.warning(self._words, reason=reason, count=count, last_client=client, last_address=host, **details)
        self._say_at[reason] = now + SAY_EVERY_S
