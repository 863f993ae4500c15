"""Commands that run the pipeline: process, rerate, verify."""

from collections import Counter
from typing import Annotated

import typer

from accounting.base import clock
from accounting.base.cli import ConfigOption, JsonOption, as_json
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import configure
from accounting.base.priority import give_way
from accounting.db.engine import open_database
from cdr.lease import LEASE, LEASE_WAIT_S
from cdr.store.accounts import require_account

app = typer.Typer()


@app.command()
def process(
    now: Annotated[
        str | None,
        typer.Option("--now", metavar="ISO", help="Clock of grace times and ages, with offset or Z; default: now."),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Pair, rate and charge all that the journal holds, until nothing is left, then end.

    Example: tollbook process --now 2026-11-26T00:00:00Z
    """
    from cdr.pipeline import Pipeline  # late, here and below: other commands need not load it

    at_us = clock.to_us(clock.parse_instant(now)) if now is not None else None
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    give_way()
    with open_database(settings.database.url) as database, database.lease(LEASE, LEASE_WAIT_S):
        done = Pipeline(database, settings).run(lambda: clock.now_us() if at_us is None else at_us)
    if json:
        as_json(dict(done))
    else:
        typer.echo(_sentence(done))


def _sentence(done: Counter[str]) -> str:
    if not done:
        return "Nothing to do: all reports have been read and no open call is due."
    return (
        f"{done['events_read']} events read, {done['cdrs']} CDRs and {done['charges']} charges written; "
        f"{done['events_duplicate']} duplicates, {done['events_exception']} into exceptions, "
        f"{done['events_quarantined']} into quarantine."
    )


@app.command()
def rerate(
    account: Annotated[
        str | None,
        typer.Option(
            "--account",
            metavar="NAME",
            help="Only this account's calls, and nobody's that become its; not those of others.",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="ISO", help="Only calls that ended at or after this instant.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="ISO", help="Only calls that ended before this instant.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Rate answered calls again, with the accounts and decks known today as of their answer.

    What changes gets a reversal and a new charge. Where an identity takes calls over from another account, name that
    account, or none: `--account` of the one that they go to does not look at calls that are another's.

    Example: tollbook rerate --account acme --from 2026-11-01T00:00:00Z --dry-run
    """
    from cdr.rerate import rerate as rerate_calls

    start = clock.parse_instant(since) if since else None
    end = clock.parse_instant(until) if until else None
    if start and end and start >= end:
        raise TollbookError("--from must lie before --to")
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    with open_database(settings.database.url) as database:
        account_id = None
        if account is not None:
            with database.read() as conn:
                account_id = require_account(conn, "customer", account).id
        with database.lease(LEASE, LEASE_WAIT_S):
            result = rerate_calls(database, settings, account_id, start, end, dry_run=dry_run)
    if json:
        as_json(result.as_dict())
    else:
        typer.echo(result.sentence(dry_run))
    if result.failed:
        raise TollbookError(f"{result.failed} calls could not be rated again and are as they were; the log names them")


@app.command()
def verify(json: JsonOption = False, config: ConfigOption = None) -> None:
    """Recompute all that is derived: balances, entries, counts of events, the journal; exit 1 on any difference.

    Example: tollbook verify
    """
    from cdr.verify import verify as verify_database

    settings = load_settings(config)
    with open_database(settings.database.url) as database:
        found = verify_database(database)
    if json:
        as_json(found._asdict())
    else:
        for line in found.differences:
            typer.echo(line)
        told = f"{len(found.differences)} differences" if found.differences else "no difference"
        typer.echo(f"{found.events} events, {found.cdrs} CDRs, {found.entries} charge entries: {told}")
    if found.differences:
        raise typer.Exit(1)
