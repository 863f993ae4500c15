"""Reports of a proxy without a fault, and with one: for tests of what `tollbook check sources` finds."""

import json
from collections.abc import Iterable
from typing import Any

from accounting.event import Source
from accounting.sources import translate
from cdr.source_findings import Expected, Finding, findings
from cdr.source_tally import Seen, tally
from tests.support.radius import SECRET, Attribute, request
from tests.unit.sources.rows import PEER, Row

T0 = 1_795_500_000  # 2026-11-24T06:00:00Z
HOUR = 3600
START, STOP, FAILED = 1, 2, 15
OPENSIPS = Source(id=1, name="proxy-1", dialects=("opensips",), own_addresses=("192.0.2.9",))
KAMAILIO = OPENSIPS._replace(id=2, name="proxy-2", dialects=("kamailio",))
GATEWAY = Source(id=3, name="gateway", dialects=("generic",), identify_by=("auth_user",))
ACC = Source(id=4, name="acc-1", kind="sql", dialects=("opensips",), own_addresses=("192.0.2.9",), timezone="UTC")
CDRS = Source(id=5, name="cdrs", kind="sql", dialects=("kamailio-cdrs",), timezone="UTC")
RADACCT = Source(id=6, name="radacct", kind="sql", dialects=("radacct",), timezone="UTC")
RELAY = Source(id=7, name="relay-1", kind="media", dialects=("rtpengine",))

Report = tuple[int, bytes]
"""Seconds after T0 at which it arrives, and what arrives."""


def packet(at: int, *attributes: Attribute, without: Iterable[int] = (), late: int = 0, **changed: Any) -> Report:
    """Return a report of these attributes, arriving `late` seconds after its own time; `_55=0` changes number 55."""
    known = dict(attributes)
    known |= {55: T0 + at, 4: b"\xc0\x00\x02\x09"} | {int(name[1:]): value for name, value in changed.items()}
    return at + late, request(SECRET, *((n, v) for n, v in known.items() if n not in set(without)))


def invite(call: str, at: int, status: int = START, code: int = 200, **changed: Any) -> Report:
    """Return an INVITE's report as the how-to page of OpenSIPS sets it up."""
    return packet(
        at, (40, status), (204, 1), (205, code), (206, "f"), (207, "t"), (44, call), (1, "alice"),
        (31, "sip:alice@lab.example"), (30, "sip:+4930@lab.example"), (216, "sip:+4930@lab.example"),
        (107, "sip:+4930@198.51.100.7"), (214, "192.0.2.10"), **changed,
    )  # fmt: skip


def bye(call: str, at: int, **changed: Any) -> Report:
    return packet(at, (40, STOP), (204, 8), (205, 200), (206, "f"), (207, "t"), (44, call), **changed)


def complete(call: str, at: int, lasted: int = 60, **changed: Any) -> Report:
    """Return the record of OpenSIPS' CDR mode, sent at the end of the call."""
    changed.setdefault("late", lasted)
    return invite(call, at, STOP, 0, **{"_227": lasted, "_230": lasted * 1000, **changed})


def session(call: str, at: int, status: int, **changed: Any) -> Report:
    return packet(at, (40, status), (44, call), (1, "alice"), (30, "+4930"), (31, "+4940"), **changed)


def row(table: str, at: int, late: int = 0, full: tuple[str, ...] = (), **values: Any) -> Report:
    """Return a collector's row."""
    return at + late, json.dumps({"table": table, "row": values, "full": full}).encode()


def acc(call: str, method: str, at: int, late: int = 1, **values: Any) -> Report:
    hours, rest = divmod(6 * HOUR + at, HOUR)
    known = {
        "method": method, "callid": call, "from_tag": "f", "to_tag": "t", "sip_code": "200", "src_ip": "192.0.2.10",
        "time": f"2026-11-24 {hours:02d}:{rest // 60:02d}:{rest % 60:02d}", "src_user": "alice", "dst_ouser": "+4930",
    }  # fmt: skip
    return row("acc", at, late, **{**known, **values})


def calls(number: int, **changed: Any) -> list[Report]:
    """Return answered calls of a minute each, one a minute."""
    reports = []
    for n in range(number):
        reports += [invite(f"c{n}", n * 60, **changed), bye(f"c{n}", n * 60 + 30)]
    return reports


def seen(source: Source, reports: Iterable[Report]) -> list[Seen]:
    rows = [Row(n, (T0 + at) * 1_000_000, source.id, PEER, raw) for n, (at, raw) in enumerate(reports, 1)]
    return [Seen(one, source, translate(one, source)) for one in rows]


def found(
    *sources: tuple[Source, Iterable[Report]], expected: Iterable[Expected] = (), whole: bool = True
) -> list[Finding]:
    """Return the findings, half a day after T0."""
    every = [one for source, reports in sources for one in seen(source, reports)]
    return findings(tally(every), list(expected), is_whole=whole, now_us=(T0 + 12 * HOUR) * 1_000_000)


def codes(source: Source, reports: Iterable[Report]) -> dict[str, Finding]:
    return {finding.code: finding for finding in found((source, reports))}
