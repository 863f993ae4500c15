"""`tollbook trace`: what arrives, attribute by attribute: the journal's rows, as they come or from before, or hex."""

import json as jsonlib
import sys
import time
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import typer

from accounting.base.cli import ConfigOption
from accounting.base.clock import from_us, iso_ms, parse_instant, to_us
from accounting.base.config import Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.db.engine import Database, open_database
from accounting.event import Source, unpack_ref
from accounting.journal import JournalRow, ends, load_sources, offsets_before, read_after, read_last
from accounting.radius.clients import peer_text
from accounting.radius.packet import is_signed, packet_of
from accounting.radius.source_version import source_version
from accounting.sources.describe import describe
from accounting.sources.text import clean, text_of

FOLLOW_S = 0.5
CHUNK_ROWS = 1000
HIDDEN = frozenset({"User-Password", "CHAP-Password", "Tunnel-Password", "Attr-2", "Attr-3", "Attr-69"})

app = typer.Typer()


class Report(NamedTuple):
    """One report for people: when, from where, whose, its place in the journal, and what it says."""

    at: str
    peer: str
    source: str
    ref: str
    says: list[tuple[str, str]]


class Filters(NamedTuple):
    """What a report must be to be shown."""

    client: str
    words: tuple[bytes, ...]

    def take(self, row: JournalRow, source: Source) -> bool:
        """Return whether a row is wanted."""
        return self.client in ("", source.name) and all(word in row.raw for word in self.words)


@app.command()
def trace(
    last: Annotated[int, typer.Option("--last", min=1, max=1_000_000, help="Look at so many of the newest.")] = 20,
    since: Annotated[str, typer.Option("--since", metavar="ISO", help="Look at all since then instead.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then go on with what comes, until Ctrl-C.")] = False,
    call_id: Annotated[str, typer.Option("--call-id", metavar="TEXT", help="Only what holds this text.")] = "",
    number: Annotated[str, typer.Option("--number", metavar="DIGITS", help="Only what holds these digits.")] = "",
    client: Annotated[str, typer.Option("--client", metavar="NAME", help="Only of this client or collector.")] = "",
    datagram: Annotated[
        str, typer.Option("--hex", metavar="HEX", help="Read this datagram of --client instead; - is stdin.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show reports attribute by attribute, read with their client's dictionary, as the journal has them.

    Example: tollbook trace --follow --call-id 3c26700a
    """
    settings = load_settings(config)
    if datagram:
        _print(_of_hex(datagram, client, settings), json)
        return
    words = (call_id.encode(), number.removeprefix("+").encode())
    since_us = to_us(parse_instant(since)) if since else None
    with open_database(settings.database.url) as database:
        sources: dict[int, Source] = {}
        for row in _rows(database, last, since_us, follow=follow):
            if row.source_id not in sources:
                with database.journal_read() as conn:
                    sources = load_sources(conn)
            source = sources[row.source_id]
            if Filters(client, words).take(row, source):
                _print(_of_row(row, source), json)


def _rows(database: Database, last: int, since_us: int | None, *, follow: bool) -> Iterator[JournalRow]:
    with database.journal_read() as conn:
        if since_us is None:
            offsets = ends(conn)
            yield from read_last(conn, last)
        else:
            offsets = offsets_before(conn, since_us)
    while since_us is not None or follow:
        with database.journal_read() as conn:
            rows = read_after(conn, offsets, CHUNK_ROWS)
        for row in rows:
            writer, seq = unpack_ref(row.ref)
            offsets[writer] = seq
            if since_us is None or row.received_us >= since_us:
                yield row
        if not rows:
            if not follow:
                return
            sys.stdout.flush()
            time.sleep(FOLLOW_S)


def _of_row(row: JournalRow, source: Source) -> Report:
    writer, seq = unpack_ref(row.ref)
    is_packet = source.kind == "radius"
    says = _masked(describe(row.raw, source)) if is_packet else [(source.kind, text_of(row.raw))]
    return Report(iso_ms(from_us(row.received_us)), peer_text(row.peer), source.name, f"{writer}:{seq}", says)


def _of_hex(datagram: str, client: str, settings: Settings) -> Report:
    text = sys.stdin.read() if datagram == "-" else datagram
    try:
        raw = bytes.fromhex("".join(text.split()).replace(":", ""))
    except ValueError:
        raise TollbookError("--hex: not pairs of hexadecimal digits") from None
    known = {one.name: one for one in settings.clients}
    if client not in known:
        raise TollbookError(f"--hex needs --client, one of: {', '.join(known) or 'none in the settings'}")
    secret = known[client].secret.get_secret_value().encode()
    packet = packet_of(raw)
    if isinstance(packet, str):
        says = [("datagram", f"a receiver drops it: {packet}")]
    else:
        signed = "right" if is_signed(packet, secret) else "WRONG: another secret, or not as it was sent"
        says = [("Request Authenticator", signed), *_masked(describe(packet, source_version(known[client])))]
    return Report("", "", client, "", says)


def _masked(says: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, "********" if name in HIDDEN else value) for name, value in says]


def _print(report: Report, json: bool) -> None:
    if json:
        sys.stdout.write(jsonlib.dumps(report._asdict(), ensure_ascii=True) + "\n")
        return
    head = " ".join(clean(word) for word in report[:4] if word)
    sys.stdout.write(
        head + "\n" + "".join(f"    {clean(name)} = {clean(value)}\n" for name, value in report.says) + "\n"
    )
