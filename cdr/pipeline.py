"""The pipeline: journal -> events -> calls -> CDRs, charges and balances, one batch in one transaction.

A batch commits wholly or not at all, together with the offsets it has read up to. It never changes the journal.
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from accounting.base import clock
from accounting.base.config import Settings
from accounting.base.log import get_logger
from accounting.base.metrics import (
    PIPELINE_BATCHES,
    PIPELINE_BEHIND,
    PIPELINE_CDRS,
    PIPELINE_EVENTS,
    PIPELINE_NEWEST,
    PIPELINE_RETRIES,
    PIPELINE_SET_ASIDE,
)
from accounting.db.engine import Database
from accounting.db.failures import is_transient, is_unavailable
from accounting.event import AccountingEvent, EventKind, group_key, key_hash, unpack_ref
from accounting.journal import JournalRow
from cdr.call import PairedGroup
from cdr.charging import Charging
from cdr.evidence import EvidenceReader
from cdr.pairing import PairingLimits, pair_group
from cdr.pairing_sessions import is_row
from cdr.plan import Plan, set_aside_row
from cdr.reconcile import Stored, concerned
from cdr.store import batches, calls, exceptions
from cdr.work import Work

TRIES_MAX = 5
SWEEP_MAX = 20_000
NOT_OF_DATA = (batches.OvertakenError, MemoryError, OSError, ImportError)
RESTARTS = (EventKind.NAS_ON, EventKind.NAS_OFF)
NO_CALL = (EventKind.OTHER, *RESTARTS)

log = get_logger(__name__)


class Pipeline:
    """Turns what the journal holds into CDRs; one at a time per database, see lease()."""

    def __init__(self, database: Database, settings: Settings, *, actor: str = "pipeline") -> None:
        self._database = database
        self._reader = EvidenceReader(database)
        self._batch_max = settings.worker.batch_events_max
        pairing = settings.pairing
        self._limits = PairingLimits(
            max_age_us=pairing.max_age_s * 1_000_000,
            stop_grace_us=pairing.stop_grace_s * 1_000_000,
            media_grace_us=pairing.media_grace_s * 1_000_000,
            reuse_gap_us=pairing.reuse_gap_s * 1_000_000,
            media_gap_us=pairing.media_gap_s * 1_000_000,
        )
        self._charging = Charging(self._reader, settings.directions, actor)

    def run(self, now_us: Callable[[], int], *, stop: Callable[[], bool] = lambda: False) -> Counter[str]:
        """Process what the journal holds, then all open calls that are due; return the sums of the batches' counts.

        It ends when it has caught up, however fast reports keep coming. now_us gives the clock of grace times and ages.
        The caller holds the lease.
        """
        done: Counter[str] = Counter()
        while not stop():
            rows = self._read()
            if rows:
                done.update(self.carry_out(Work(rows), now_us()))
            if len(rows) < self._batch_max:
                break
        while not stop():
            now = now_us()
            with self._database.read() as conn:
                due = calls.due_groups(conn, now, SWEEP_MAX)
            if not due:
                break
            done.update(self.carry_out(Work(groups=tuple(due.items())), now))
        return done

    def _read(self) -> tuple[JournalRow, ...]:
        with self._database.read() as conn:
            offsets = batches.load_offsets(conn)
        PIPELINE_BEHIND.set(self._reader.behind(offsets))
        return tuple(self._reader.read_after(offsets, self._batch_max))

    def carry_out(self, work: Work, now_us: int) -> Counter[str]:
        """Commit this work; what cannot be made is found by halving and set aside, so that the rest goes on."""
        try:
            return self.attempt(work, now_us)
        except Exception as error:
            if not may_be_of_data(error):
                raise
            if work.size > 1:
                first, last = work.halves()
                done = self.carry_out(first, now_us)
                done.update(self.carry_out(last, now_us))
                return done
            if cut_off := self._cut_off_by(work):
                done = self.carry_out(work._replace(leaves_calls=True), now_us)
                done.update(self.carry_out(cut_off, now_us))
                return done
            PIPELINE_SET_ASIDE.inc()
            log.error("an event could not be processed and is set aside", error=type(error).__name__)
            return self._set_aside(work, error)

    def _cut_off_by(self, work: Work) -> Work | None:
        """Return the work on the groups that the restart of a NAS drew in: one bad call must not hide it from others.

        Noted by itself it stands for all times, so that calls which are not reached now are ended by it when due.
        """
        if not work.rows or work.leaves_calls:
            return None
        with self._database.read() as conn:
            events, _ = self._reader.translate(
                work.rows, exceptions.load_overrides(conn, [row.ref for row in work.rows])
            )
            restarts = [event for event in events if event.kind in RESTARTS]
            groups = tuple(self._groups_of_nas(conn, restarts).items())
        return Work(groups=groups, nases=_names(restarts)) if groups else None

    def attempt(self, work: Work, now_us: int) -> Counter[str]:
        """Commit this work as it is, or raise; what the database asks to be tried again is tried again."""
        for attempt in range(TRIES_MAX):
            try:
                return self._make_and_commit(work, now_us)
            except DBAPIError as error:
                if not is_transient(error) or attempt == TRIES_MAX - 1:
                    raise
                PIPELINE_RETRIES.inc()
                log.warning("the database asked for another try", attempt=attempt + 1, error=type(error).__name__)
                time.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable")

    # ---- one batch ------------------------------------------------------------------------------------------------

    def _make_and_commit(self, work: Work, now_us: int) -> Counter[str]:
        with _no_garbage_collection(), self._database.read() as conn:
            batch_id = batches.last_batch(conn) + 1
            offsets = batches.load_offsets(conn)
            if work.origin == "events_read":
                batches.check_unread(offsets, (row.ref for row in work.rows))
            plan = self.prepare(conn, work, now_us, batch_id)
        return self._commit(plan, work, offsets, batch_id)

    def prepare(self, conn: Connection, work: Work, now_us: int, batch_id: int) -> Plan:
        """Return what this work would write as that batch; nothing is written."""
        plan = self._pair(conn, work, now_us)
        self._charging.prepare(conn, plan, batch_id)
        return plan

    def _pair(self, conn: Connection, work: Work, now_us: int) -> Plan:
        plan = Plan(rate_again=work.rate_again)
        now = clock.now()
        overrides = exceptions.load_overrides(conn, [row.ref for row in work.rows])
        events, unread = self._reader.translate(work.rows, overrides)
        plan.newest_us = max((event.at_us for event in events), default=0)
        for row, source, why in unread:
            plan.quarantine_rows.append((row.ref, source, why.reason, why.detail, row.received_us))
        plan.counts["events_quarantined"] += len(unread)
        plan.counts[work.origin] += len(work.rows) * (1 if work.origin == "events_read" else -1)
        if work.origin == "events_quarantined":
            plan.quarantine_gone.extend(work.gone)
        else:
            plan.exceptions_gone.extend(work.gone)

        arrived, keys = self._sort(conn, plan, events, work)
        stored, known, moved = self._concerned(conn, plan, work, arrived, keys)
        if moved:
            more = {key: key_hash(key) for _, key in moved if key not in keys}
            keys |= more
            stored |= calls.load_stored(conn, more)
            known |= self._known(conn, {key: stored[key] for key in more if key in stored})[0]
        reboots = self._reboots(conn, plan, arrived, known)
        for bundle in _bundles(keys, moved):
            group = [s for key in bundle for s in stored.get(key, ())]
            evidence = [known[ref] for s in group for ref in s.refs]
            others = [event for event in evidence if event.kind in NO_CALL] if moved else []
            if others:  # read with today's settings they are of no call
                plan.counts["events_other"] += len(others)
                plan.reboots += [event for event in others if event.kind is not EventKind.OTHER]
                evidence = [event for event in evidence if event.kind not in NO_CALL]
            new = [event for key in bundle for event in arrived.get(key, ())]
            paired = self._paired(evidence + new, len(bundle) > 1, reboots, now_us)
            sources = {event.ref: event.source for event in (*evidence, *new)}
            plan.add_group(group, len(new), len(others), paired, now, sources=sources)
        return plan

    def _paired(
        self, evidence: Sequence[AccountingEvent], is_mixed: bool, reboots: Mapping[str, Sequence[int]], now_us: int
    ) -> PairedGroup:
        """Return the calls of all this evidence; is_mixed: of more than one group."""
        by_key: dict[str, Sequence[AccountingEvent]] = {}
        if is_mixed:
            for event in evidence:
                by_key[group_key(event)] = [*by_key.get(group_key(event), ()), event]
        elif evidence:
            by_key[""] = evidence
        groups = [
            pair_group(
                some,
                now_us=now_us,
                reboots=reboots,
                limits=self._limits,
            )
            for some in by_key.values()
        ]
        if len(groups) == 1:
            return groups[0]
        return PairedGroup(
            tuple(call for one in groups for call in one.calls), tuple(ref for one in groups for ref in one.duplicates)
        )

    def _sort(
        self, conn: Connection, plan: Plan, events: Sequence[AccountingEvent], work: Work
    ) -> tuple[dict[str, list[AccountingEvent]], dict[str, int]]:
        """Return the events by group, and all groups (key -> hash) to look at; those of no call go into the plan."""
        arrived: dict[str, list[AccountingEvent]] = {}
        keys = dict(work.groups)
        for event in events:
            if event.kind in NO_CALL:
                plan.counts["events_other"] += 1
                if event.kind is not EventKind.OTHER:
                    plan.reboots.append(event)
                continue
            arrived.setdefault(group_key(event), []).append(event)
        for key in arrived:
            keys[key] = key_hash(key)
        if not work.leaves_calls:
            keys |= self._groups_of_nas(conn, plan.reboots)
        return arrived, keys

    def _groups_of_nas(self, conn: Connection, reboots: Sequence[AccountingEvent]) -> dict[str, int]:
        """Return the groups (key -> hash) that these restarts may concern."""
        if not reboots:
            return {}
        names = _names(reboots)
        times = [event.at_us for event in reboots]
        since = clock.from_us(min(times) - self._limits.max_age_us)
        return calls.groups_of_nas(conn, names, since, clock.from_us(max(times)))

    def _concerned(
        self,
        conn: Connection,
        plan: Plan,
        work: Work,
        arrived: Mapping[str, Sequence[AccountingEvent]],
        keys: Mapping[str, int],
    ) -> tuple[dict[str, Sequence[Stored]], dict[int, AccountingEvent], list[tuple[str, str]]]:
        """Return the stored calls to look at by group, their events by position, and what _known says has moved."""
        of_packets = cache(self._reader.writers_of_packets)
        swept, restarted = dict(work.groups), work.nases | _names(plan.reboots)
        narrowed: dict[str, int] = {}

        def keep(key: str, group: Sequence[Stored]) -> Sequence[Stored]:
            new = arrived.get(key, ())
            if work.kind == "retry" or any(is_row(event) or not event.is_session for event in new):
                return group
            nases = restarted | {event.nas for event in new}
            if key in swept:
                nases |= {s.nas for s in group if s.open_refs is not None or s.id in work.rate_again}
            some = concerned(group, nases, of_packets)
            if len(some) < len(group):
                narrowed[key] = keys[key]
            return some

        stored = calls.load_stored(conn, keys, keep)
        known, moved = self._known(conn, stored)
        wider = {
            key: narrowed[key]
            for key in narrowed
            if any(not known[ref].is_session for s in stored[key] for ref in s.refs)
        }
        if wider:
            stored |= calls.load_stored(conn, wider)
            known, moved = self._known(conn, stored)
        return stored, known, moved

    def _known(
        self, conn: Connection, stored: Mapping[str, Sequence[Stored]]
    ) -> tuple[dict[int, AccountingEvent], list[tuple[str, str]]]:
        """Return the stored groups' events by position, and (old key, new key) where a retry reads one differently.

        The new key of an event that is of no call is its old one.
        """
        key_of = {ref: key for key, group in stored.items() for s in group for ref in s.refs}
        if not key_of:
            return {}, []
        overrides = exceptions.load_overrides(conn, key_of)
        events, unread = self._reader.translate(self._reader.fetch(list(key_of)), overrides)
        if unread or len(events) != len(key_of):
            lost = sorted(key_of.keys() - {event.ref for event in events})[:3]
            raise LookupError(f"evidence is missing from the journal or can no longer be read: {lost}")
        known = {event.ref: event for event in events}
        moved = []
        for ref in overrides:
            event, key = known[ref], key_of[ref]
            if event.kind in NO_CALL:
                moved.append((key, key))
            elif group_key(event) != key:
                moved.append((key, group_key(event)))
        return known, moved

    def _reboots(
        self,
        conn: Connection,
        plan: Plan,
        arrived: Mapping[str, Sequence[AccountingEvent]],
        known: Mapping[int, AccountingEvent],
    ) -> dict[str, list[int]]:
        sessions = [event for events in (*arrived.values(), known.values()) for event in events if event.is_session]
        nases = _names(sessions)
        if not nases:
            return {}
        found = batches.load_reboots(conn, sorted(nases))
        for event in plan.reboots:
            for name in {event.nas, event.nas_address} & nases:
                found.setdefault(name, []).append(event.at_us)
        return {nas: sorted(set(times)) for nas, times in found.items()}

    def _commit(self, plan: Plan, work: Work, offsets: Mapping[int, int], batch_id: int) -> Counter[str]:
        now = clock.now()
        if work.origin == "events_read":
            for row in work.rows:
                writer, seq = unpack_ref(row.ref)
                plan.offsets[writer] = max(seq, plan.offsets.get(writer, 0))
        plan.counts["cdrs"] = len(plan.cdr_rows)
        plan.counts["charges"] = len(plan.charge_rows)
        with self._database.write() as conn:
            batches.insert_batch(conn, batch_id, work.kind, now, plan.counts)
            batches.move_offsets(conn, offsets, plan.offsets)
            batches.insert_reboots(conn, plan.reboots)
            batches.check_gone(calls.delete_open(conn, plan.open_gone), plan.open_gone)
            calls.insert_open(conn, plan.open_rows)
            batches.check_gone(exceptions.delete_exceptions(conn, plan.exceptions_gone), plan.exceptions_gone)
            exceptions.insert_exceptions(conn, plan.exception_rows)
            batches.check_gone(exceptions.delete_quarantined(conn, plan.quarantine_gone), plan.quarantine_gone)
            exceptions.insert_quarantined(conn, plan.quarantine_rows)
            calls.set_evidence(conn, plan.evidence)
            calls.supersede(conn, plan.superseded, now)
            calls.insert_cdrs(conn, plan.cdr_rows)
            self._charging.post(conn, plan, batch_id, now)
        log.info(
            "committed a batch",
            batch=batch_id,
            events=len(work.rows),
            cdrs=len(plan.cdr_rows),
            charges=len(plan.charge_rows),
            quarantined=len(plan.quarantine_rows),
            exceptions=len(plan.exception_rows),
        )
        if plan.newest_us and work.origin == "events_read":
            PIPELINE_NEWEST.set(plan.newest_us / 1e6)
        PIPELINE_BATCHES.inc()
        PIPELINE_EVENTS.inc(len(work.rows))
        PIPELINE_CDRS.inc(len(plan.cdr_rows))
        return +plan.counts

    def _set_aside(self, work: Work, error: Exception) -> Counter[str]:
        """Commit the one event or group that cannot be made as an exception, so that it stalls nothing."""
        now = clock.now()
        detail = f"{type(error).__name__}: {error}"[:1_000]
        plan = Plan()
        plan.counts[work.origin] += len(work.rows) * (1 if work.origin == "events_read" else -1)
        plan.counts["events_exception"] += len(work.rows)
        if work.origin == "events_quarantined":
            plan.quarantine_gone.extend(work.gone)
        else:
            plan.exceptions_gone.extend(work.gone)
        for row in work.rows:
            source = self._reader.source(row.source_id).name
            plan.exception_rows.append(set_aside_row(row.ref, str(row.ref), "", source, detail, now, [row.ref]))
        with self._database.read() as conn:
            batch_id = batches.last_batch(conn) + 1
            offsets = batches.load_offsets(conn)
            for group in calls.load_stored(conn, dict(work.groups)).values():
                for s in group:
                    if s.open_refs is None:
                        continue
                    plan.open_gone.append(s.id)
                    plan.counts["events_open"] -= len(s.open_refs)
                    plan.counts["events_exception"] += len(s.open_refs)
                    plan.exception_rows.append(set_aside_row(s.id, s.key, s.key, "", detail, now, s.open_refs))
        if not plan.exception_rows:
            raise error
        return self._commit(plan, work, offsets, batch_id)


def _names(events: Iterable[AccountingEvent]) -> frozenset[str]:
    """Return all that the NASes of these events are known by."""
    return frozenset(name for event in events for name in (event.nas, event.nas_address) if name)


def _bundles(keys: Iterable[str], moved: Iterable[tuple[str, str]]) -> Iterable[Sequence[str]]:
    """Return the groups to look at, those that share events in one."""
    home: dict[str, list[str]] = {key: [key] for key in keys}
    for old, new in moved:
        if home[old] is not home[new]:
            home[old] += home[new]
            home |= dict.fromkeys(home[new], home[old])
    return {id(bundle): bundle for bundle in home.values()}.values()


def may_be_of_data(error: Exception) -> bool:
    """Return whether a record may have caused this, not the machine, the database or another process."""
    if isinstance(error, DBAPIError):
        return not is_unavailable(error)
    return isinstance(error, StatementError) or not isinstance(error, (*NOT_OF_DATA, SQLAlchemyError))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the cycle collector from searching a batch's values, which hold no cycles: 20 % of the time, measured."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
