"""Rates answered calls again, from their packets: a reversal and a new charge for what changes.

Each call is paired again from its evidence, so that a rerated CDR can be traced like any other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from accounting.base import clock
from accounting.base.config import Settings
from accounting.base.log import get_logger
from accounting.base.money import format_micros
from accounting.db.engine import Database
from cdr.pipeline import Pipeline, may_be_of_data
from cdr.settle import CdrRow
from cdr.store import calls
from cdr.store.batches import last_batch
from cdr.work import Work

GROUPS_PER_BATCH = 5_000

log = get_logger(__name__)


@dataclass(slots=True)
class Rerated:
    """What a rerating changed: calls by what came of them, and the change of the sums charged, by currency."""

    looked_at: int = 0
    changed: int = 0
    failed: int = 0
    change_micros: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, object]:
        """Return this for JSON; amounts as decimal strings."""
        change = {currency: format_micros(micros, 6) for currency, micros in sorted(self.change_micros.items())}
        failed = {"failed": self.failed} if self.failed else {}
        return {"looked_at": self.looked_at, "changed": self.changed, **failed, "change": change}

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
    """Rate the answered calls that ended in [since, until) again; return what changed. The caller holds the lease.

    Of an account: only its calls, nobody's that become its, and those that it pays for as a forwarder. Not calls that
    are another account's: all calls would have to be paired again to find them.
    """
    with database.read() as conn:
        groups = calls.select_for_rerate(conn, account_id, since, until, ids)
    pipeline = Pipeline(database, settings, actor="rerate")
    run = _Run(database, pipeline, groups, account_id, dry_run, Rerated(looked_at=len(groups)))
    everything = sorted(groups)
    for at in range(0, len(everything), GROUPS_PER_BATCH):
        run.rate(everything[at : at + GROUPS_PER_BATCH])
    return run.result


@dataclass(frozen=True, slots=True)
class _Run:
    """One rerating: what is rated, and what came of it."""

    database: Database
    pipeline: Pipeline
    groups: Mapping[int, tuple[str, int]]  # CDR -> key and hash of its group
    account_id: int | None
    dry_run: bool
    result: Rerated

    def rate(self, ids: Sequence[int]) -> None:
        """Rate these CDRs again; one that cannot be is found by halving and left as it is."""
        try:
            self._count(*self._rate(ids))
        except Exception as error:
            if not may_be_of_data(error):
                raise
            if len(ids) > 1:
                self.rate(ids[: len(ids) // 2])
                self.rate(ids[len(ids) // 2 :])
                return
            self.result.failed += 1
            log.error("a call could not be rated again", cdr=ids[0], error=f"{type(error).__name__}: {error}")

    def _rate(self, ids: Sequence[int]) -> tuple[dict[int, CdrRow], dict[int, CdrRow]]:
        """Return what changes, or has been changed: the CDRs as they were and as they are then."""
        with self.database.read() as conn:
            before = calls.load_latest(conn, ids)
            plan = self.pipeline.prepare(conn, self._work(ids), clock.now_us(), last_batch(conn) + 1)
        after = {row.id: row for row in plan.cdr_rows if row.id in before}
        if self.account_id is not None:
            concerned = {row.cdr_id for row in plan.charge_rows if row.account_id == self.account_id}
            after = {
                cdr_id: row
                for cdr_id, row in after.items()
                if cdr_id in concerned or self.account_id in (row.account_id, before[cdr_id].account_id)
            }
        if after and not self.dry_run:
            self.pipeline.attempt(self._work(sorted(after)), clock.now_us())
            with self.database.read() as conn:
                after = calls.load_latest(conn, sorted(after))
        return before, after

    def _work(self, ids: Sequence[int]) -> Work:
        groups = dict(self.groups[cdr_id] for cdr_id in ids)
        return Work(groups=tuple(groups.items()), rate_again=frozenset(ids), kind="rerate")

    def _count(self, before: Mapping[int, CdrRow], after: Mapping[int, CdrRow]) -> None:
        self.result.changed += len(after)
        for cdr_id, row in after.items():
            for sign, one in ((-1, before[cdr_id]), (1, row)):
                if one.price_micros is not None:
                    self.result.change_micros[one.currency] += sign * one.price_micros
