"""`tollbook trace`: reports in readable form, live or stored, from captures or hexadecimal text. Reads only."""

import json as jsonlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from pathlib import Path
from threading import Event
from typing import Annotated, NamedTuple

import typer

from accounting.base.cli import ConfigOption, give_up_output
from accounting.base.clock import parse_instant, to_us
from accounting.base.config import Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.base.sockets import show_address
from accounting.captures import Known, capture_ports, captured, known_clients, words_of
from accounting.db.engine import Database, open_database
from accounting.event import Source, pack_ref
from accounting.journal import JournalRow, ends, fetch, load_sources, read_after, read_last
from accounting.journal_window import Span, rows_of_writer, window_since
from accounting.radius.capture import Datagram
from accounting.radius.clients import Client, pack_peer
from accounting.radius.dictionary import dictionary_text
from accounting.trace import UNKNOWN, Told, Wanted, block, packets_of_hex, told_of_packet, told_of_row

POLL_S = 0.5
ROWS_MAX = 20_000
"""Rows of the journal held at one time."""
HEX_CHARS_MAX = 1024 * 1024

app = typer.Typer()


class Rows(NamedTuple):
    """Which rows of the journal are looked at, in the words of the command line."""

    last: int
    refs: Sequence[str]
    since: str
    until: str
    follow: bool


@app.command()
def trace(
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="Look at so many of the newest.")] = 20,
    since: Annotated[str, typer.Option("--since", metavar="ISO", help="Look at all since then instead.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="ISO", help="... and before then.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then go on with what comes, until Ctrl-C.")] = False,
    refs: Annotated[
        list[str] | None,
        typer.Option("--ref", metavar="WRITER/SEQ", help="Show this row instead, as `cdr show` names it."),
    ] = None,
    hexes: Annotated[
        list[str] | None,
        typer.Option("--hex", metavar="HEX", help="Read this datagram instead; - is stdin."),
    ] = None,
    pcaps: Annotated[
        list[Path] | None,
        typer.Option("--pcap", metavar="FILE", help="Read this capture instead, pcap or pcapng; - is stdin."),
    ] = None,
    ports: Annotated[
        list[int] | None,
        typer.Option(
            "--port", min=1, max=65535, help="Ports in captures; default: those of [receiver] listen, listen_tcp."
        ),
    ] = None,
    call_id: Annotated[str, typer.Option("--call-id", metavar="ID", help="Only what holds this text.")] = "",
    number: Annotated[
        str,
        typer.Option("--number", metavar="DIGITS", help="Only what tells of a party with these digits."),
    ] = "",
    client: Annotated[
        str, typer.Option("--client", metavar="NAME", help="Only of this client or collector; with --hex: who sent it.")
    ] = "",
    dictionary: Annotated[
        str,
        typer.Option("--dictionary", metavar="NAME", help="opensips, classic or a file: reads --hex and --pcap by it."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show reports attribute by attribute, read with their client's dictionary: the journal's, or of a capture.

    Secrets are never shown. See docs/howto/trace.md.

    Example: tollbook trace --follow --call-id 3c26700a
    """
    if sum(map(bool, (refs, hexes, pcaps, follow or since or until))) > 1:
        raise typer.BadParameter("--ref, --hex, --pcap and the times exclude each other")
    settings = load_settings(config)
    wanted = Wanted(call_id, _digits(number), client)
    if hexes or pcaps:
        shown = _of_packets(settings, hexes or (), pcaps or (), ports or (), wanted, dictionary)
    else:
        rows = Rows(last, refs or (), since, until, follow)
        shown = _of_journal(settings, rows, wanted)
    try:
        for told in shown:
            sys.stdout.write(jsonlib.dumps(told._asdict()) + "\n" if json else block(told))
            if follow or pcaps:
                sys.stdout.flush()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has enough
        give_up_output()
    except KeyboardInterrupt:
        if not follow:
            raise


# ---- the journal


def _of_journal(settings: Settings, which: Rows, wanted: Wanted) -> Iterator[Told]:
    with open_database(settings.database.url) as database:
        sources: dict[int, Source] = {}
        for row in _rows(database, which):
            if row.source_id not in sources:
                with database.journal_read() as conn:
                    sources = load_sources(conn)
            if wanted.takes(row, sources[row.source_id]):
                yield told_of_row(row, sources[row.source_id])


def _rows(database: Database, which: Rows) -> Iterator[JournalRow]:
    since_us = to_us(parse_instant(which.since)) if which.since else 0
    until_us = to_us(parse_instant(which.until)) if which.until else None
    if which.follow and until_us is not None:
        raise TollbookError("--follow has no end: use it without --until")
    if which.refs:
        yield from _fetched(database, which.refs)
        return
    with database.journal_read() as conn:
        offsets = ends(conn)
        newest = [] if which.since or which.until else read_last(conn, which.last)
    yield from newest  # no snapshot is held while somebody reads what is printed
    if which.since or which.until:
        yield from _stored(database, since_us, until_us, offsets)
    if which.follow:
        yield from _followed(database, offsets)


def _fetched(database: Database, refs: Sequence[str]) -> list[JournalRow]:
    wanted = [_ref(text) for text in refs]
    with database.journal_read() as conn:
        found = {row.ref: row for row in fetch(conn, wanted)}
    for text, ref in zip(refs, wanted, strict=True):
        if ref not in found:
            raise TollbookError(f"the journal has no row {text}")
    return [found[ref] for ref in wanted]


def _ref(text: str) -> int:
    writer, _, seq = text.replace(":", "/").partition("/")
    if not (writer.isdecimal() and seq.isdecimal() and len(writer) < 10 and len(seq) < 10):
        raise TollbookError(f"{text!r} is no row of the journal; write it like 3/17, as `tollbook cdr show` does")
    return pack_ref(int(writer), int(seq))


def _stored(database: Database, since_us: int, until_us: int | None, up_to: Mapping[int, int]) -> Iterator[JournalRow]:
    """Yield rows in the order of their arrival, no further than these ends of writers."""
    found = window_since(database, since_us, until_us=until_us).spans
    spans = {writer: Span(span.after, min(span.last, up_to.get(writer, 0))) for writer, span in found.items()}
    chunk = max(10, ROWS_MAX // max(1, len(spans)))

    def rows(writer: int, span: Span) -> Iterator[JournalRow]:
        for some in rows_of_writer(database, writer, span, chunk):
            yield from some

    yield from merge(*(rows(writer, span) for writer, span in spans.items()), key=lambda row: row.received_us)


def _followed(database: Database, offsets: dict[int, int]) -> Iterator[JournalRow]:
    """Yield what comes behind these ends, of writers old and new."""
    pause = Event()
    while True:
        with database.journal_read() as conn:
            rows = read_after(conn, offsets, ROWS_MAX)
        for row in rows:
            offsets[row.ref >> 32] = row.ref & 0xFFFFFFFF
        yield from sorted(rows, key=lambda row: row.received_us)
        if len(rows) < ROWS_MAX:
            pause.wait(POLL_S)


# ---- packets that are not from the journal


def _of_packets(
    settings: Settings,
    hexes: Sequence[str],
    pcaps: Sequence[Path],
    ports: Sequence[int],
    wanted: Wanted,
    dictionary: str,
) -> Iterator[Told]:
    known = known_clients(settings)
    if wanted.client and wanted.client not in known.by_name:
        raise TollbookError(f"no client {wanted.client!r} in the settings")
    text = dictionary_text(dictionary)
    for datagram in (packet for given in hexes for packet in _packets(given)):
        yield from _told(datagram, known.by_name.get(wanted.client), known, wanted, text)
    counts: Counter[str] = Counter()
    for path in pcaps:
        for found in captured(path, capture_ports(settings, ports), counts):
            client = known.table.find(found.source) or known.table.find(found.to)
            yield from _told(found.payload, client, known, wanted, text, found)
    if counts.total():
        sys.stdout.flush()
        typer.echo(f"tollbook: {words_of(counts)}", err=True)


def _told(
    datagram: bytes, client: Client | None, known: Known, wanted: Wanted, dictionary: str, found: Datagram | None = None
) -> Iterator[Told]:
    source = known.sources[client.source_id] if client else UNKNOWN
    if dictionary:
        source = source._replace(dictionary=dictionary)
    at_us = found.at_us if found else None
    peer, packed = "", b""
    if found:
        peer = f"{show_address(found.source, found.source_port)} > {show_address(found.to, found.to_port)}"
        packed = pack_peer(found.source, found.source_port)
    if wanted.takes(JournalRow(0, at_us or 0, 0, packed, datagram), source):
        yield told_of_packet(datagram, source, client, at_us=at_us, peer=peer)


def _packets(given: str) -> list[bytes]:
    if given != "-":
        return packets_of_hex(given)
    text = sys.stdin.read(HEX_CHARS_MAX + 1)
    if len(text) > HEX_CHARS_MAX:
        raise TollbookError(f"more than {HEX_CHARS_MAX} characters of hexadecimal text; use --pcap for many packets")
    return packets_of_hex(text)


def _digits(number: str) -> str:
    """Return a number's digits as they stand in what is reported: without +, 00 and what people put between."""
    digits = "".join(sign for sign in number if sign.isdecimal() and sign.isascii())
    if number and not digits:
        raise TollbookError(f"--number {number!r} has no digits")
    return digits.removeprefix("00")
