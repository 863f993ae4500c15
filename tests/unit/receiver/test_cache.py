"""Replies kept for repeats."""

from accounting.radius.cache import ReplyCache


def test_a_reply_is_kept_at_least_as_long_as_asked_and_at_most_twice() -> None:
    cache = ReplyCache(keep_s=30, entries_max=100)
    cache.put({b"early": b"1"}, now_s=0)
    cache.put({b"late": b"2"}, now_s=29)
    cache.expire(now_s=45)
    assert (cache.get(b"early"), cache.get(b"late")) == (b"1", b"2")
    cache.expire(now_s=60)
    assert (cache.get(b"late"), len(cache)) == (b"2", 2)
    cache.expire(now_s=75)
    assert len(cache) == 0


def test_nothing_is_left_after_a_long_silence() -> None:
    cache = ReplyCache(keep_s=30, entries_max=100)
    cache.put({b"k": b"1"}, now_s=0)
    cache.expire(now_s=1000)
    assert cache.get(b"k") is None
    cache.put({b"k": b"2"}, now_s=1001)
    assert cache.get(b"k") == b"2"


def test_its_size_is_bounded_and_the_oldest_go_first() -> None:
    cache = ReplyCache(keep_s=30, entries_max=100)
    for number in range(1000):
        cache.put({b"%d" % number: b"r"}, now_s=1)
        assert len(cache) <= 102
    assert cache.get(b"999") == b"r"
    assert cache.get(b"960") == b"r"
    assert cache.get(b"0") is None
