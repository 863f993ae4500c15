"""What fuzzing begins with: real traffic and the shapes of each format. Written anew by each run, not kept."""

import json
from collections.abc import Iterator
from pathlib import Path

from accounting.dictionaries import __name__ as dictionaries
from tests.support.capture import AT_US, fragments, framed, packet, pcap_file, pcapng_file
from tests.support.lab import bye, invite
from tests.support.radius import SECRET, body, request, vsa

DATA = Path(__file__).parents[1] / "data"
PACKAGED = Path(__file__).parents[2] / dictionaries.replace(".", "/")
CORPUS = DATA / "corpus"
ACC = {
    "method": "INVITE", "from_tag": "f", "to_tag": "t", "callid": "c1", "sip_code": "200", "sip_reason": "OK",
    "time": "2026-11-24 08:07:43", "time_attr": "1795504063", "time_exten": "475000", "duration": "61",
    "ms_duration": "61000", "setuptime": "3", "created": "2026-11-24 08:07:40", "src_user": "alice", "src_ip": "[::1]",
}  # fmt: skip
CDRS = {"start_time": "2026-11-24 08:07:43", "end_time": "2026-11-24 08:08:43.5", "duration": "60.500", "callid": "c1"}
RADACCT = {
    "acctsessionid": "c=3D1", "acctstarttime": "2026-11-24 08:07:43", "acctstoptime": "2026-11-24 08:08:43",
    "acctsessiontime": "60", "nasipaddress": "192.0.2.1", "acctterminatecause": "User-Request", "username": "=2B49151",
}  # fmt: skip
SESSION = {"call_id": "c1", "info": json.dumps({"duration": 60, "start_time": 1795504063.5, "timed_out": True,
           "streams": [{"status": "closed", "end_time": 50, "timeout_wait": 180}]})}  # fmt: skip
SWITCHES = body(
    [(40, 2), (44, "c1"), vsa(9, 1, "h323-incoming-conf-id=1 2 3 4"), vsa(9, 24, "h323-conf-id=1 2 3 4"),
     vsa(9, 28, "h323-connect-time=07:58:50.250 UTC Fri Jan 15 2027"), vsa(22736, 114, 61), vsa(27880, 13, 17)]
)  # fmt: skip


def seeds(name: str) -> Iterator[bytes]:
    """Yield the seeds of a target."""
    yield from {
        "datagram": _datagrams, "stream": _streams, "attributes": _attributes, "capture": _captures,
        "captured_frame": _frames, "dictionary": _dictionaries, "sql_row": _rows, "sql_columns": _columns,
        "media_line": _lines, "operator": _corrections, "hexadecimal": _hexes,
    }[name]()  # fmt: skip


def _datagrams() -> Iterator[bytes]:
    yield from (invite("c1", 0), bye("c1", 60), request(SECRET, (80, bytes(16)), code=12), request(SECRET, (33, "x")))
    for path in sorted(CORPUS.glob("*/*/radius.jsonl"))[:20]:
        for line in path.read_text().splitlines()[:4]:
            told = json.loads(line)
            yield bytes.fromhex(next((value for key, value in told.items() if key in ("hex", "raw", "datagram")), ""))


def _streams() -> Iterator[bytes]:
    several = list(_datagrams())[:12]
    yield from (bytes([size]) + b"".join(several) for size in (0, 99, 255))
    yield b"\x07" + several[0] + b"\x04\x01\x00\x13"
    yield b"\x07" + several[0] + b"\x04\x01\xff\xff"


def _attributes() -> Iterator[bytes]:
    yield from (octets[20:] for octets in _datagrams())
    yield SWITCHES


def _captures() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted((DATA / "captures").glob("*.pcap")))
    yield pcap_file([(AT_US, frame) for frame in _frames()], order=">", nano=True)
    yield pcapng_file([(0, AT_US, frame) for frame in _frames()], [1, 101], resolution=9)


def _frames() -> Iterator[bytes]:
    whole = packet(invite("c1", 0))
    yield bytes(whole)[2:]
    yield from (framed(link_type, bytes(whole), 1) for link_type in (1, 113, 276))
    yield from fragments(whole, 64)
    yield from fragments(packet(invite("c1", 0), ("::1", 40_000), ("::1", 1813)), 64)


def _dictionaries() -> Iterator[bytes]:
    for path in PACKAGED.glob("dictionary.*"):
        yield from (part.encode() for part in path.read_text().split("\n\n") if part)
    yield b"VENDOR Acme 99 format=2,1\nBEGIN-VENDOR Acme\nATTRIBUTE T 1 tlv\nATTRIBUTE In 1.1 short\nEND-VENDOR Acme\n"
    yield b"ATTRIBUTE A 0x65 integer has_tag,encrypt=2\nVALUE A One 0x01\nATTRIBUTE B 102 string # c\nVALUE A Two 2\n"


def _rows() -> Iterator[bytes]:
    for table, row in (("acc", ACC), ("acc_cdrs", CDRS), ("radacct", RADACCT), ("media_sessions", SESSION)):
        yield json.dumps({"table": table, "row": row, "full": ["callid"], "fold": 1}).encode()


def _columns() -> Iterator[bytes]:
    yield from (json.dumps(row).encode() for row in (ACC, CDRS, RADACCT, SESSION))
    yield "\x00".join(ACC.values()).encode()


def _lines() -> Iterator[bytes]:
    for line in (CORPUS / "rtpengine-cdr-syslog.jsonl").read_text().splitlines():
        yield str(json.loads(line).get("line", "")).encode()


def _corrections() -> Iterator[bytes]:
    yield json.dumps({"call_id": "c1", "from_tag": "f", "ended_us": 1, "reason": "x", "is_session": False}).encode()


def _hexes() -> Iterator[bytes]:
    yield invite("c1", 0).hex(":").encode() + b"\n\n0x" + bye("c1", 1).hex(" ").encode()
