"""Accounts and what identifies them: customers, carriers, and our own side of the ledger (house).

It never moves a balance; cdr.store.ledger does.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from accounting.base.clock import from_us, to_us
from accounting.base.errors import TollbookError
from cdr.ledger import House, house_name
from cdr.rating.directory import (
    ALWAYS_US,
    FOREVER_US,
    Account,
    Directory,
    Identity,
    build_directory,
)
from cdr.store.tables import account, identity

_directories: "WeakKeyDictionary[Engine, tuple[tuple[Any, ...], Directory]]" = WeakKeyDictionary()
"""The directory as last read from each database, with its fingerprint."""


class AccountRow(NamedTuple):
    """An account as it is stored."""

    id: int
    role: str
    name: str
    currency: str
    payment: str
    credit_limit_micros: int
    timezone: str
    balance_micros: int
    created_at: datetime


class IdentityRow(NamedTuple):
    """An identity as it is stored, and whose it is."""

    id: int
    account_name: str
    identity: Identity


def insert_account(
    conn: Connection,
    *,
    role: str,
    name: str,
    currency: str,
    payment: str,
    credit_limit_micros: int,
    timezone: str,
    created_at: datetime,
) -> int:
    """Add an account with balance 0; return its id."""
    row = {
        "role": role, "name": name, "currency": currency, "payment": payment, "timezone": timezone,
        "credit_limit_micros": credit_limit_micros, "balance_micros": 0, "created_at": created_at,
    }  # fmt: skip
    return _new_id(conn.execute(insert(account), row))


def find_account(conn: Connection, role: str, name: str) -> AccountRow | None:
    """Return the account of this role and name."""
    row = conn.execute(_accounts().where(account.c.role == role, account.c.name == name)).one_or_none()
    return None if row is None else AccountRow(*row)


def require_account(conn: Connection, role: str, name: str) -> AccountRow:
    """Return the account of this role and name; a TollbookError if there is none."""
    found = find_account(conn, role, name)
    if found is None:
        word = "carrier" if role == "carrier" else "account"
        raise TollbookError(f"there is no {word} {name!r}; see `tollbook {word} list`, or add it first")
    return found


def list_accounts(conn: Connection, role: str) -> list[AccountRow]:
    """Return all accounts of a role by name."""
    return [
        AccountRow(*row) for row in conn.execute(_accounts().where(account.c.role == role).order_by(account.c.name))
    ]


def insert_identity(conn: Connection, new: Identity, created_at: datetime) -> int:
    """Add an identity; return its id. The caller has looked for overlapping ones."""
    row = {
        "account_id": new.account_id, "kind": new.kind, "value": new.value,
        "valid_from": _bound(new.valid_from_us), "valid_to": _bound(new.valid_to_us), "created_at": created_at,
    }  # fmt: skip
    return _new_id(conn.execute(insert(identity), row))


def end_identity(conn: Connection, identity_id: int, valid_to_us: int) -> None:
    """Give an open identity its end; one that has an end keeps it."""
    ended = conn.execute(
        update(identity)
        .where(identity.c.id == identity_id, identity.c.valid_to.is_(None))
        .values(valid_to=_bound(valid_to_us))
    )
    assert ended.rowcount == 1, identity_id


def identities_of(conn: Connection, account_id: int) -> list[IdentityRow]:
    """Return an account's identities by kind, value and time."""
    found = conn.execute(_identities().where(identity.c.account_id == account_id))
    return sorted(map(_identity_row, found), key=lambda row: row.identity[1:])


def identities_with(conn: Connection, role: str, kind: str, value: str) -> list[IdentityRow]:
    """Return who of this role claims or claimed a value."""
    asked = _identities().where(identity.c.kind == kind, identity.c.value == value, account.c.role == role)
    return [_identity_row(row) for row in conn.execute(asked.order_by(identity.c.id))]


def ensure_house(
    conn: Connection, needed: Iterable[tuple[House, str]], created_at: datetime
) -> dict[tuple[House, str], int]:
    """Return the ids of the house accounts for these (house, currency), adding those that do not exist yet."""
    pairs = sorted(set(needed))
    known = _house_ids(conn, pairs)
    for house, currency in pairs:
        if (house, currency) not in known:
            known[house, currency] = _add_house(conn, house, currency, created_at)
    return known


def load_directory(conn: Connection) -> Directory:
    """Return all accounts and identities; read again only if some were added or ended since this process last asked."""
    fingerprint = _fingerprint(conn)
    cached = _directories.get(conn.engine)
    if cached is not None and cached[0] == fingerprint:
        return cached[1]
    accounts = conn.execute(
        select(
            account.c.id,
            account.c.role,
            account.c.name,
            account.c.currency,
            account.c.timezone,
        )
    )
    directory = build_directory(
        [Account(*row) for row in accounts],
        [_identity_row(row).identity for row in conn.execute(_identities().order_by(identity.c.id))],
    )
    _directories[conn.engine] = (fingerprint, directory)
    return directory


def _fingerprint(conn: Connection) -> tuple[Any, ...]:
    """Return what changes whenever an account or identity is added or an identity ended; nothing else ever does."""
    accounts = conn.execute(select(func.count(), func.max(account.c.id), func.max(account.c.created_at))).one()
    identities = conn.execute(
        select(
            func.count(),
            func.max(identity.c.id),
            func.max(identity.c.created_at),
            func.count(identity.c.valid_to),
            func.max(identity.c.valid_to),
        )
    ).one()
    return (*accounts, *identities)


def _accounts() -> Select[Any]:
    return select(
        account.c.id, account.c.role, account.c.name, account.c.currency, account.c.payment,
        account.c.credit_limit_micros, account.c.timezone, account.c.balance_micros, account.c.created_at,
    )  # fmt: skip


def _identities() -> Select[Any]:
    return select(
        identity.c.id, account.c.name, identity.c.account_id, identity.c.kind, identity.c.value,
        identity.c.valid_from, identity.c.valid_to,
    ).join(account, account.c.id == identity.c.account_id)  # fmt: skip


def _identity_row(row: Any) -> IdentityRow:
    identity_id, name, account_id, kind, value, valid_from, valid_to = row
    bounds = (
        ALWAYS_US if valid_from is None else to_us(valid_from),
        FOREVER_US if valid_to is None else to_us(valid_to),
    )
    return IdentityRow(identity_id, name, Identity(account_id, kind, value, *bounds))


def _bound(us: int) -> datetime | None:
    return None if us in (ALWAYS_US, FOREVER_US) else from_us(us)


def _house_ids(conn: Connection, pairs: list[tuple[House, str]]) -> dict[tuple[House, str], int]:
    by_name = {house_name(house, currency): (house, currency) for house, currency in pairs}
    asked = select(account.c.name, account.c.id).where(account.c.role == "house", account.c.name.in_(by_name))
    return {by_name[name]: account_id for name, account_id in conn.execute(asked)}


def _add_house(conn: Connection, house: House, currency: str, created_at: datetime) -> int:
    try:
        with conn.begin_nested():
            return insert_account(
                conn,
                role="house",
                name=house_name(house, currency),
                currency=currency,
                payment="postpaid",
                credit_limit_micros=0,
                timezone="UTC",
                created_at=created_at,
            )
    except IntegrityError:  # another process was first
        return _house_ids(conn, [(house, currency)])[house, currency]


def _new_id(result: Any) -> int:
    return int(result.inserted_primary_key[0])
