"""Whatever the order, the losses and the runs: the calls, what they cost and the balances are those of one run.

Packets of four clients go through the real pipeline on SQLite; `verify` must find nothing after any step.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from accounting.base import log
from accounting.base.clock import from_us
from accounting.base.errors import TollbookError
from accounting.db.engine import open_database, upgrade_database
from accounting.event import Source, pack_ref
from accounting.journal import JournalWriter, fetch, load_sources, register_source, seq_counts
from cdr.rerate import rerate
from cdr.settle import BOOKKEEPING, FIRST_WORD, MATTERS, CdrRow
from cdr.store.tables import account, call_exception, cdr, charge, open_call, quarantine
from tests.support.lab import FAILED, INVITE, PEER, PROXY, STOP, T0, Lab, bye, invite, shown
from tests.support.radius import SECRET, request

EXAMPLES = int(os.environ.get("PIPELINE_EXAMPLES", "30"))  # 0.2 s each; thousands were run before a release
DAY_S = 86_400
FINAL_S = 9 * DAY_S
SECOND_US = 1_000_000

SECOND_PROXY = PROXY._replace(name="proxy-2", rank=2, role="egress", own_addresses=())
RELAY = Source(id=0, name="relay", dialects=("mediaproxy",), dictionary="opensips", rank=3)
GATEWAY = Source(id=0, name="gateway", dialects=("generic",))
ACC = Source(id=0, name="acc", kind="sql", dialects=("opensips",), rank=2, columns=("caller=src", "called=dst"))
RADACCT = Source(id=0, name="radacct", kind="sql", dialects=("generic",), rank=2)
SOURCES = {
    "proxy": PROXY, "second": SECOND_PROXY, "relay": RELAY, "gateway": GATEWAY, "acc": ACC, "radacct": RADACCT,
}  # fmt: skip

GATE = "sip:+4930111@gw.beta.example"
DECKS = tuple(
    "prefix,destination,rate,connect_fee,initial_s,increment_s\n" + rows
    for rows in (
        "49,Germany,0.06,0.01,1,1\n4915,Germany mobile,0.12,0,60,60\n",
        "49,Germany,0.06,0.02,1,1\n4915,Germany mobile,0.12,0,30,6\n44,UK,0.5,0,1,1\n",
        "4915,Germany mobile,0,0,1,1\n",
    )
)


class Report(NamedTuple):
    """One packet, from whom, and when it arrives (seconds after T0)."""

    source: str
    received_s: int
    raw: bytes


class Step(NamedTuple):
    """Some packets come in; then something is done as of T0 + now_s."""

    reports: tuple[Report, ...]
    action: str  # process | rerate | close | deck0 ...
    now_s: int


# ---- what is reported


def complete(call_id: str, answered: int, lasted_ms: int, *, to_tag: str = "b", **parties: str) -> bytes:
    """Return the one report of an answered call, as OpenSIPS in cdr mode sends it."""
    called = parties.get("called", "sip:+4915112345678@lab.example")
    return request(
        SECRET, (40, STOP), (204, INVITE), (205, 486), (55, T0 + answered), (206, "a"), (207, to_tag), (44, call_id),
        (1, "alice@lab.example"), (31, "sip:alice@lab.example"), (30, called), (216, called),
        (107, parties.get("via", GATE)), (214, "192.0.2.10"), (227, -(-lasted_ms // 1000)), (228, 2),
        (229, T0 + answered - 2), (230, lasted_ms),
    )  # fmt: skip


def media(call_id: str, lasted: int, info: str, *, to_tag: str = "b") -> bytes:
    return request(
        SECRET, (40, 3), (44, call_id), (1, "x@default"), (46, lasted), (206, "a"), (207, to_tag), (234, info), (41, 3),
    )  # fmt: skip


def session(status: int, session_id: str, at: int, lasted: int | None = None, *, nas: str = "nas-1") -> bytes:
    told = () if lasted is None else ((46, lasted),)
    return request(
        SECRET, (40, status), (44, session_id), (55, T0 + at), (32, nas), (1, "alice@lab.example"),
        (30, "+4930222"), *told,
    )  # fmt: skip


def reboot(at: int, status: int) -> bytes:
    return request(SECRET, (40, status), (44, "0"), (55, T0 + at), (32, "nas-1"))


def acc_row(call_id: str, at: int, method: str, called: str, to_tag: str) -> bytes:
    row = {
        "method": method, "from_tag": "a", "to_tag": to_tag, "callid": call_id, "sip_code": "200", "time": local(at),
        "src": "sip:alice@lab.example", "dst": called, "src_ip": "192.0.2.10",
    }  # fmt: skip
    return json.dumps({"table": "acc", "row": row}).encode()


def radacct_row(session_id: str, called: str, began: int, lasted: int | None = None) -> bytes:
    """Return a session's row: as its Start made it, or as its Stop changed it."""
    row = {
        "acctsessionid": session_id, "nasipaddress": "192.0.2.77", "username": "alice@lab.example",
        "calledstationid": called, "acctstarttime": local(began),
    }  # fmt: skip
    if lasted is not None:
        row |= {"acctstoptime": local(began + lasted), "acctsessiontime": str(lasted)}
    return json.dumps({"table": "radacct", "row": row}).encode()


def local(at: int) -> str:
    return from_us((T0 + at) * SECOND_US).strftime("%Y-%m-%d %H:%M:%S")


TIMES = st.sampled_from([0, 1, 5, 59, 61, 120, 130, 200, 300, 1_000, 4_000, DAY_S + 100])
LASTED = st.sampled_from([0, 1, 30, 60, 61, 200, 3_000])


@st.composite
def rows_of(draw: st.DrawFn, call_id: str, called: str, at: int, lasted: int, to_tag: str = "") -> list[Report]:
    """Return what tables say of a call, or of a session, which has no tags: often nothing."""
    told: list[Report] = []
    if to_tag and draw(st.integers(0, 3)) == 0:
        late = draw(st.integers(0, 2))
        told.append(Report("acc", at, acc_row(call_id, at + late, "INVITE", called, to_tag)))
        told.append(Report("acc", at + lasted, acc_row(call_id, at + lasted + late, "BYE", called, to_tag)))
    if draw(st.integers(0, 3)) == 0:
        began = at + draw(st.sampled_from([0, 1, 3_600]))  # the last: its time zone is set wrong
        told.append(Report("radacct", began, radacct_row(call_id, called, began)))
        told.append(Report("radacct", began + lasted, radacct_row(call_id, called, began, lasted)))
    return told


@st.composite
def sip_calls(draw: st.DrawFn) -> list[Report]:
    call_id = draw(st.sampled_from(["c1", "c1", "c2"]))
    at, lasted = draw(TIMES), draw(LASTED)
    to_tag = draw(st.sampled_from(["b", "b", "b2"]))
    called = draw(
        st.sampled_from(["sip:+4915112345678@lab.example", "sip:+442071234567@lab.example", "sip:bob@lab.example"])
    )
    told: list[Report] = []

    def tell(source: str, at: int, raw: bytes) -> None:
        told.append(Report(source, at, raw))

    if draw(st.integers(0, 2)) == 0:  # a branch that failed first
        for raw in [
            invite(call_id, at - 3, status=FAILED, code=draw(st.sampled_from([486, 503])), to_tag="x", called=called)
        ] * 2:
            tell("proxy", at - 3, raw)
    shape = draw(st.sampled_from(["plain", "plain", "spiral", "complete", "failed", "fork"]))
    if shape == "failed":
        tell("proxy", at, invite(call_id, at, status=FAILED, code=404, to_tag=to_tag, called=called))
    elif shape == "complete":
        tell("proxy", at + lasted, complete(call_id, at, lasted * 1000 + 250, to_tag=to_tag, called=called))
    else:
        tell("proxy", at, invite(call_id, at, to_tag=to_tag, called=called, via=GATE))
        tell("proxy", at + lasted, bye(call_id, at + lasted, by_callee=draw(st.booleans()), to_tag=to_tag))
    if shape == "spiral":
        inner = {"called": GATE, "source_ip": "127.0.0.1", "via": "sip:+4915199@gw.beta.example"}
        tell("proxy", at, invite(call_id, at, to_tag=to_tag, **inner))
        tell("proxy", at + lasted, bye(call_id, at + lasted, to_tag=to_tag))
    if shape == "fork":
        tell("proxy", at + 1, invite(call_id, at + 1, to_tag="c", called=called))
        tell("proxy", at + 40, bye(call_id, at + 40, to_tag="c"))
    if draw(st.integers(0, 2)) == 0:
        tell("second", at, invite(call_id, at + draw(st.integers(0, 2)), to_tag=to_tag, called=called))
        tell("second", at + lasted, bye(call_id, at + lasted, to_tag=to_tag))
    if draw(st.integers(0, 2)) == 0:
        tell(
            "relay",
            at + lasted + 60,
            media(call_id, lasted, draw(st.sampled_from(["timeout", "ICE session", ""])), to_tag=to_tag),
        )
    told += draw(rows_of(call_id, called, at, lasted, to_tag))
    if draw(st.integers(0, 3)) == 0:
        tell("proxy", at + lasted + 10, bye(call_id, at + lasted + 10, code=481, to_tag=to_tag))
    return told


@st.composite
def sessions(draw: st.DrawFn) -> list[Report]:
    """A call of one of two gateways that use the same ids, now and then that of a SIP call."""
    at, lasted = draw(TIMES), draw(LASTED)
    session_id, nas = draw(st.sampled_from(["s1", "s1", "c1"])), draw(st.sampled_from(["nas-1", "nas-2"]))

    def tell(status: int, when: int, told: int | None = None) -> Report:
        return Report("gateway", when, session(status, session_id, when, told, nas=nas))

    told = [tell(1, at)]
    told += [tell(3, at + gone, gone) for gone in draw(st.lists(st.sampled_from([10, 60, 500]), max_size=2))]
    told.append(tell(2, at + lasted, draw(st.sampled_from([None, lasted]))))
    told += draw(rows_of(session_id, "+4930222", at, lasted))
    restarts = draw(st.lists(TIMES, max_size=1))
    return told + [Report("gateway", when, reboot(when, draw(st.sampled_from([7, 8])))) for when in restarts]


@st.composite
def reused_sessions(draw: st.DrawFn) -> list[Report]:
    """A gateway that gives a session's id again after its restart."""
    at = draw(TIMES)
    packets = [
        (at, session(1, "s1", at)),
        (at + 200, reboot(at + 200, 7)),
        (at + 300, session(1, "s1", at + 300)),
        (at + 360, session(2, "s1", at + 360)),
    ]
    return [Report("gateway", when, raw) for when, raw in packets]


@st.composite
def scenarios(draw: st.DrawFn) -> list[Step]:
    calls = draw(st.lists(st.one_of(sip_calls(), sip_calls(), sessions(), reused_sessions()), min_size=1, max_size=4))
    reports = [one for told in calls for one in told if draw(st.integers(0, 4))]
    reports += draw(st.lists(st.sampled_from(reports), max_size=3)) if reports else []
    if draw(st.booleans()):
        reports = draw(st.permutations(reports))
    steps = []
    while reports or not steps:
        size = draw(st.integers(1, max(1, len(reports))))
        action = draw(st.sampled_from(["process"] * 6 + ["rerate", "close", "close", "deck0", "deck1", "deck2"]))
        now_s = draw(st.sampled_from([-DAY_S, 100, 500, DAY_S + 700, 3 * DAY_S]))
        steps.append(Step(tuple(reports[:size]), action, now_s))
        reports = reports[size:]
    return steps


# ---- the laboratory


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database that has accounts, decks and a carrier."""
    folder = tmp_path_factory.mktemp("template")
    log.configure(level="error")
    upgrade_database(f"sqlite:///{folder}/tollbook.db")
    with open_database(f"sqlite:///{folder}/tollbook.db") as database:
        lab = Lab(database, folder)
        lab.sell(DECKS[0])
        lab.tollbook("account", "identify", "acme", "--user", "alice@lab.example")
        lab.sell(DECKS[0], account="bobs", ip="203.0.113.0/24")
        lab.tollbook("account", "identify", "bobs", "--user", "bob@lab.example")
        lab.tollbook("account", "identify", "bobs", "--did", "+4930111")
        (folder / "buy.csv").write_text(DECKS[1])
        lab.tollbook("rates", "load", str(folder / "buy.csv"), "--deck", "beta", "--currency", "USD", "--side", "buy")
        lab.tollbook("carrier", "add", "beta", "--currency", "USD", "--deck", "beta")
        lab.tollbook("carrier", "identify", "beta", "--host", "gw.beta.example")
        lab.close()
    return folder


@contextmanager
def laboratory(template: Path) -> Iterator[Lab]:
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for name in ("tollbook.db", "tollbook-journal.db"):
            shutil.copy(template / name, Path(folder) / name)
        with open_database(f"sqlite:///{folder}/tollbook.db") as database:
            lab = Lab(database, Path(folder), '[log]\nlevel = "error"\n')
            yield lab
            lab.close()


def receive(lab: Lab, reports: Sequence[Report]) -> None:
    journal(lab, [((T0 + one.received_s) * SECOND_US, SOURCES[one.source], PEER, one.raw) for one in reports])


def journal(lab: Lab, reports: Sequence[tuple[int, Source, bytes, bytes]]) -> None:
    """Append reports (received_us, source, peer, raw) in this order: rows of tables as a collector does."""
    writers = {kind: JournalWriter(lab.database, kind, "test") for kind in ("receiver", "collector")}
    for received_us, source, peer, raw in reports:
        writer = writers["collector" if source.kind == "sql" else "receiver"]
        writer.append([(received_us, register_source(lab.database, source), peer, raw)])
    for writer in writers.values():
        writer.close()


def load_deck(lab: Lab, number: int) -> None:
    path = Path(str(lab.settings.path)).parent / f"deck{number}.csv"
    path.write_text(DECKS[number])
    for name in ("acme-deck", "bobs-deck"):
        lab.tollbook("rates", "load", str(path), "--deck", name, "--currency", "EUR")


def act(lab: Lab, step: Step) -> None:
    if step.action.startswith("deck"):
        load_deck(lab, int(step.action[4:]))
    lab.process(after_s=step.now_s)
    if step.action == "rerate":
        rerate(lab.database, lab.settings, None, None, None)
    if step.action == "close":
        answered = [row for row in lab.cdrs() if row.answered_at]
        if answered:
            row = answered[-1]
            words = ("--ended-at", (row.answered_at).isoformat(), "--reason", "because")
            with suppress(
                TollbookError
            ):  # of contradictory reports others may count for more; it is stored all the same
                lab.tollbook("cdr", "close", str(row.id), *words)


def check(lab: Lab) -> None:
    assert lab.differences() == ()
    net: Counter[int] = Counter()
    expected: Counter[int] = Counter()
    with lab.database.read() as conn:
        for line in conn.execute(select(charge)):
            signed = line.amount_micros if line.kind == "charge" else -line.amount_micros
            net[line.account_id] += signed
            if line.party == "forwarder":
                expected[line.account_id] += signed
        for row in conn.execute(select(cdr).where(cdr.c.superseded_at.is_(None))):
            expected[row.account_id] += row.price_micros or 0
        balances = conn.execute(select(account).where(account.c.role != "house")).all()
    for row in balances:
        assert row.balance_micros == net[row.id] * (-1 if row.role == "customer" else 1)
        if row.role == "customer":
            assert -row.balance_micros == expected[row.id]


def is_of_one_source(steps: Sequence[Step]) -> bool:
    """Return whether no call can have several sources: their trifles make no revision, so the first word stands."""
    told = {report.source for step in steps for report in step.reports}
    return not told & {"second", "relay", "acc", "radacct"} and all(step.action != "close" for step in steps)


def state(lab: Lab, *, exact: bool) -> dict[str, Any]:
    """Return all that must not depend on order and runs; exact: with what two sources may say a little differently."""
    with lab.database.read() as conn:
        exceptions = sorted((r.call_key, r.reason, len(r.events)) for r in conn.execute(select(call_exception)))
        waiting = conn.execute(select(func.count()).select_from(open_call)).scalar_one()
        unread = conn.execute(select(func.count()).select_from(quarantine)).scalar_one()
        charges: Counter[tuple[Any, ...]] = Counter()
        found = conn.execute(
            select(charge, cdr.c.call_id).join(cdr, (cdr.c.id == charge.c.cdr_id) & cdr.c.superseded_at.is_(None))
        )
        for row in found:
            key = (
                row.call_id,
                row.party,
                row.account_id,
                row.number,
                row.prefix,
                row.billed_s,
                row.amount_micros,
                exact and row.service_at,
            )
            charges[key] += 1 if row.kind == "charge" else -1
        balances = {r.name: r.balance_micros for r in conn.execute(select(account).where(account.c.role != "house"))}
    return {
        "cdrs": sorted((row if exact else _matter(row) for row in shown(lab.cdrs())), key=repr),
        "exceptions": exceptions,
        "open": waiting,
        "quarantined": unread,
        "charges": {key: n for key, n in charges.items() if n},
        "balances": balances,
    }


def _matter(row: dict[str, Any]) -> dict[str, Any]:
    cause = "told" if row["stop_cause"] in ("bye", "complete") else row["stop_cause"]
    return {name: value for name, value in row.items() if name not in FIRST_WORD} | {"stop_cause": cause}


def test_every_column_of_a_cdr_is_said_to_matter_or_not() -> None:
    told = ({"id", "call_hash", "call_key", "price_decimals", "cost_decimals"}, MATTERS, FIRST_WORD, BOOKKEEPING)
    assert sorted(name for names in told for name in names) == sorted(CdrRow._fields)


def in_one_run(template: Path, lab: Lab, steps: Sequence[Step]) -> dict[str, Any]:
    """Return the state after one run over all that a laboratory's journal holds, with all decks loaded before."""
    with lab.database.journal_read() as conn:
        sources = load_sources(conn)
        rows = fetch(
            conn, [pack_ref(count.writer, seq) for count in seq_counts(conn) for seq in range(1, count.last + 1)]
        )
    with laboratory(template) as other:
        for step in steps:
            if step.action.startswith("deck"):
                load_deck(other, int(step.action[4:]))
        in_order = sorted(rows, key=lambda row: (row.received_us, row.ref))
        journal(other, [(row.received_us, sources[row.source_id], row.peer, row.raw) for row in in_order])
        other.process(after_s=FINAL_S)
        check(other)
        return state(other, exact=is_of_one_source(steps))


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_any_runs_end_where_one_run_ends(template: Path, steps: list[Step]) -> None:
    with laboratory(template) as lab:
        for step in steps:
            receive(lab, step.reports)
            act(lab, step)
            check(lab)
        lab.process(after_s=FINAL_S)
        rerate(lab.database, lab.settings, None, None, None)
        lab.process(after_s=FINAL_S)  # the clock of rerate is earlier: it may have opened again what was too old
        check(lab)
        assert state(lab, exact=is_of_one_source(steps)) == in_one_run(template, lab, steps)
