"""CSV exports of CDRs and charges: streamed from the database to a file, whatever their number.

It neither opens files nor databases.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, select

from accounting.base.errors import TollbookError
from accounting.db.lines import SEPARATOR, along, chosen_text, decimal_text, iso_ms, line_of, or_empty
from cdr.store.tables import account, cdr, charge, deck, deck_version, ledger_entry
from reports.frames import stream_rows
from reports.views.csv import csv_lines, header

CDR_COLUMNS = (
    "cdr_id", "revision", "call_id", "from_tag", "to_tag", "source", "direction", "account", "caller", "called",
    "caller_number", "called_number", "source_ip", "destination_ip", "started_at", "answered_at", "ended_at",
    "setup_ms", "duration_ms", "billed_s", "disposition", "sip_code", "stop_cause", "released_by", "forwarded_by",
    "rating", "destination", "prefix", "price", "currency", "carrier", "cost", "cost_currency", "exception", "flags",
    "rating_reason",
)  # fmt: skip
CHARGE_COLUMNS = (
    "cdr_id", "revision", "line", "kind", "party", "account", "number", "destination", "prefix", "deck",
    "deck_version", "billed_s", "amount", "currency", "service_at", "period", "entry_id", "posted_at", "call_id",
    "reverses_revision", "reverses_line",
)  # fmt: skip


class Choice(NamedTuple):
    """Which rows are wanted; None is no limit. Instants are half-open."""

    closed_from: datetime | None = None
    closed_to: datetime | None = None
    changed_since: datetime | None = None
    account: str | None = None


def export_cdrs(conn: Connection, choice: Choice, file: BinaryIO) -> int:
    """Write the latest revision of each chosen call, in the order of their ends; return how many."""
    names = _account_names(conn)
    return _write(conn, file, CDR_COLUMNS, cdr_statement(conn, choice), names, names)


def export_charges(conn: Connection, choice: Choice, file: BinaryIO) -> int:
    """Write the chosen charges and reversals, in the order of their calls' ends; return how many."""
    return _write(conn, file, CHARGE_COLUMNS, charge_statement(conn, choice), _account_names(conn), _deck_names(conn))


def _write(
    conn: Connection,
    file: BinaryIO,
    columns: Sequence[str],
    statement: Select[Any],
    first: Mapping[Any, str],
    second: Mapping[Any, str],
) -> int:
    """Write a header and the statement's rows: three parts of a line, and between them what two ids stand for."""
    file.write(header(columns))
    count = 0
    with closing(stream_rows(conn, statement)) as parts:
        for rows in parts:
            lines = [
                f"{head}{SEPARATOR}{first[one]}{SEPARATOR}{middle}{SEPARATOR}{second[other]}{SEPARATOR}{tail}"
                for head, one, middle, other, tail in rows
            ]
            file.write(csv_lines(lines, len(columns), SEPARATOR))
            count += len(lines)
    return count


def cdr_statement(conn: Connection, choice: Choice) -> Select[Any]:
    """Return the SQL of the chosen CDRs: parts of lines, and the ids of account and carrier between them."""
    c = cdr.c
    statement = select(
        line_of(c.id, c.revision, c.call_id, c.from_tag, c.to_tag, c.source, c.direction).label("head"),
        c.account_id,
        line_of(
            c.caller, c.called, c.caller_number, c.called_number, c.source_ip, c.destination_ip,
            iso_ms(c.started_at), iso_ms(c.answered_at), iso_ms(c.ended_at),
            or_empty(c.setup_ms), c.duration_ms, or_empty(c.billed_s),
            c.disposition, or_empty(c.sip_code), c.stop_cause, c.released_by, c.forwarded_by,
            c.rating, chosen_text(c.destination), c.prefix,
            decimal_text(c.price_micros, c.price_decimals), c.currency,
        ).label("middle"),
        c.carrier_id,
        line_of(
            decimal_text(c.cost_micros, c.cost_decimals), c.cost_currency, c.exception, c.flags, c.rating_reason,
        ).label("tail"),
    )  # fmt: skip
    statement = statement.where(c.superseded_at.is_(None), c.disposition != "void").order_by(c.closed_at, c.id)
    statement = statement.where(*_ends_between(choice))
    if choice.account is not None:
        statement = statement.where(c.account_id.in_(_account_ids(conn, choice.account, ["customer"])))
    if choice.changed_since is not None:
        return statement.where(c.made_at >= choice.changed_since)
    return along(statement, cdr, "ix_cdr_closed_at")


def charge_statement(conn: Connection, choice: Choice) -> Select[Any]:
    """Return the SQL of the chosen charges: parts of lines, and the ids of account and deck version between them.

    The end of the call is that of its latest revision, so that a charge and its reversal are never told apart.
    """
    c, latest, made = charge.c, cdr, cdr.alias("made")
    sign = case((c.kind == "reversal", case((c.amount_micros > 0, "-"), else_="")), else_="")
    amount = sign.concat(decimal_text(c.amount_micros, c.decimals))
    statement = (
        select(
            line_of(c.cdr_id, c.revision, c.line, c.kind, c.party).label("head"),
            c.account_id,
            line_of(c.number, chosen_text(c.destination), c.prefix).label("middle"),
            c.deck_version_id,
            line_of(
                c.billed_s, amount, c.currency, iso_ms(c.service_at), c.period,
                or_empty(c.entry_id), iso_ms(ledger_entry.c.posted_at), latest.c.call_id,
                or_empty(c.reverses_revision), or_empty(c.reverses_line),
            ).label("tail"),
        )
        .select_from(
            latest.join(charge, c.cdr_id == latest.c.id).outerjoin(ledger_entry, c.entry_id == ledger_entry.c.id)
        )
        .where(latest.c.superseded_at.is_(None), *_ends_between(choice))
        .order_by(latest.c.closed_at, c.cdr_id, c.revision, c.line)
    )  # fmt: skip
    if choice.account is not None:
        ids = _account_ids(conn, choice.account, ["customer", "carrier"])
        statement = statement.where(c.account_id.in_(ids))
    if choice.changed_since is not None:
        by = (made.c.id == c.cdr_id) & (made.c.revision == c.revision)
        return statement.join(made, by).where(made.c.made_at >= choice.changed_since)
    return along(statement, cdr, "ix_cdr_closed_at")


def _ends_between(choice: Choice) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if choice.closed_from is not None:
        conditions.append(cdr.c.closed_at >= choice.closed_from)
    if choice.closed_to is not None:
        conditions.append(cdr.c.closed_at < choice.closed_to)
    return conditions


def _account_names(conn: Connection) -> dict[int | None, str]:
    names: dict[int | None, str] = {None: ""}
    names |= {row.id: _clean(row.name) for row in conn.execute(select(account.c.id, account.c.name))}
    return names


def _deck_names(conn: Connection) -> dict[int, str]:
    """Return name and version of each deck version, as two cells."""
    query = select(deck_version.c.id, deck.c.name, deck_version.c.version).join_from(deck_version, deck)
    return {row.id: f"{_clean(row.name)}{SEPARATOR}{row.version}" for row in conn.execute(query)}


def _account_ids(conn: Connection, name: str, roles: Sequence[str]) -> list[int]:
    ids = conn.execute(select(account.c.id).where(account.c.name == name, account.c.role.in_(roles))).scalars().all()
    if not ids:
        raise TollbookError(f"there is no account {name!r}; `tollbook account list` shows them")
    return list(ids)


def _clean(name: str) -> str:
    return name.replace(SEPARATOR, " ")
