"""Gives closed calls their prices, charges and ledger entries, and takes back those of earlier revisions.

It looks accounts and rates up; what they mean is decided in cdr.rating and cdr.settle.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from accounting.base import clock
from accounting.event import key_hash
from cdr.evidence import EvidenceReader
from cdr.ledger import EntryKind, Total, period_of
from cdr.plan import Closing, Plan
from cdr.rating.book import RateRequest, rate_calls
from cdr.rating.parties import Decision, Directions, Directory, decide
from cdr.settle import (
    CdrRow,
    ChargeRow,
    LiveCharge,
    Place,
    Verdict,
    cdr_row,
    charge_rows,
    difference,
    judge,
    same_charges,
    same_figures,
    same_matter,
    voided,
)
from cdr.store import calls
from cdr.store.accounts import load_directory
from cdr.store.decks import load_book
from cdr.store.ledger import post_totals


class Charging:
    """Prepares a plan's CDRs and charges, and posts them."""

    def __init__(self, reader: EvidenceReader, directions: Directions, actor: str) -> None:
        self._reader = reader
        self._directions = directions
        self._actor = actor

    def prepare(self, conn: Connection, plan: Plan, batch_id: int) -> None:
        """Fill the plan's CDR and charge rows from its closings and voids."""
        if not (plan.closings or plan.voids):
            return
        directory = load_directory(conn)
        decisions, verdicts = self._judge(conn, plan.closings, directory)
        replaced = [c.id for c in plan.closings if c.replaces] + [cdr_id for cdr_id, _ in plan.voids]
        latest = calls.load_latest(conn, replaced)
        live = calls.live_charges(conn, replaced)
        now = clock.now()
        for closing, decision, verdict in zip(plan.closings, decisions, verdicts, strict=True):
            place = Place(closing.id, closing.replaces + 1, batch_id, key_hash(closing.call.key), now)
            row = cdr_row(place, closing.call, decision, verdict)
            old = latest.get(closing.id)
            charged = live.get(closing.id, [])
            if (
                closing.only_if_figures_differ
                and old is not None
                and same_figures(old, row)
                and same_charges(charged, verdict.charges, row.answered_at)
            ):
                continue
            if closing.only_if_it_matters and old is not None and same_matter(old, row, charged, verdict.charges):
                call = closing.call
                plan.evidence.append((closing.id, closing.replaces, call.attempts, call.events))
                continue
            self._add(plan, place, row, charged, verdict, directory)
        for cdr_id, revision in plan.voids:
            old = latest[cdr_id]
            place = Place(cdr_id, revision + 1, batch_id, old.call_hash, now)
            nothing = Verdict("not_billable", "void", (), ())
            self._add(plan, place, voided(old, place), live.get(cdr_id, []), nothing, directory)

    def _judge(
        self, conn: Connection, closings: Sequence[Closing], directory: Directory
    ) -> tuple[list[Decision], list[Verdict]]:
        decisions = [
            decide(c.call, self._reader.source(c.call.source_id), directory, self._directions) for c in closings
        ]
        requests = [
            RateRequest(wish.account_id, wish.number, closing.call.answered_us or 0, closing.call.duration_ms)
            for closing, decision in zip(closings, decisions, strict=True)
            for wish in decision.wishes
        ]
        rated = rate_calls(load_book(conn), requests) if requests else []
        verdicts = []
        at = 0
        for decision in decisions:
            verdicts.append(judge(decision, rated[at : at + len(decision.wishes)]))
            at += len(decision.wishes)
        return decisions, verdicts

    def _add(
        self,
        plan: Plan,
        place: Place,
        row: CdrRow,
        live: Sequence[LiveCharge],
        verdict: Verdict,
        directory: Directory,
    ) -> None:
        reverse, add = difference(live, verdict.charges, row.answered_at)
        plan.cdr_rows.append(row)
        if place.revision > 1:
            plan.superseded.append((place.cdr_id, place.revision - 1))
        plan.charge_rows += charge_rows(
            place,
            reverse,
            add,
            row.answered_at,
            lambda account_id: period_of(row.closed_at, directory.accounts[account_id].timezone),
        )

    def post(self, conn: Connection, plan: Plan, batch_id: int, now: datetime) -> None:
        """Post the plan's charges to the ledger, one entry per account, currency, period and kind, and store them."""
        if not plan.charge_rows:
            return
        entries = post_totals(conn, [_total(row) for row in plan.charge_rows], batch_id, self._actor, now)
        rows = [row._replace(entry_id=entries.get(_total(row)._replace(amount_micros=0))) for row in plan.charge_rows]
        calls.insert_charges(conn, [row if row.amount_micros else row._replace(entry_id=None) for row in rows])


def _total(row: ChargeRow) -> Total:
    role = "carrier" if row.party == "carrier" else "customer"
    kind = EntryKind.REVERSAL if row.kind == "reversal" else EntryKind.CHARGE
    return Total(row.account_id, role, row.currency, row.period, kind, row.amount_micros)
