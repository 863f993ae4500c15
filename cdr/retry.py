"""Tries again what needed a person: with today's settings, as if the reports came in now."""

from collections.abc import Sequence

from accounting.base.config import Settings
from accounting.base.log import get_logger
from accounting.db.engine import Database
from accounting.event import Source, Untranslatable
from accounting.journal import JournalRow, fetch, load_sources, register_source
from accounting.radius.source_version import source_version
from accounting.sources import translate
from cdr.pipeline import Pipeline, may_be_of_data
from cdr.rerate import rerate
from cdr.settle import unpack_refs
from cdr.store import exceptions
from cdr.store.calls import SET_ASIDE
from cdr.work import Work

log = get_logger(__name__)


def retry_exceptions(
    database: Database, settings: Settings, call_ids: Sequence[int], cdr_ids: Sequence[int], now_us: int
) -> None:
    """Pair these call exceptions again and rate these CDRs again. The caller holds the lease.

    What still cannot be made stays the exception that it is.
    """
    pipeline = Pipeline(database, settings, actor="retry")
    with database.read() as conn:
        wanted = [row for row in exceptions.list_exceptions(conn, dismissed=True) if row.id in set(call_ids)]
    rows = _read_with_todays_sources(database, settings, [ref for row in wanted for ref in unpack_refs(row.events)])
    for row in wanted:
        if row.reason == SET_ASIDE:
            refs = set(unpack_refs(row.events))
            events = tuple(r for r in rows if r.ref in refs)
            work = Work(rows=events, origin="events_exception", gone=(row.id,), kind="retry")
        else:
            work = Work(groups=((row.call_key, row.call_hash),), kind="retry")
        try:
            pipeline.attempt(work, now_us)
        except Exception as error:
            if not may_be_of_data(error):
                raise
            log.error("an exception could not be settled", id=row.id, error=f"{type(error).__name__}: {error}")
    if cdr_ids:
        rerate(database, settings, None, None, None, ids=tuple(cdr_ids))


def retry_quarantined(database: Database, settings: Settings, refs: Sequence[int], now_us: int) -> None:
    """Translate these quarantined events again. The caller holds the lease."""
    rows = _read_with_todays_sources(database, settings, refs)
    if rows:
        work = Work(rows=tuple(rows), origin="events_quarantined", gone=tuple(refs), kind="retry")
        Pipeline(database, settings, actor="retry").carry_out(work, now_us)


def _read_with_todays_sources(database: Database, settings: Settings, refs: Sequence[int]) -> list[JournalRow]:
    """Return these journal rows, having noted that they are read with their client's settings of today from now on.

    A row that today's settings cannot read is still read as before.
    """
    if not refs:
        return []
    with database.journal_read() as conn:
        rows = fetch(conn, refs)
        versions = load_sources(conn)
    today: dict[str, Source] = {c.name: source_version(c) for c in (*settings.clients, *settings.collectors)}
    names = {versions[row.source_id].name for row in rows}
    sources = {
        name: today[name]._replace(id=register_source(database, today[name])) for name in sorted(names & today.keys())
    }
    overrides: dict[int, int | None] = {}
    for row in rows:
        source = sources.get(versions[row.source_id].name)
        if source is not None and not isinstance(translate(row, source), Untranslatable):
            overrides[row.ref] = None if source.id == row.source_id else source.id
    with database.write() as conn:
        exceptions.set_overrides(conn, overrides)
    return rows
