"""Commands on one call: list those that are open, show where a CDR's figures come from, close one by hand."""

import json as jsonlib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from accounting.base import clock
from accounting.base.cli import ID_MAX, ConfigOption, JsonOption, actor_name, as_json, print_table
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import configure
from accounting.base.money import format_micros
from accounting.db.engine import Database, open_database
from accounting.event import AccountingEvent, Source, unpack_ref
from accounting.journal import JournalWriter, register_source
from cdr.lease import LEASE, LEASE_WAIT_S

if TYPE_CHECKING:
    from cdr.settle import CdrRow  # it brings numpy and the pipeline, imported where they are used

cdr_app = typer.Typer(no_args_is_help=True, help="One call: explain its CDR, close it by hand; list open ones.")

OPERATOR = Source(id=0, name="operator", kind="operator", dialects=())


@cdr_app.command()
def show(
    cdr_id: Annotated[int, typer.Argument(metavar="ID", max=ID_MAX, help="cdr_id of the CSV.")],
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Explain a CDR: its revisions, its charges with their ledger entries, and the packets that caused them.

    Example: tollbook cdr show 4294967297
    """
    settings = load_settings(config)
    with open_database(settings.database.url) as database:
        told = _explain(database, cdr_id)
    if json:
        as_json(told)
        return
    for name, rows in told.items():
        typer.echo(f"{name}:")
        for row in rows:
            typer.echo("  " + "  ".join(f"{key}={value}" for key, value in row.items() if value not in ("", None)))


def _explain(database: Database, cdr_id: int) -> dict[str, list[dict[str, Any]]]:
    from cdr.evidence import EvidenceReader
    from cdr.settle import unpack_refs
    from cdr.store import calls
    from cdr.store.exceptions import load_overrides

    with database.read() as conn:
        revisions = calls.revisions(conn, cdr_id)
        if not revisions:
            raise TollbookError(f"no CDR has the id {cdr_id}; see: tollbook export cdrs, tollbook cdr open")
        charges = calls.charges_of(conn, cdr_id)
        refs = unpack_refs(revisions[-1].events)
        overrides = load_overrides(conn, refs)
    reader = EvidenceReader(database)
    events, _ = reader.translate(reader.fetch(refs), overrides)
    return {
        "revisions": [_revision(row) for row in revisions],
        "charges": [_charge(row) for row in charges],
        "events": [_event(event) for event in sorted(events, key=lambda event: event.at_us)],
    }


def _revision(row: "CdrRow") -> dict[str, Any]:
    told = row._asdict()
    for hidden in ("call_hash", "digest", "events", "superseded_at", "call_key"):
        del told[hidden]
    for name in ("started_at", "answered_at", "ended_at", "closed_at", "made_at"):
        told[name] = clock.iso_ms(told[name])
    for name in ("price", "cost"):
        micros, decimals = told.pop(f"{name}_micros"), told.pop(f"{name}_decimals")
        told[name] = "" if micros is None else format_micros(micros, decimals)
    return told


def _charge(row: Any) -> dict[str, Any]:
    told = dict(row._mapping)
    told["amount"] = format_micros(told.pop("amount_micros"), told.pop("decimals"))
    told["service_at"] = clock.iso_ms(told["service_at"])
    return told


def _event(event: AccountingEvent) -> dict[str, Any]:
    writer, seq = unpack_ref(event.ref)
    told = {"journal": f"{writer}/{seq}", "at": clock.iso_ms(clock.from_us(event.at_us))}
    shown = ("kind", "source", "from_tag", "to_tag", "sip_code", "caller_uri", "called_uri", "translated_uri",
             "source_ip", "duration_ms", "media_info", "reason", "flags")  # fmt: skip
    told |= {name: getattr(event, name) for name in shown}
    told["kind"] = str(event.kind)
    told["flags"] = ";".join(event.flags)
    return told


@cdr_app.command("open")
def list_open(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the calls that wait: answered and not ended yet, or ended and not begun. `cdr close` ends those that hang.

    Example: tollbook cdr open
    """
    from cdr.store import calls

    settings = load_settings(config)
    with open_database(settings.database.url) as database, database.read() as conn:
        waiting = calls.load_open(conn)
    rows = [
        {
            "id": row.id,
            "call_id": row.call_id,
            "source": row.source,
            "caller": row.caller,
            "called": row.called,
            "answered_at": clock.iso_ms(row.answered_at),
            "reported_at": clock.iso_ms(row.reported_at),
            "due_at": clock.iso_ms(clock.from_us(row.due_us)),
        }
        for row in waiting
    ]
    if json:
        as_json(rows)
    elif rows:
        print_table(list(rows[0]), rows)
    else:
        typer.echo("No open calls.")


@cdr_app.command()
def close(
    cdr_id: Annotated[int, typer.Argument(metavar="ID", max=ID_MAX, help="cdr_id of the CSV, or id of an open call.")],
    ended_at: Annotated[str, typer.Option("--ended-at", metavar="ISO", help="When the call ended, with offset or Z.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why you know; kept for ever.")],
    config: ConfigOption = None,
) -> None:
    """Say when an answered call ended. The correction is an event like any other: a new revision, charged anew.

    Also a call that is still open, by its id in `tollbook cdr open`: its CDR is made and charged at once.

    Example: tollbook cdr close 4294967297 --ended-at 2026-11-24T07:09:43Z --reason "customer's own CDR"
    """
    from cdr.pipeline import Pipeline
    from cdr.store import calls

    ended = clock.parse_instant(ended_at)
    if not reason.strip():
        raise TollbookError("--reason must say why")
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    with open_database(settings.database.url) as database, database.lease(LEASE, LEASE_WAIT_S):
        pipeline = Pipeline(database, settings)
        pipeline.run(clock.now_us)
        raw = _correction(database, cdr_id, ended, reason)
        writer = JournalWriter(database, "operator", actor_name())
        try:
            writer.append([(clock.now_us(), register_source(database, OPERATOR), b"", raw)])
        finally:
            writer.close()
        pipeline.run(clock.now_us)
        with database.read() as conn:
            row = calls.load_latest(conn, [cdr_id]).get(cdr_id)
    if row is None:
        raise TollbookError(
            f"the correction of {cdr_id} is stored, but its call is not closed; see: tollbook exceptions list"
        )
    if row.ended_at != ended:
        raise TollbookError(
            f"the correction of {cdr_id} is stored, but other evidence counts: tollbook cdr show {cdr_id}"
        )
    typer.echo(f"CDR {cdr_id}, revision {row.revision}: {row.duration_ms / 1000:.3f} s, {row.rating}")


class _Answered(NamedTuple):
    """An answered call, as a correction names it."""

    call_key: str
    call_id: str
    from_tag: str
    to_tag: str
    nas: str
    answered_at: datetime


def _correction(database: Database, cdr_id: int, ended: datetime, reason: str) -> bytes:
    call = _answered(database, cdr_id)
    if ended < call.answered_at:
        raise TollbookError(f"--ended-at lies before the answer at {clock.iso_ms(call.answered_at)}")
    if ended > max(call.answered_at, now := clock.now()):
        raise TollbookError(f"--ended-at lies in the future; it is {clock.iso_ms(now)}")
    return jsonlib.dumps(
        {
            "call_key": call.call_key,
            "call_id": call.call_id,
            "from_tag": call.from_tag,
            "to_tag": call.to_tag,
            "is_session": not (call.from_tag or call.to_tag),
            "nas": call.nas,
            "ended_us": clock.to_us(ended),
            "reason": reason.strip(),
            "actor": actor_name(),
        }
    ).encode()


def _answered(database: Database, cdr_id: int) -> _Answered:
    """Return the call of this id as it stands; TollbookError if it has no end that could be told."""
    from cdr.store import calls

    with database.read() as conn:
        waiting = calls.load_open(conn, cdr_id)
        row = calls.load_latest(conn, [cdr_id]).get(cdr_id)
    if waiting:
        return _open(database, waiting[0])
    if row is None:
        raise TollbookError(
            f"no CDR has the id {cdr_id}, and no open call; see: tollbook export cdrs, tollbook cdr open"
        )
    if row.answered_at is None or row.disposition == "void":
        raise TollbookError(f"CDR {cdr_id} was not answered ({row.disposition}); there is no end to correct")
    return _Answered(row.call_key, row.call_id, row.from_tag, row.to_tag, row.nas, row.answered_at)


def _open(database: Database, waiting: Any) -> _Answered:
    """Return an open call with its tags, which its events tell."""
    from cdr.evidence import EvidenceReader
    from cdr.pairing import pair_group
    from cdr.settle import unpack_refs
    from cdr.store.exceptions import load_overrides

    if waiting.answered_at is None:
        due = clock.iso_ms(clock.from_us(waiting.due_us))
        raise TollbookError(
            f"call {waiting.id} is not known to be answered: it waits for its Start until {due}, or is an exception"
        )
    refs = unpack_refs(waiting.events)
    with database.read() as conn:
        overrides = load_overrides(conn, refs)
    reader = EvidenceReader(database)
    events, _ = reader.translate(reader.fetch(refs), overrides)
    paired = pair_group(events, now_us=clock.to_us(waiting.answered_at)).calls
    call = max(paired, key=lambda call: len(call.events))
    return _Answered(waiting.call_key, call.call_id, call.from_tag, call.to_tag, call.nas, waiting.answered_at)
