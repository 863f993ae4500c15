"""Recomputes everything that is derived and returns what does not agree.

It reads only. Each difference is one line that says where to look.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, and_, case, func, or_, select

from accounting.base.money import format_micros
from accounting.db.engine import Database
from accounting.event import SEQ_BITS, unpack_ref
from accounting.journal import seq_counts
from cdr.settle import pack_refs
from cdr.store import batches, calls, exceptions
from cdr.store.ledger import (
    entries_across_currencies,
    entries_at_odds,
    recomputed_balances,
    stored_balances,
    sums_of_entries,
)
from cdr.store.tables import cdr, charge


class Verified(NamedTuple):
    """What was looked at and what was found wrong; no differences: all is well."""

    events: int
    cdrs: int
    entries: int
    differences: tuple[str, ...]


def verify(database: Database) -> Verified:
    """Return all differences between what is stored and what can be derived from it."""
    with database.read() as conn:
        offsets = batches.load_offsets(conn)
        sums = batches.sums(conn)
        entries = sums_of_entries(conn)
        differences = [
            *_balances(conn),
            *_entries(conn, entries),
            *_cdrs(conn),
            *_reversals(conn),
            *_events(conn, sums, offsets),
        ]
        cdrs = int(
            conn.execute(select(func.count()).select_from(cdr).where(cdr.c.superseded_at.is_(None))).scalar_one()
        )
    with database.journal_read() as conn:
        differences += _journal(conn, offsets, sums["events_read"])
    return Verified(sums["events_read"], cdrs, len(entries), tuple(differences))


def _balances(conn: Connection) -> Iterator[str]:
    derived = recomputed_balances(conn)
    for account_id, role, name, _, balance in stored_balances(conn):
        expected = derived.get(account_id, 0)
        if balance != expected:
            yield (
                f"balance of {role} {name}: {format_micros(balance, 6)} stored, "
                f"{format_micros(expected, 6)} by its ledger entries"
            )
    for entry_id in entries_across_currencies(conn)[:20]:
        yield f"ledger entry {entry_id}: its two accounts are not kept in its currency"
    if sum(derived.values()):
        yield f"ledger: debits and credits differ by {format_micros(sum(derived.values()), 6)}"


def _entries(conn: Connection, entries: dict[int, int]) -> Iterator[str]:
    """entries: id -> amount of the charge and reversal entries."""
    query = (
        select(charge.c.entry_id, func.sum(charge.c.amount_micros))
        .where(charge.c.entry_id.is_not(None))
        .group_by(charge.c.entry_id)
    )
    summed = {row[0]: int(row[1]) for row in conn.execute(query)}
    for entry_id in sorted(entries.keys() | summed.keys()):
        posted, charged = entries.get(entry_id, 0), summed.get(entry_id, 0)
        if posted != charged:
            yield (
                f"ledger entry {entry_id}: {format_micros(posted, 6)} posted, "
                f"its charges sum up to {format_micros(charged, 6)}"
            )
    for entry_id in entries_at_odds(conn)[:20]:
        yield f"ledger entry {entry_id}: a charge that names it is of another account, currency, period or kind"
    unposted = select(func.count()).select_from(charge).where(charge.c.entry_id.is_(None), charge.c.amount_micros != 0)
    count = conn.execute(unposted).scalar_one()
    if count:
        yield f"charges: {count} with an amount but without a ledger entry"


def _cdrs(conn: Connection) -> Iterator[str]:
    doubled = (
        select(cdr.c.id).where(cdr.c.superseded_at.is_(None)).group_by(cdr.c.id).having(func.count() > 1).limit(20)
    )
    for row in conn.execute(doubled):
        yield f"CDR {row.id}: more than one latest revision"
    counted = select(cdr.c.id).group_by(cdr.c.id).having(func.count() != func.max(cdr.c.revision)).limit(20)
    for row in conn.execute(counted):
        yield f"CDR {row.id}: a revision is missing"
    signed = case((charge.c.kind == "charge", charge.c.amount_micros), else_=-charge.c.amount_micros)
    shown_columns = (
        ("account", cdr.c.price_micros, cdr.c.currency),
        ("carrier", cdr.c.cost_micros, cdr.c.cost_currency),
    )
    for party, column, currency in shown_columns:
        charged = (
            select(charge.c.cdr_id, charge.c.currency, func.sum(signed).label("amount"))
            .where(charge.c.party == party)
            .group_by(charge.c.cdr_id, charge.c.currency)
            .subquery()
        )
        same = (charged.c.cdr_id == cdr.c.id) & ((charged.c.currency == currency) | (currency == ""))
        shown = func.coalesce(column, 0)
        query = (
            select(cdr.c.id, shown, func.coalesce(charged.c.amount, 0))
            .select_from(cdr.outerjoin(charged, same))
            .where(and_(cdr.c.superseded_at.is_(None), shown != func.coalesce(charged.c.amount, 0)))
            .limit(20)
        )
        for cdr_id, on_cdr, by_charges in conn.execute(query):
            yield (
                f"CDR {cdr_id}: {format_micros(int(on_cdr), 6)} shown for the {party}, "
                f"its charges sum up to {format_micros(int(by_charges), 6)}"
            )


def _reversals(conn: Connection) -> Iterator[str]:
    """Hold each reversal against the charge that it takes back, and what is charged against who should pay."""
    back = charge.alias("back")
    taken = (
        (charge.c.cdr_id == back.c.cdr_id)
        & (charge.c.revision == back.c.reverses_revision)
        & (charge.c.line == back.c.reverses_line)
        & (charge.c.kind == "charge")
    )
    same = [charge.c[name] == back.c[name] for name in ("party", "account_id", "amount_micros", "currency", "period")]
    unlike = (
        select(back.c.cdr_id, back.c.revision, back.c.line)
        .select_from(back.outerjoin(charge, and_(taken, *same)))
        .where(back.c.kind == "reversal", charge.c.cdr_id.is_(None))
        .limit(20)
    )
    for row in conn.execute(unlike):
        yield f"charge {row.cdr_id}/{row.revision}/{row.line}: takes back what was not charged so"
    twice = (
        select(back.c.cdr_id, back.c.reverses_revision, back.c.reverses_line)
        .where(back.c.kind == "reversal")
        .group_by(back.c.cdr_id, back.c.reverses_revision, back.c.reverses_line)
        .having(func.count() > 1)
        .limit(20)
    )
    for row in conn.execute(twice):
        yield f"charge {row.cdr_id}/{row.reverses_revision}/{row.reverses_line}: taken back more than once"
    signed = case((charge.c.kind == "charge", charge.c.amount_micros), else_=-charge.c.amount_micros)
    payer = case((charge.c.party == "account", cdr.c.account_id), else_=charge.c.account_id)
    others = (
        select(charge.c.cdr_id)
        .join(cdr, and_(cdr.c.id == charge.c.cdr_id, cdr.c.superseded_at.is_(None)))
        .where(or_(payer.is_(None), payer != charge.c.account_id))
        .group_by(charge.c.cdr_id, charge.c.account_id)
        .having(func.sum(signed) != 0)
        .limit(20)
    )
    for row in conn.execute(others):
        yield f"CDR {row.cdr_id}: charged to another account than it shows"


def _events(conn: Connection, sums: dict[str, int], offsets: dict[int, int]) -> Iterator[str]:
    """Hold the counts of all batches against the evidence that calls own, and each event to one owner."""
    owned = {"events_open": 0, "events_used": 0, "events_attempts": 0, "events_exception": 0}
    refs: list[bytes] = []
    for owner, _, packed, attempts in calls.owned_refs(conn):
        refs.append(packed)
        if owner == "open":
            owned["events_open"] += len(packed) // 8
        else:
            owned["events_used"] += len(packed) // 8 - attempts
            owned["events_attempts"] += attempts
    for _, packed in exceptions.exception_refs(conn):
        refs.append(packed)
        owned["events_exception"] += len(packed) // 8
    for name, count in owned.items():
        if sums[name] != count:
            yield f"{name}: {sums[name]} by the batches' counts, {count} owned by calls"
    quarantined = exceptions.quarantined_refs(conn)
    refs.append(pack_refs(quarantined))
    if sums["events_quarantined"] != len(quarantined):
        counted = sums["events_quarantined"]
        yield f"events_quarantined: {counted} by the batches' counts, {len(quarantined)} in quarantine"
    kinds = ("used", "open", "attempts", "duplicate", "other", "exception", "quarantined")
    placed = sum(sums[f"events_{kind}"] for kind in kinds)
    if placed != sums["events_read"]:
        yield f"events: {sums['events_read']} read, {placed} accounted for"
    everything = np.sort(np.frombuffer(b"".join(refs), dtype=">i8"))
    twice = everything[1:][everything[1:] == everything[:-1]]
    for ref in twice[:20]:
        writer, seq = unpack_ref(int(ref))
        yield f"event {writer}/{seq}: used by more than one call"
    writers, starts = np.unique(everything >> SEQ_BITS, return_index=True)
    for writer, end in zip(writers.tolist(), [*(starts[1:] - 1), len(everything) - 1], strict=False):
        if unpack_ref(int(everything[end]))[1] > offsets.get(writer, 0):
            yield f"events of writer {writer}: used beyond the offset up to which they were read"


def _journal(conn: Connection, offsets: dict[int, int], read: int) -> Iterator[str]:
    found = {count.writer: count for count in seq_counts(conn)}
    for writer, first, last, count in found.values():
        if first != 1 or count != last:
            yield f"journal of writer {writer}: rows {first} to {last}, but {count} of them; some are missing"
        if offsets.get(writer, 0) > last:
            yield f"journal of writer {writer}: read up to {offsets[writer]}, but it ends at {last} (an older backup?)"
    for writer in sorted(offsets.keys() - found.keys()):
        yield f"journal of writer {writer}: read up to {offsets[writer]}, but it has no rows (an older backup?)"
    if sum(offsets.values()) != read:
        yield f"events: {read} read by the batches' counts, {sum(offsets.values())} by the writers' offsets"
