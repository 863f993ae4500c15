"""The command that tells what the configuration of proxies and devices gets wrong."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from accounting.base import clock
from accounting.base.cli import ConfigOption, JsonOption, as_json
from accounting.base.config import Settings, load_settings, source_of
from accounting.db.engine import Database, open_database
from accounting.journal import load_sources

if TYPE_CHECKING:
    from accounting.journal_window import Window  # what translates is slow to load: imported where it is used
    from cdr.source_findings import Finding
    from cdr.source_tally import Seen

check_app = typer.Typer(no_args_is_help=True, help="Look at what arrives, and tell what could be better.")

ROWS_MAX = 200_000
DAY_US = 86_400 * 1_000_000


@check_app.callback()
def check() -> None:
    """Look at what arrives, and tell what could be better."""


@check_app.command()
def sources(
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="ISO", help="Reports that arrived since then, with offset or Z; default: a day."
        ),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Look at the reports of the last day and tell what each source's configuration gets wrong, and what mends it.

    All codes: docs/reference/check-sources.md. Exit status 0 also when there are findings.

    Example: tollbook check sources --since 2026-11-24T07:00:00Z
    """
    from accounting.journal_window import window_since

    now_us = clock.now_us()
    since_us = clock.to_us(clock.parse_instant(since)) if since else now_us - DAY_US
    settings = load_settings(config)
    with open_database(settings.database.url) as database:
        window = window_since(database, since_us, ROWS_MAX)
        found = _check(database, settings, window, now_us)
    told = clock.iso_ms(clock.from_us(since_us))
    if json:
        counts = {"since": told, "reports": window.rows, "looked_at": window.looked_at}
        as_json({**counts, "findings": [asdict(finding) for finding in found]})
        return
    typer.echo(_sentence(window, told, len(found)))
    for finding in found:
        typer.echo("\n" + "\n".join(_lines(finding)))


def _check(database: Database, settings: Settings, window: "Window", now_us: int) -> "list[Finding]":
    from accounting.media_log import media_source
    from cdr.source_findings import Expected, findings
    from cdr.source_tally import tally

    with database.journal_read() as conn:
        used = {(source.kind, source.name) for source in load_sources(conn).values()}
    wanted = [(source_of(client), "client") for client in settings.clients]
    wanted += [(source_of(collector), "collector") for collector in settings.collectors]
    wanted += [(media_source(media), "media log") for media in settings.media]
    expected = [Expected(source, kind, (source.kind, source.name) in used) for source, kind in wanted]
    is_whole = window.looked_at == window.rows
    return findings(tally(_seen(database, window)), expected, is_whole=is_whole, now_us=now_us)


def _seen(database: Database, window: "Window") -> "Iterator[Seen]":
    from accounting.journal_window import rows_of
    from accounting.sources import translate
    from cdr.evidence import EvidenceReader
    from cdr.source_tally import Seen

    reader = EvidenceReader(database)
    for rows in rows_of(database, window):
        for row in rows:
            source = reader.source(row.source_id)
            yield Seen(row, source, translate(row, source))


def _sentence(window: "Window", since: str, count: int) -> str:
    told = f"{window.rows} report{'' if window.rows == 1 else 's'} since {since}"
    if window.looked_at < window.rows:
        told += f", of which the newest {window.looked_at} were looked at (at most {ROWS_MAX})"
    return f"{told}: {count or 'no'} finding{'' if count == 1 else 's'}."


def _lines(finding: "Finding") -> list[str]:
    head = f"{finding.source}: {finding.severity} {finding.code}{f' ({finding.count})' if finding.count else ''}"
    return [head, f"  {finding.words}.", *(f"    {line}" for line in finding.mend.splitlines())]
