"""Journal rows, sources and captured traffic for tests of translation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from accounting.event import AccountingEvent, Source, Untranslatable
from accounting.sources import translate
from tests.support.radius import SECRET, Attribute, request

DATA = Path(__file__).parents[2] / "data"
CORPUS = DATA / "corpus"
ARRIVED = 1_800_000_000  # seconds; what the small packets below arrive at
ARRIVED_US = ARRIVED * 1_000_000
PEER = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 9]) + (40_000).to_bytes(2)  # IPv4-mapped, and the port

STATUS, METHOD, CODE, TO_TAG, FROM_TAG, CALL_ID, STAMP = 40, 101, 102, 104, 105, 44, 55
START, STOP, INTERIM, FAILED = (STATUS, 1), (STATUS, 2), (STATUS, 3), (STATUS, 15)
INVITE, CANCEL, BYE = (METHOD, 1), (METHOD, 2), (METHOD, 8)
NOW = (STAMP, ARRIVED - 2)
TAGS: tuple[Attribute, ...] = ((FROM_TAG, "f"), (TO_TAG, "t"))
CALL: tuple[Attribute, ...] = ((CALL_ID, "c1"), NOW, *TAGS)


class Row(NamedTuple):
    ref: int
    received_us: int
    source_id: int
    peer: bytes
    raw: bytes


def row(raw: bytes, *, received_us: int = ARRIVED_US, peer: bytes = PEER) -> Row:
    return Row(7, received_us, 1, peer, raw)


def source(*dialects: str, **settings: Any) -> Source:
    return Source(id=1, name="lab", dialects=dialects or ("kamailio",), **settings)


def told(*attributes: Attribute, by: Source | None = None) -> AccountingEvent | Untranslatable:
    """Return what becomes of one packet of these attributes (classic numbers, unless the source says otherwise)."""
    return translate(row(request(SECRET, *attributes)), by or source())


def event(*attributes: Attribute, by: Source | None = None) -> AccountingEvent:
    got = told(*attributes, by=by)
    assert isinstance(got, AccountingEvent), got
    return got


def refused(*attributes: Attribute, by: Source | None = None) -> str:
    got = told(*attributes, by=by)
    assert isinstance(got, Untranslatable), got
    return got.reason


class Capture(NamedTuple):
    """A scenario's datagrams, with what its calls really did."""

    proxy: str
    scenario: str
    rows: tuple[Row, ...]
    calls: tuple[dict[str, Any], ...]

    @property
    def source(self) -> Source:
        dialect = self.proxy.split("-")[0]
        dictionary = {"kamailio-dd1": "opensips", "opensips-tx-dd1": "classic"}.get(self.proxy, "")
        return source(
            {"radclient": "generic"}.get(dialect, dialect), dictionary=dictionary, own_addresses=("127.0.0.1",)
        )

    def events(self) -> Iterator[AccountingEvent]:
        for captured in self.rows:
            got = translate(captured, self.source)
            assert isinstance(got, AccountingEvent), got
            yield got


def captures() -> list[Capture]:
    return [_capture(path) for path in sorted(CORPUS.glob("**/radius.jsonl"))]


def _capture(path: Path) -> Capture:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = [
        row(bytes.fromhex(line["hex"]), received_us=int(line["recv_epoch"] * 1_000_000))._replace(ref=place)
        for place, line in enumerate(lines, 1)
    ]
    truth = path.parent / "truth.json"
    calls = json.loads(truth.read_text("utf-8"))["calls"] if truth.exists() else []
    return Capture(path.relative_to(CORPUS).parts[0], path.parent.name, tuple(rows), tuple(calls))
