"""Reports as people read them: a packet, a collector's row, a line of a media log, by name and value. Pure.

Shows no secret and no control character, whatever was sent.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from accounting.base.clock import from_us, iso_ms
from accounting.base.errors import TollbookError
from accounting.event import KEY_CHARS, AccountingEvent, Source, unpack_ref
from accounting.journal import JournalRow
from accounting.radius.clients import Client, peer_text
from accounting.radius.packet import ACCOUNTING_REQUEST, HEADER_BYTES, verified
from accounting.sources import translate
from accounting.sources.describe import describe
from accounting.sources.text import clean, text_of

CODES = {
    1: "Access-Request", 2: "Access-Accept", 3: "Access-Reject", 4: "Accounting-Request", 5: "Accounting-Response",
    11: "Access-Challenge", 12: "Status-Server", 13: "Status-Client", 40: "Disconnect-Request", 43: "CoA-Request",
}  # fmt: skip
UNKNOWN = Source(id=0, name="", dialects=("opensips", "kamailio", "mediaproxy", "cisco", "asterisk", "freeswitch"))
"""Reads a packet whose client is not known by the dictionary that fits it best."""


class Told(NamedTuple):
    """One report for people."""

    at: str
    peer: str
    source: str
    ref: str  # writer:seq; "" if it is not from the journal
    what: str  # Accounting-Request Start; the table of a row
    says: Sequence[tuple[str, str]]


class Wanted(NamedTuple):
    """What is asked for; an empty one takes all."""

    call_id: str = ""
    number: str = ""  # digits, a part is enough
    client: str = ""

    def takes(self, row: JournalRow, source: Source) -> bool:
        """Return whether a journalled report is asked for."""
        if self.client and source.name != self.client:
            return False
        if self.call_id and not self._has_call_id(row, source):
            return False
        return not self.number or self._has_number(row, source)

    def _has_call_id(self, row: JournalRow, source: Source) -> bool:
        """Return whether it occurs anywhere; SQL tables keep the first 64 characters."""
        call_id = self.call_id if source.kind == "radius" else self.call_id[:KEY_CHARS]
        return call_id.encode() in row.raw

    def _has_number(self, row: JournalRow, source: Source) -> bool:
        """Return whether it is in what the report says of the parties; anywhere, if it says nothing that is known."""
        if self.number.encode() not in row.raw:
            return False
        said = translate(row, source)
        if not isinstance(said, AccountingEvent):
            return True
        parties = said.caller_uri, said.called_uri, said.translated_uri, said.auth_user, said.billing_party
        return any(self.number in party for party in (*parties, said.from_user))


def told_of_row(row: JournalRow, source: Source) -> Told:
    """Return a journal row, read by the version of its source."""
    writer, seq = unpack_ref(row.ref)
    what, says = _READERS.get(source.kind, _line)(row.raw, source)
    said = translate(row, source)
    if not isinstance(said, AccountingEvent):
        says = [*says, ("not translated", clean(f"{said.reason}: {said.detail}"))]
    return Told(_at(row.received_us), peer_text(row.peer), clean(source.name), f"{writer}:{seq}", what, says)


def told_of_packet(
    datagram: bytes, source: Source, client: Client | None, *, at_us: int | None = None, peer: str = ""
) -> Told:
    """Return a datagram that is not from the journal; without its client nothing says who made it."""
    what, says = _packet(datagram, source)
    if datagram[:1] == bytes([ACCOUNTING_REQUEST]):
        says = [("Request Authenticator", _signature(datagram, client)), *says]
    elif len(datagram) < HEADER_BYTES:
        says = [("datagram", "a receiver drops it: malformed"), *says]
    return Told(_at(at_us), peer, clean(source.name), "", what, says)


def block(told: Told) -> str:
    """Return a report as a block of lines that ends with an empty one."""
    head = " ".join(word for word in told[:5] if word)
    return "\n".join((head, *(f"    {name} = {value}" for name, value in told.says), "", ""))


def _at(at_us: int | None) -> str:
    return iso_ms(from_us(at_us)) if at_us is not None else ""


def _signature(datagram: bytes, client: Client | None) -> str:
    if client is None:
        return "not checked: no client of the settings"
    found = verified(datagram, client.secrets, required=client.must_authenticate)
    if not isinstance(found, str):
        return "right"
    if found == "bad_authenticator":
        return "WRONG: another secret, or not as it was sent"
    return f"a receiver drops it: {found}"


def _packet(raw: bytes, source: Source) -> tuple[str, list[tuple[str, str]]]:
    says = describe(raw, source)
    if len(raw) < HEADER_BYTES:
        return "no packet", says
    status = next((value for name, value in says if name == "Acct-Status-Type"), "")
    name = status.partition("(")[2].rstrip(")") or status
    words = [CODES.get(raw[0], f"code {raw[0]}"), name, f"id {raw[1]}", f"{len(raw)} octets"]
    return " ".join(word for word in words if word), says


def _row(raw: bytes, source: Source) -> tuple[str, list[tuple[str, str]]]:
    """Return a collector's row or an operator's word, which are JSON."""
    try:
        said = json.loads(raw)
        columns = {f"({name})": value for name, value in said.items() if name != "row"} | said.get("row", {})
        table = clean(_plain(columns.pop("(table)", "")))
        return f"row of {table}", [(clean(name), clean(_plain(value))) for name, value in columns.items()]
    except (ValueError, RecursionError, AttributeError, TypeError):
        return _line(raw, source)


def _correction(raw: bytes, source: Source) -> tuple[str, list[tuple[str, str]]]:
    try:
        said = json.loads(raw)
        return "correction", [(clean(name), clean(_plain(value))) for name, value in said.items()]
    except (ValueError, RecursionError, AttributeError):
        return _line(raw, source)


def _line(raw: bytes, _source: Source) -> tuple[str, list[tuple[str, str]]]:
    return "line", [("line", text_of(raw))]


def packets_of_hex(text: str) -> list[bytes]:
    """Return the packets of hexadecimal text, parted by empty lines; 0x, colons and white space may stand between."""
    packets = []
    for part in re.split(r"\n\s*\n", text):
        digits = re.sub(r"0[xX]|[\s:]", "", part)
        if found := re.search("[^0-9a-fA-F]", digits):
            raise TollbookError(f"{found[0]!a} is no hexadecimal digit")
        if len(digits) % 2:
            raise TollbookError(f"{len(digits)} hexadecimal digits are no whole octets")
        if digits:
            packets.append(bytes.fromhex(digits))
    return packets


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_READERS = {"radius": _packet, "sql": _row, "operator": _correction, "media": _line}
