"""The pipeline beside other processes, under load that never ends, and on a machine in trouble."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from accounting.db.engine import Database
from cdr.pipeline import Pipeline, Work
from cdr.store import batches
from cdr.store.tables import call_exception
from tests.support.lab import T0, Lab, bye, invite

DECK = "prefix,destination,rate,connect_fee\n49,Germany,0.06,0.01\n4915,Germany mobile,0.12,0\n"
NOW_US = (T0 + 100) * 1_000_000


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(database, tmp_path)
    yield lab
    assert lab.differences() == ()
    lab.close()


def test_rows_that_another_process_has_used_in_the_meantime_are_not_used_again(lab: Lab, database: Database) -> None:
    lab.journal(invite("c1", 0), bye("c1", 60))
    slow = Pipeline(database, lab.settings)
    rows = slow._read()
    lab.process()
    for work in (Work(rows), Work(rows[1:])):
        with pytest.raises(batches.OvertakenError):
            slow.carry_out(work, NOW_US)
    assert [row.revision for row in lab.cdrs()] == [1]


def test_calls_that_are_due_are_closed_though_reports_keep_coming(lab: Lab) -> None:
    lab.journal(invite("silent", 0))
    lab.process(after_s=10)
    asked = 0

    def clock() -> int:
        nonlocal asked
        asked += 1
        assert asked < 10, "it never ends"
        lab.journal(invite(f"c{asked}", 172_800), received_s=172_800)
        return (T0 + 172_800) * 1_000_000

    lab.journal(invite("c0", 172_800), received_s=172_800)
    lab.pipeline.run(clock)
    assert [row.stop_cause for row in lab.cdrs()] == ["max_age"]


@pytest.mark.parametrize("trouble", [MemoryError(), OSError(28, "No space left on device"), ImportError("gone")])
def test_trouble_of_the_machine_sets_no_event_aside(
    lab: Lab, database: Database, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    import cdr.pipeline

    def failing(*_: Any, **__: Any) -> Any:
        raise trouble

    lab.journal(invite("c1", 0), bye("c1", 60))
    with monkeypatch.context() as patched:
        patched.setattr(cdr.pipeline, "pair_group", failing)
        with pytest.raises(type(trouble)):
            lab.process()
    with database.read() as conn:
        assert conn.execute(select(call_exception)).all() == []
    lab.process()
    assert len(lab.cdrs()) == 1
