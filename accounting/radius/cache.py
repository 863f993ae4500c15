"""Replies already given, for the repeats of a request (RFC 5080 section 2.2.2); bounded by age and by count.

Knows nothing of requests that still wait for their commit: the receiver does. Time is passed in.
"""


class ReplyCache:
    """Replies by key in two generations: an entry lives `keep_s` to twice that, less when `entries_max` is reached.

    Keys and replies are bytes, so the garbage collector has nothing to follow, and dropping the old is one step.
    """

    def __init__(self, keep_s: float, entries_max: int) -> None:
        self._keep_s = keep_s
        self._half = max(1, entries_max // 2)
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._turn_at: float | None = None

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> bytes | None:
        """Return the reply given to this key, or None."""
        return self._young.get(key) or self._old.get(key)

    def put(self, replies: dict[bytes, bytes], now_s: float) -> None:
        """Keep the replies of one batch; `now_s` is any clock that only goes forward."""
        if self._turn_at is None:
            self._turn_at = now_s + self._keep_s
        self.expire(now_s)
        self._young.update(replies)
        if len(self._young) > self._half:
            self._turn(now_s)

    def expire(self, now_s: float) -> None:
        """Forget what is too old."""
        if self._turn_at is None or now_s < self._turn_at:
            return
        late = now_s - self._turn_at >= self._keep_s
        self._turn(now_s)
        if late:
            self._old = {}

    def _turn(self, now_s: float) -> None:
        self._old, self._young = self._young, {}
        self._turn_at = now_s + self._keep_s
