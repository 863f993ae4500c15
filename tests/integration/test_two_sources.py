"""The same calls over RADIUS and SQL: one CDR and one charge, whichever comes first."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from accounting.base.clock import from_us
from accounting.base.config import CollectorSettings, source_of
from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from cdr.store import tables
from tests.support.lab import PEER, T0, Lab, bye, invite
from tests.support.radius import SECRET, request

DECK = "prefix,destination,rate,initial_s,increment_s\n49,Germany,0.60,{step},{step}\n"
TO = "sip:+4915112345678@lab.example"


class Twice(Lab):
    """A database that RADIUS and a collector report to."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database, folder)
        self._rows = JournalWriter(database, "collector", "sql")

    def close(self) -> None:
        super().close()
        self._rows.close()

    def sql(self, *rows: dict[str, Any], rank: int = 1, full: tuple[str, ...] = (), name: str = "a-sql") -> None:
        made = CollectorSettings(
            name=name, url="mysql://h/d", flavour="opensips", start="all", rank=rank,
            columns={"called": "orig_ruri", "caller": "from_uri", "translated": "ruri"},
        )  # fmt: skip
        source = register_source(self.database, source_of(made))
        self._append(source, "acc", *rows, full=full)

    def gateway(self, *packets: bytes) -> None:
        source = register_source(self.database, Source(id=0, name="gateway", dialects=("generic",)))
        self._writer.append([(T0 * 1_000_000, source, PEER, packet) for packet in packets])

    def radacct(self, began: int, ended: int) -> None:
        made = CollectorSettings(name="radacct", url="mysql://h/d", flavour="radacct", start="all", rank=2)
        told = {
            "acctsessionid": "s1", "nasipaddress": "192.0.2.10", "username": "alice@lab.example",
            "callingstationid": "+4930", "calledstationid": "+4940", "acctstarttime": shown(began),
            "acctupdatetime": shown(began), "acctstoptime": shown(ended), "acctsessiontime": ended - began,
        }  # fmt: skip
        self._append(register_source(self.database, source_of(made)), "radacct", told)

    def _append(self, source: int, table: str, *rows: dict[str, Any], full: tuple[str, ...] = ()) -> None:
        said = [json.dumps({"table": table, "row": row, "full": full}).encode() for row in rows]
        self._rows.append([((T0 + 4000) * 1_000_000, source, b"", raw) for raw in said])


def shown(at: int) -> str:
    return from_us((T0 + at) * 1_000_000).strftime("%Y-%m-%d %H:%M:%S")


def row(call_id: str, at: int, method: str = "INVITE", **more: Any) -> dict[str, Any]:
    return {
        "method": method, "from_tag": "a", "to_tag": "b", "callid": call_id, "sip_code": "200", "time": shown(at),
        "from_uri": "sip:alice@lab.example", "orig_ruri": TO, "ruri": "sip:+4915112345678@198.51.100.7",
        "src_ip": "192.0.2.10",
    } | more  # fmt: skip


@pytest.fixture
def twice(database: Database, tmp_path: Path) -> Iterator[Twice]:
    given = Twice(database, tmp_path)
    yield given
    given.close()


@pytest.mark.parametrize("sql_first", [True, False])
def test_second_that_costs_nothing_makes_no_revision(twice: Twice, sql_first: bool) -> None:
    twice.sell(DECK.format(step=60))
    for is_sql in (sql_first, not sql_first):
        if is_sql:
            twice.sql(row("c", 0), row("c", 90, "BYE"))
        else:
            twice.journal(invite("c", 1), bye("c", 92))
        twice.process()
    [cdr] = twice.cdrs()
    assert (cdr.revision, cdr.billed_s, len(twice.charges())) == (1, 120, 1)
    assert twice.differences() == ()


def test_stronger_word_that_changes_the_charge_makes_a_revision(twice: Twice) -> None:
    twice.sell(DECK.format(step=1))
    twice.sql(row("c", 0), row("c", 90, "BYE"), rank=2)
    twice.process()
    twice.journal(invite("c", 0), bye("c", 91))
    twice.process()
    [cdr] = twice.cdrs()
    assert (cdr.revision, cdr.billed_s) == (2, 91)
    assert [charge.kind for charge in twice.charges()] == ["charge", "reversal", "charge"]
    assert twice.differences() == ()


def test_weaker_word_changes_nothing(twice: Twice) -> None:
    twice.sell(DECK.format(step=1))
    twice.journal(invite("c", 0), bye("c", 91))
    twice.process()
    twice.sql(row("c", 0), row("c", 90, "BYE"), rank=2)
    twice.process()
    [cdr] = twice.cdrs()
    assert (cdr.revision, cdr.billed_s, len(twice.charges())) == (1, 91, 1)


def test_sql_tells_the_end_that_radius_lost(twice: Twice) -> None:
    twice.sell(DECK.format(step=1))
    twice.journal(invite("c", 0))
    twice.process()
    assert [cdr.exception for cdr in twice.cdrs()] == ["no_stop"]
    twice.sql(row("c", 0), row("c", 90, "BYE"))
    twice.process()
    [cdr] = twice.cdrs()
    assert (cdr.revision, cdr.exception, cdr.billed_s) == (2, "", 90)


@pytest.mark.parametrize("sql_first", [True, False])
@pytest.mark.parametrize("tags", [((206, "a"), (207, "b")), ()])
def test_row_of_radacct_is_the_session_of_its_packets(
    twice: Twice, sql_first: bool, tags: tuple[tuple[int, str], ...]
) -> None:
    twice.sell(DECK.format(step=1))
    twice.tollbook("account", "identify", "acme", "--user", "alice@lab.example")
    said = (*tags, (44, "s1"), (32, "gw-1"), (4, 0xC000020A), (1, "alice@lab.example"), (31, "+4930"), (30, "+4940"))
    packets = [request(SECRET, (40, kind), (55, T0 + at), *said) for kind, at in ((1, 0), (2, 90))]
    for is_sql in (sql_first, not sql_first):
        if is_sql:
            twice.radacct(began=1, ended=91)
        else:
            (twice.journal if tags else twice.gateway)(*packets)
        twice.process()
    [cdr] = twice.cdrs()
    kinds = [charge.kind for charge in twice.charges()]
    assert kinds.count("charge") - kinds.count("reversal") == 1
    assert (cdr.billed_s, cdr.exception) == (90, "")
    assert twice.differences() == ()


def gateway_call(name: str, at: int, lasted: int) -> list[bytes]:
    """Return the packets of a session with the id 7 of one of many gateways that count from 1."""
    said = ((44, "7"), (32, name), (4, 0xC000020A), (1, "alice@lab.example"), (31, "+4930"), (30, "+4940"))
    end = request(SECRET, (40, 2), (55, T0 + at + lasted), (46, lasted), *said)
    return [request(SECRET, (40, 1), (55, T0 + at), *said), end]


@pytest.mark.parametrize("sip_first", [True, False])
def test_call_id_that_a_caller_chose_voids_no_gateways_calls(twice: Twice, sip_first: bool) -> None:
    twice.sell(DECK.format(step=1))
    twice.tollbook("account", "identify", "acme", "--user", "alice@lab.example")
    for is_sip in (sip_first, not sip_first):
        if is_sip:
            mallory = {"caller": "sip:mallory@lab.example", "user": "mallory@lab.example"}
            twice.journal(invite("7", 0, **mallory), bye("7", 5))
        else:
            twice.gateway(*gateway_call("gw-1", 0, 90), *gateway_call("gw-2", -30 * 86_400, 60))
        twice.process()
    assert [cdr.billed_s for cdr in twice.cdrs() if cdr.nas == "gw-2"] == [60]
    kinds = [charge.kind for charge in twice.charges()]
    assert kinds.count("charge") - kinds.count("reversal") == 2  # that of gw-1, in the same minute, is held
    assert twice.differences() == ()


def test_gateways_with_one_address_and_one_session_id_are_charged_each(twice: Twice) -> None:
    twice.sell(DECK.format(step=1))
    twice.tollbook("account", "identify", "acme", "--user", "alice@lab.example")
    for name in ("gw-1", "192.0.2.10", "gw-2"):
        twice.gateway(*gateway_call(name, 0, 90))
        twice.process()
    assert [cdr.billed_s for cdr in twice.cdrs()] == [90, 90, 90]
    assert twice.differences() == ()


def test_many_gateways_with_one_id_cost_a_report_no_more_than_its_own(twice: Twice) -> None:
    twice.sell(DECK.format(step=1))
    twice.tollbook("account", "identify", "acme", "--user", "alice@lab.example")
    twice.gateway(*(packet for n in range(40) for packet in gateway_call(f"gw-{n}", 0, 90)))
    twice.process()
    with twice.database.write() as conn:
        conn.execute(
            update(tables.cdr).where(tables.cdr.c.nas != "gw-1").values(digest=0)
        )  # to be seen if it is looked at
    twice.gateway(*gateway_call("gw-1", 4_000, 60), *gateway_call("gw-new", 4_000, 60))
    twice.process()
    assert [(row.nas, row.billed_s, row.revision) for row in twice.cdrs()[40:]] == [("gw-1", 60, 1), ("gw-new", 60, 1)]
    assert [row.revision for row in twice.cdrs()] == [1] * 42


@pytest.mark.parametrize("waits", [True, False])
def test_sip_call_of_an_id_is_seen_among_many_gateways(twice: Twice, waits: bool) -> None:
    twice.sell(DECK.format(step=1))
    twice.tollbook("account", "identify", "acme", "--user", "alice@lab.example")
    twice.gateway(*(packet for n in range(5) for packet in gateway_call(f"gw-{n}", -80_000, 90)))
    twice.journal(invite("7", 0), *(() if waits else (bye("7", 60),)))
    twice.process(after_s=100)
    twice.gateway(*gateway_call("gw-1", 1, 60))
    twice.process()
    assert [row.billed_s for row in twice.cdrs()] == [90, 90, 90, 90, 90, 60]
    assert twice.differences() == ()


def test_bare_user_of_a_column_is_the_user_of_the_uri(twice: Twice) -> None:
    user = "o'brien;--%20x"
    twice.journal(invite("c", 0, caller=f"sip:{user}@lab.example"), bye("c", 90))
    twice.sql(row("c", 0, from_uri=user), row("c", 90, "BYE", from_uri=user), rank=2)
    twice.process()
    [pair] = json.loads(twice.tollbook("reconcile", "--date", "2026-11-24", "--json"))["pairs"]
    assert (pair["both"], pair["differing"]["count"]) == (1, {})


@pytest.mark.parametrize("sql_first", [True, False])
def test_cut_call_id_is_never_a_second_charge(twice: Twice, sql_first: bool) -> None:
    twice.sell(DECK.format(step=1))
    whole, cut = "L" * 100 + "-1@h", "L" * 64
    for is_sql in (sql_first, not sql_first):
        if is_sql:
            twice.sql(row(cut, 0), row(cut, 90, "BYE"), full=("callid",))
        else:
            twice.journal(invite(whole, 0), bye(whole, 90))
        twice.process()
    [cdr] = twice.cdrs()
    assert (cdr.billed_s, len(twice.charges())) == (90, 1)
    assert twice.differences() == ()


@pytest.mark.parametrize("sql_first", [True, False])
@pytest.mark.parametrize("whole", ["c1", "L" * 100 + "-1@h"])
def test_cut_tag_is_never_a_second_charge(twice: Twice, sql_first: bool, whole: str) -> None:
    twice.sell(DECK.format(step=1))
    tag = "T" * 70
    full = ("to_tag",) if whole == "c1" else ("to_tag", "callid")
    for is_sql in (sql_first, not sql_first):
        if is_sql:
            cut = {"to_tag": tag[:64]}
            twice.sql(row(whole[:64], 0, **cut), row(whole[:64], 90, "BYE", **cut), full=full)
        else:
            twice.journal(invite(whole, 0, to_tag=tag), bye(whole, 90, to_tag=tag))
        twice.process()
    [cdr] = twice.cdrs()
    assert (cdr.billed_s, tag.startswith(cdr.to_tag)) == (90, True)
    kinds = [charge.kind for charge in twice.charges()]
    assert kinds.count("charge") - kinds.count("reversal") == 1
    assert twice.differences() == ()
