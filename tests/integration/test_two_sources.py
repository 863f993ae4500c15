"""The same calls over RADIUS and SQL: one CDR and one charge, whichever comes first."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounting.base.clock import from_us
from accounting.base.config import CollectorSettings, source_of
from accounting.db.engine import Database
from accounting.journal import JournalWriter, register_source
from tests.support.lab import T0, Lab, bye, invite

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
        said = [json.dumps({"table": "acc", "row": row, "full": full}).encode() for row in rows]
        self._rows.append([((T0 + 4000) * 1_000_000, source, b"", raw) for raw in said])


def row(call_id: str, at: int, method: str = "INVITE", **more: Any) -> dict[str, Any]:
    time = from_us((T0 + at) * 1_000_000).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "method": method, "from_tag": "a", "to_tag": "b", "callid": call_id, "sip_code": "200", "time": time,
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
