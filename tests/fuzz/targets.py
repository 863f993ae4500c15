"""What reads octets from outside, each as a function of octets that raises if anything but the defined comes of them.

One set of targets for three users: hypothesis in `make test`, the finds kept in tests/data/fuzz, and `make fuzz`.
"""

import io
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from accounting.base.errors import TollbookError
from accounting.event import AccountingEvent, EventKind, Source, Untranslatable, group_key, key_hash
from accounting.journal import JournalRow
from accounting.radius.capture import datagrams
from accounting.radius.capture_file import CaptureError, read_frames
from accounting.radius.clients import Client, ClientTable, network_of
from accounting.radius.dictionary import _decode_table, decode_table
from accounting.radius.intake import Intake
from accounting.radius.packet import PACKET_BYTES_MAX, packet_of, packets_of, verified
from accounting.sources import translate
from accounting.sources.rtpengine import is_cdr_line
from accounting.trace import Wanted, block, packets_of_hex, told_of_packet, told_of_row
from tests.support.radius import SECRET, sign

NOW_US = 1_800_000_000_000_000
PEER = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 9]) + (40_000).to_bytes(2)
TEXT_MAX = 4 * 253  # octets of an attribute's value, each perhaps written as \xNN
PER_OCTET = 120
"""Characters that may be shown for an octet: an empty attribute has two, and a line with its name."""
CLIENT = Client("fuzzed", network_of("192.0.2.0/24"), SECRET, 1, b"next-secret")
STRICT = Client("strict", network_of("198.51.100.0/24"), SECRET, 2, must_authenticate=True)
PORTS = frozenset({1813})

RADIUS = tuple(
    Source(id=1, name="fuzzed", dialects=dialects, dictionary=dictionary, own_addresses=("127.0.0.1", "10.0.0.0/8"))
    for dialects, dictionary in (
        (("opensips",), ""), (("kamailio",), ""), (("mediaproxy", "opensips"), "classic"), (("generic",), "opensips"),
        (("opensips", "kamailio", "mediaproxy", "cisco", "asterisk", "freeswitch", "generic"), ""),
    )
)  # fmt: skip
SQL = tuple(
    Source(id=1, name="fuzzed", kind="sql", dialects=(flavour,), timezone=zone, columns=columns)
    for flavour, zone, columns in (
        ("opensips", "Europe/Berlin", ("caller=src_user", "called=dst_ouser")), ("kamailio-cdrs", "UTC", ()),
        ("radacct", "America/New_York", ("caller=x",)),
    )
)  # fmt: skip
MEDIA = Source(id=1, name="fuzzed", kind="media", dialects=("rtpengine",))
OPERATOR = Source(id=1, name="operator", kind="operator", dialects=())


class _Way:
    """Takes what is answered."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, _address: Any, /) -> int:
        self.sent.append(data)
        return len(data)


def datagram(octets: bytes) -> None:
    """A datagram goes through the receiver's intake: stored as it is, or dropped, and answered by no more than 4096."""
    intake, way = Intake(ClientTable([CLIENT, STRICT])), _Way()
    for host in ("192.0.2.9", "198.51.100.9", "203.0.113.9"):
        intake.take(octets, way, (host, 40_000))
        intake.take(octets, way, (host, 40_000))
    rows, answers = intake.batch(100)
    intake.stored(answers)
    assert len(rows) == len(answers) <= 2
    assert all(octets.startswith(row[3]) for row in rows)
    assert all(20 <= len(reply) <= PACKET_BYTES_MAX for reply in way.sent)
    packet = packet_of(octets)
    assert isinstance(packet, str) or octets.startswith(packet)
    kept = verified(octets, CLIENT.secrets)
    assert (isinstance(kept, bytes)) == any(row[1] == CLIENT.source_id for row in rows)


def stream(octets: bytes) -> None:
    """A stream is the same packets however it arrives: at once, or in parts whose size its first octet tells."""
    size, sent = 1 + (octets[0] if octets else 0), octets[1:]
    packets, rest = packets_of(sent)
    found, left, at = [], b"", 0
    while at < len(sent):
        some, now = packets_of(left + sent[at : at + size])
        found, at = found + some, at + size
        if isinstance(now, str):
            assert now == rest
            break
        left = now
        assert len(left) < PACKET_BYTES_MAX
    else:
        assert left == rest
    assert found == packets
    for packet in packets[:20]:
        datagram(packet)


def attributes(octets: bytes) -> None:
    """Attributes of a request that is signed get through, are translated or not, and are shown."""
    request = sign(octets[: PACKET_BYTES_MAX - 20], SECRET)
    datagram(request)
    for source in RADIUS:
        _report(request, source)
        _report(octets, source)


def capture(octets: bytes) -> None:
    """A capture file gives datagrams that it holds, or is refused."""
    counts: Counter[str] = Counter()
    total = 0
    try:
        for found in datagrams(read_frames(io.BytesIO(octets), counts), PORTS, counts):
            total += len(found.payload)
            told_of_packet(found.payload, RADIUS[0], CLIENT, at_us=found.at_us, peer=found.source)
    except CaptureError:
        return
    assert total <= len(octets)
    assert all(name in ("cut", "fragments", "tcp", "torn", "unknown_link") for name in counts)
    assert counts.total() <= len(octets)


def captured_frame(octets: bytes) -> None:
    """The same octets as a frame of each link type, and as an IP packet whose ports fit."""
    for link_type in (0, 1, 12, 101, 108, 113, 276):
        capture(_pcap(octets, link_type))
    capture(_pcap(b"\x45\x00" + octets, 101))
    capture(_pcap(b"\x60\x00\x00\x00" + octets, 101))


def dictionary(octets: bytes) -> None:
    """A dictionary's text gives a table or is refused with a sentence."""
    text = octets.decode("utf-8", "replace")
    _decode_table.cache_clear()
    with suppress(TollbookError):
        assert len(decode_table(text, "opensips").entries) == 256


def sql_row(octets: bytes) -> None:
    """What a collector journalled, whatever it is."""
    for source in SQL:
        _report(octets, source)


def sql_columns(octets: bytes) -> None:
    """Columns of each table with any values: octets are JSON of names and values, or values by the columns' order."""
    try:
        told = json.loads(octets)
    except (ValueError, RecursionError):
        told = octets.decode("utf-8", "surrogateescape").split("\x00")
    names = (
        "method", "callid", "sip_code", "time", "from_tag", "to_tag", "duration", "ms_duration", "setuptime", "created",
        "start_time", "end_time", "acctsessionid", "acctstarttime", "acctstoptime", "acctupdatetime", "acctsessiontime",
        "nasipaddress", "src_user", "src_ip", "time_attr", "time_exten", "info",
    )  # fmt: skip
    row = told if isinstance(told, dict) else dict(zip(names, told if isinstance(told, list) else [told], strict=False))
    for table in ("acc", "acc_cdrs", "radacct", "media_sessions"):
        try:
            written = json.dumps({"table": table, "row": row, "full": [], "fold": 1})
        except (ValueError, RecursionError):
            return  # JSON that can be read and not written again
        sql_row(written.encode())


def media_line(octets: bytes) -> None:
    """A line of a media log."""
    is_cdr_line(octets)
    for head in (b"", b"<182>Nov 24 07:25:19 rtpengine: ci=c1, created_from=127.0.0.1:1, "):
        _report(head + octets, MEDIA)


def operator(octets: bytes) -> None:
    """What stands for a correction."""
    _report(octets, OPERATOR)


def hexadecimal(octets: bytes) -> None:
    """Text of the command line."""
    with suppress(TollbookError):
        packets = packets_of_hex(octets.decode("utf-8", "replace"))
        assert sum(map(len, packets)) * 2 <= len(octets)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        datagram, stream, attributes, capture, captured_frame, dictionary, sql_row, sql_columns, media_line, operator,
        hexadecimal,
    )
}  # fmt: skip


def _report(raw: bytes, source: Source) -> None:
    """Translate and show a row; nothing raises, and what comes out is bounded and fit to be shown."""
    row = JournalRow(7, NOW_US, 1, PEER, raw)
    got = translate(row, source)
    if isinstance(got, AccountingEvent):
        assert got.call_id or got.kind in (EventKind.NAS_ON, EventKind.NAS_OFF)
        assert got.sip_code is None or 100 <= got.sip_code <= 699
        key_hash(group_key(got))
    else:
        assert isinstance(got, Untranslatable)
        assert got.reason
    for text in got:
        if isinstance(text, str):
            assert len(text) <= max(TEXT_MAX, 6 * len(raw)) + 200
            text.encode()
    Wanted("c1", "49", "fuzzed").takes(row, source)
    told = told_of_row(row, source)
    shown = block(told)
    assert len(shown) <= PER_OCTET * (len(raw) + 20)
    assert all(line.isprintable() or not _has_controls(line) for line in shown.split("\n"))
    json.dumps(told._asdict()).encode()
    shown.encode()
    assert SECRET.decode() not in shown or SECRET in raw


def _has_controls(line: str) -> bool:
    return any(sign < " " or "\x7f" <= sign < "\xa0" or "\u202a" <= sign <= "\u202e" for sign in line)


def _pcap(frame: bytes, link_type: int) -> bytes:
    head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff0000") + link_type.to_bytes(4, "little")
    size = len(frame).to_bytes(4, "little")
    return head + bytes.fromhex("1f5e036b") + bytes(4) + size + size + frame
