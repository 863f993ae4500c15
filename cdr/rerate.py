"""Rates answered calls again, from their packets: a reversal and a new charge for what changes.

Each call is paired again from its evidence, so that a rerated CDR can be traced like any other.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from accounting.base import clock
from accounting.base.config import Settings
from accounting.base.money import format_micros
from accounting.db.engine import Database
from cdr.pipeline import Pipeline, Work
from cdr.store import calls
from cdr.store.batches import last_batch

GROUPS_PER_BATCH = 5_000


@dataclass(slots=True)
class Rerated:
    """What a rerating changed: calls looked at, calls changed, and the change of the sums charged, by currency."""

    looked_at: int = 0
    changed: int = 0
    change_micros: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, object]:
        """Return this for JSON; amounts as decimal strings."""
        change = {currency: format_micros(micros, 6) for currency, micros in sorted(self.change_micros.items())}
        return {"looked_at": self.looked_at, "changed": self.changed, "change": change}

    def sentence(self, dry_run: bool) -> str:
        """Return this for people."""
        sums = ", ".join(f"{format_micros(m, 6)} {currency}" for currency, m in sorted(self.change_micros.items()) if m)
        verb = "would change" if dry_run else "changed"
        return f"{self.looked_at} calls looked at, {self.changed} {verb}; sum of prices: {sums or 'the same'}"


def rerate(
    database: Database,
    settings: Settings,
    account_id: int | None,
    since: datetime | None,
    until: datetime | None,
    *,
    ids: tuple[int, ...] = (),
    dry_run: bool = False,
) -> Rerated:
    """Rate the answered calls that ended in [since, until) again; return what changed. The caller holds the lease."""
    pipeline = Pipeline(database, settings, actor="rerate")
    with database.read() as conn:
        wanted = calls.select_for_rerate(conn, account_id, since, until, ids)
    result = Rerated(looked_at=len(wanted))
    everything = sorted(wanted)
    for at in range(0, len(everything), GROUPS_PER_BATCH):
        some = everything[at : at + GROUPS_PER_BATCH]
        groups = tuple({wanted[cdr_id][0]: wanted[cdr_id][1] for cdr_id in some}.items())
        work = Work(groups=groups, rate_again=frozenset(some), kind="rerate")
        with database.read() as conn:
            before = calls.load_latest(conn, some)
            plan = pipeline.prepare(conn, work, clock.now_us(), last_batch(conn) + 1)
        for row in plan.cdr_rows:
            old = before.get(row.id)
            if account_id is not None and account_id not in (row.account_id, old.account_id if old else None):
                continue
            result.changed += 1
            if old is not None and old.price_micros is not None:
                result.change_micros[old.currency] -= old.price_micros
            if row.price_micros is not None:
                result.change_micros[row.currency] += row.price_micros
        if not dry_run and plan.cdr_rows:
            mine = frozenset(
                row.id
                for row in plan.cdr_rows
                if account_id is None or account_id in (row.account_id, before[row.id].account_id)
            )
            pipeline.carry_out(work._replace(rate_again=mine), clock.now_us())
    return result
