"""Commands for what needs a person: exceptions and quarantine."""

from typing import Annotated, Any

import typer

from accounting.base import clock
from accounting.base.cli import ID_MAX, ConfigOption, JsonOption, actor_name, as_json, print_table
from accounting.base.config import Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import configure
from accounting.db.engine import Database, open_database
from cdr.lease import LEASE, LEASE_WAIT_S
from cdr.store import exceptions as store

exceptions_app = typer.Typer(no_args_is_help=True, help="Calls and events that need a person.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Reports that could not be translated.")

AllOption = Annotated[bool, typer.Option("--all", help="Dismissed ones too.")]
IdsArgument = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", max=ID_MAX, help="As the list shows them; default: all.")
]


@exceptions_app.command("list")
def list_exceptions(dismissed: AllOption = False, json: JsonOption = False, config: ConfigOption = None) -> None:
    """List what needs a person: calls without a CDR, CDRs with exception codes, unrated calls.

    Example: tollbook exceptions list --json
    """
    with _database(config)[0] as database:
        rows = _exceptions(database, dismissed=dismissed)
    if json:
        as_json(rows)
        return
    _print(rows, "No exceptions.")


def _exceptions(database: Database, *, dismissed: bool) -> list[dict[str, Any]]:
    with database.read() as conn:
        without_cdr = store.list_exceptions(conn, dismissed=dismissed)
        with_cdr = store.list_cdr_exceptions(conn, dismissed=dismissed)
    rows = [
        {
            "id": row.id,
            "kind": "call",
            "reason": row.reason,
            "call_id": row.call_id,
            "source": row.source,
            "at": clock.iso_ms(row.reported_at),
            "dismissed": row.status == "dismissed",
            "detail": row.detail,
        }
        for row in without_cdr
    ]
    rows += [
        {
            "id": row.id,
            "kind": "cdr",
            "reason": ";".join(_reasons(row)),
            "call_id": row.call_id,
            "source": row.source,
            "at": clock.iso_ms(row.closed_at),
            "dismissed": row.dismissed_at is not None,
            "detail": "",
        }
        for row in with_cdr
    ]
    return sorted(rows, key=lambda row: row["id"])


def _reasons(row: Any) -> list[str]:
    reasons = [code for code in row.exception.split(";") if code]
    return [*reasons, f"unrated:{row.rating_reason}"] if row.rating == "unrated" else reasons


@exceptions_app.command("retry")
def retry_exceptions(ids: IdsArgument = None, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Try again with today's settings, accounts and decks, as if the reports came in now.

    Example: tollbook exceptions retry 4294967301
    """
    from cdr import retry as retries  # late, here and below: it brings the pipeline

    database, settings = _database(config)
    with database, database.lease(LEASE, LEASE_WAIT_S):
        listed = {row["id"]: row for row in _exceptions(database, dismissed=bool(ids))}
        chosen = _chosen(ids, listed)
        calls = [i for i in chosen if listed[i]["kind"] == "call"]
        cdrs = [i for i in chosen if listed[i]["kind"] == "cdr"]
        retries.retry_exceptions(database, settings, calls, cdrs, clock.now_us())
        left = {row["id"] for row in _exceptions(database, dismissed=True)}
    _tell(len(chosen), len([i for i in chosen if i in left]), json)


@exceptions_app.command("dismiss")
def dismiss_exceptions(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", max=ID_MAX, help="As the list shows them.")],
    config: ConfigOption = None,
) -> None:
    """Mark exceptions as seen: they are no longer listed; nothing else changes.

    Example: tollbook exceptions dismiss 4294967301
    """
    from cdr.store.calls import load_latest

    with _database(config)[0] as database:
        listed = {row["id"]: row for row in _exceptions(database, dismissed=True)}
        chosen = _chosen(ids, listed)
        with database.write() as conn:
            for i in chosen:
                if listed[i]["dismissed"]:
                    continue
                if listed[i]["kind"] == "call":
                    store.dismiss_exception(conn, i, actor_name(), clock.now())
                else:
                    store.dismiss_cdr(conn, i, load_latest(conn, [i])[i].revision, actor_name(), clock.now())
    typer.echo(f"{len(chosen)} dismissed")


@quarantine_app.command("list")
def list_quarantine(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List reports that were stored and answered but could not be translated, and why.

    Example: tollbook quarantine list
    """
    with _database(config)[0] as database, database.read() as conn:
        rows = [
            {
                "id": row.ref,
                "reason": row.reason,
                "detail": row.detail,
                "source": row.source,
                "received_at": clock.iso_ms(clock.from_us(row.received_us)),
            }
            for row in store.list_quarantined(conn)
        ]
    if json:
        as_json(rows)
        return
    _print(rows, "Quarantine is empty.")


@quarantine_app.command("retry")
def retry_quarantine(ids: IdsArgument = None, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Translate quarantined reports again with their client's settings of today.

    Example: tollbook quarantine retry
    """
    from cdr import retry as retries

    database, settings = _database(config)
    with database, database.lease(LEASE, LEASE_WAIT_S):
        with database.read() as conn:
            listed: dict[int, Any] = {row.ref: row for row in store.list_quarantined(conn)}
        chosen = _chosen(ids, listed)
        retries.retry_quarantined(database, settings, chosen, clock.now_us())
        with database.read() as conn:
            left = {row.ref for row in store.list_quarantined(conn)}
    _tell(len(chosen), len([i for i in chosen if i in left]), json)


def _database(config: Any) -> tuple[Database, Settings]:
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    return open_database(settings.database.url), settings


def _chosen(ids: list[int] | None, listed: dict[int, Any]) -> list[int]:
    unknown = [str(i) for i in ids or () if i not in listed]
    if unknown:
        raise TollbookError(f"no such id: {', '.join(unknown)}; the list command shows them")
    return sorted(set(ids)) if ids else sorted(listed)


def _tell(tried: int, left: int, json: bool) -> None:
    if json:
        as_json({"tried": tried, "settled": tried - left, "left": left})
    else:
        typer.echo(f"{tried} tried again: {tried - left} settled, {left} left")


def _print(rows: list[dict[str, Any]], nothing: str) -> None:
    if not rows:
        typer.echo(nothing)
        return
    print_table([name for name in rows[0] if any(row[name] for row in rows)], rows)
