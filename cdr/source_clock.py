"""Whether a source's clock or time zone is off, by how long after its own times its reports arrive. Pure."""

from collections.abc import Sequence
from statistics import median, quantiles

from cdr.pairing_evidence import SECOND_US
from cdr.source_tally import ClockSample

SAMPLES_MIN = 5
AHEAD_US = 5 * SECOND_US  # a report from the future
BEHIND_US = 30 * SECOND_US  # later than retransmission and a collector's poll explain
SPREAD_US = 60 * SECOND_US  # more: a backlog is being read, which says nothing of clocks
DRIFT_US = 10 * SECOND_US
DRIFT_SPAN_US = 3600 * SECOND_US  # a shorter time shows no drift
ZONE_US = 1800 * SECOND_US
ZONE_SLACK_US = 90 * SECOND_US


def clock_findings(samples: Sequence[ClockSample], *, is_local: bool) -> list[tuple[str, int, str]]:
    """Return (code, reports, words); is_local: the times are local ones, read by the collector's time zone."""
    if len(samples) < SAMPLES_MIN:
        return []
    ordered = sorted(samples)
    third = max(SAMPLES_MIN, len(ordered) // 3)
    first, last = ordered[:third], ordered[-third:]
    if _spread(last) > SPREAD_US:
        return []
    late_us = _middle(last)
    drift = _drift(first, last)
    if -AHEAD_US <= late_us <= BEHIND_US:
        return [("clock_off", len(last), f"the clock{drift}")] if drift else []
    steps = round(late_us / ZONE_US)
    if steps and abs(late_us - steps * ZONE_US) <= ZONE_SLACK_US:
        return [("zone_off", len(last), _zone_words(steps, is_local=is_local))]
    side = "behind" if late_us > 0 else "ahead"
    return [("clock_off", len(last), f"the clock is {_time(late_us)} {side}{' and' + drift if drift else ''}")]


def _zone_words(steps: int, *, is_local: bool) -> str:
    shift = _time(steps * ZONE_US)
    side = "before" if steps > 0 else "after"
    if not is_local:
        return f"events are dated {shift} {side} they arrive: the clock runs on another zone's time"
    east = "west" if steps > 0 else "east"
    return (
        f"rows are dated {shift} {side} they are read: the proxy's zone lies {shift} {east} of the one in the settings"
    )


def _drift(first: Sequence[ClockSample], last: Sequence[ClockSample]) -> str:
    """Return by how much the clock goes wrong, "" if it does not or that cannot be told."""
    span_us = int(median(s.received_us for s in last) - median(s.received_us for s in first))
    change_us = _middle(last) - _middle(first)
    if span_us < DRIFT_SPAN_US or abs(change_us) < DRIFT_US or _spread(first) > SPREAD_US:
        return ""
    return f" {'loses' if change_us > 0 else 'gains'} {_time(change_us)} in {_time(span_us)}"


def _middle(samples: Sequence[ClockSample]) -> int:
    return int(median(sample.late_us for sample in samples))


def _spread(samples: Sequence[ClockSample]) -> int:
    """Return how far the middle half of the samples lies apart."""
    low, _, high = quantiles((sample.late_us for sample in samples), n=4)
    return int(high - low)


def _time(us: int) -> str:
    seconds = abs(us) // SECOND_US
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{left} s" if left else ""]
    return " ".join(part for part in parts if part) or "0 s"
