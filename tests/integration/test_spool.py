"""The spool: what it keeps, how it is moved, and that each row is in the journal once, whatever breaks in between."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from structlog.testing import capture_logs
from typer.testing import CliRunner

from accounting.base.errors import TollbookError
from accounting.db import spool_file
from accounting.db.append import NewRow
from accounting.db.engine import Database
from accounting.db.spool_file import Spool, SpoolUnavailable, free_spools, look_into, take_spool
from accounting.db.tables import journal, writer
from accounting.db.url import parse_url
from accounting.event import Source
from accounting.journal import JournalUnavailable, SpoolWriter, gaps, load_sources
from accounting.spool import SourceList, SpooledJournal
from tollbook import app

DAY_US = 86_400_000_000
PEER = bytes(18)
MIB = 1024 * 1024
PATIENCE_S = 30


def rows(first: int, number: int, day: int = 0) -> list[NewRow]:
    return [(day * DAY_US + n, 0, PEER, b"request %d" % n) for n in range(first, first + number)]


@pytest.fixture
def sources() -> SourceList:
    made = SourceList()
    assert made.add(Source(id=0, name="proxy-1")) == 0
    return made


@pytest.fixture
def store(database: Database, sources: SourceList, tmp_path: Path) -> Iterator[SpooledJournal]:
    made = SpooledJournal(database, "test", sources, tmp_path / "spool", 64 * MIB)
    yield made
    made.close()


def raws(database: Database) -> list[bytes]:
    with database.journal_read() as conn:
        return list(conn.execute(select(journal.c.raw).order_by(journal.c.writer, journal.c.seq)).scalars())


def wait_until_stored(database: Database, wanted: Sequence[NewRow]) -> None:
    end = monotonic() + PATIENCE_S
    while len(raws(database)) < len(wanted):
        assert monotonic() < end, "the spool was not moved"
    assert sorted(raws(database)) == sorted(row[3] for row in wanted)


def missing(database: Database) -> int:
    """Return how many rows the writers' seq lack."""
    with database.journal_read() as conn:
        return sum(count.last - count.rows for count in gaps(conn))


class Refusing:
    """Stands for a database that breaks: `times` appends fail, before or after they are stored."""

    def __init__(self, store: SpooledJournal, times: int, *, after: bool) -> None:
        self._insert = store._writer.append
        self._left = times
        self._after = after
        self._store = store
        store._writer.append = self  # type: ignore[assignment,method-assign]

    def __call__(self, rows: Sequence[NewRow], position: Any = None) -> list[int]:
        if self._left:
            self._left -= 1
            if self._after:
                self._insert(rows)
                writer = self._store._writer
                writer._seq -= len(rows)
                writer._doubtful = rows
            raise JournalUnavailable("it broke")
        return self._insert(rows, position)


@pytest.mark.parametrize("after", [True, False])
def test_what_the_database_did_not_take_is_moved_when_it_is_back(
    store: SpooledJournal, database: Database, after: bool
) -> None:
    store.open()
    store.append(rows(0, 5))
    Refusing(store, 1, after=after)
    store.append(rows(5, 5))
    for n in range(10, 40, 5):
        store.append(rows(n, 5))
    wait_until_stored(database, rows(0, 40))
    assert missing(database) == 0


def test_a_database_that_forgot_the_writer_gets_its_rows_under_another(
    store: SpooledJournal, database: Database
) -> None:
    store.append(rows(0, 5))
    Refusing(store, 1, after=True)
    store.append(rows(5, 5))
    with database.journal_write() as conn:  # put back to before the receiver started
        conn.execute(delete(journal))
        conn.execute(writer.update().values(pid=1, host="another"))
    store.open()
    wait_until_stored(database, rows(5, 5))
    assert missing(database) == 5


def test_sources_are_registered_when_rows_are_moved(store: SpooledJournal, database: Database) -> None:
    store._is_away = True
    store.append(rows(0, 3))
    with database.journal_read() as conn:
        assert load_sources(conn) == {}
    store.open()
    wait_until_stored(database, rows(0, 3))
    with database.journal_read() as conn:
        assert [source.name for source in load_sources(conn).values()] == ["proxy-1"]


def test_a_day_has_a_writer_of_its_own(store: SpooledJournal, database: Database) -> None:
    Refusing(store, 1, after=False)
    store.append(rows(0, 3))
    store.append(rows(3, 3, day=1))
    store.append(rows(6, 3, day=1))
    store.open()
    wait_until_stored(database, [*rows(0, 3), *rows(3, 6, day=1)])
    with database.journal_read() as conn:
        assert [row.kind for row in conn.execute(select(writer).where(writer.c.kind == "spool"))] == ["spool"] * 2


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_a_move_that_is_cut_off_anywhere_is_repeated(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, sizes: list[int], data: st.DataObject
) -> None:
    """The journal may have taken what the spool does not know to be taken, after every chunk."""
    folder = tmp_path_factory.mktemp("cut-off")
    for name in ("tollbook.db", "tollbook-journal.db"):
        (folder / name).write_bytes((sqlite_template / name).read_bytes())
    url = parse_url(f"sqlite:///{folder}/tollbook.db")
    with Database(url) as database, closing(take_spool(folder / "spool", 64 * MIB)) as spool:
        total = 0
        for size in sizes:
            spool.append(rows(total, size), ["{}"])
            total += size
        out = SpoolWriter(database)
        [(generation, name)] = spool.generations()
        while (waiting := spool.read_next(generation, data.draw(st.integers(1, 5)))).rows:
            for _ in range(data.draw(st.integers(1, 3))):
                out.append(name, waiting.first_seq, waiting.rows)
            spool.forget(generation, waiting.first_seq + data.draw(st.integers(0, len(waiting.rows) - 1)))
        assert raws(database) == [row[3] for row in rows(0, total)]


def test_a_spool_is_one_processs_and_is_removed_when_empty(tmp_path: Path) -> None:
    first, second = take_spool(tmp_path, MIB), take_spool(tmp_path, MIB)
    assert [first.path.name, second.path.name] == ["1.spool", "2.spool"]
    second.append(rows(0, 2), ["{}"])
    first.close()
    second.close()
    assert [path.name for path in tmp_path.glob("*.spool")] == ["2.spool"]
    [left] = free_spools(tmp_path, MIB)
    assert left.depth().rows == 2
    left.close()


def test_a_full_spool_refuses_and_takes_again_when_it_was_moved(tmp_path: Path) -> None:
    spool = take_spool(tmp_path, MIB)
    large: list[NewRow] = [(0, 0, PEER, bytes(4000)) for _ in range(100)]
    with pytest.raises(SpoolUnavailable, match="bytes_max"):
        for _ in range(10):
            spool.append(large, ["{}"])
    [(generation, _)] = spool.generations()
    spool.forget(generation, 1_000)
    spool.append(large, ["{}"])
    spool.close()


def test_a_full_disk_is_said_and_stops_nothing_that_is_stored(tmp_path: Path) -> None:
    spool = take_spool(tmp_path, 64 * MIB)
    spool.append(rows(0, 5), ["{}"])
    spool._in.execute("PRAGMA max_page_count=12")  # SQLite's own word for a disk that is full
    with pytest.raises(SpoolUnavailable, match="full"):
        for n in range(5, 5_000, 100):
            spool.append(rows(n, 100), ["{}"])
    spool._in.execute("PRAGMA max_page_count=100000")
    stored = spool.depth().rows
    spool.append(rows(stored, 5), ["{}"])
    [(generation, _)] = spool.generations()
    assert [row[3] for row in spool.read_next(generation, 10_000).rows] == [row[3] for row in rows(0, stored + 5)]
    spool.close()


def _left_open(folder: Path, number: int) -> Path:
    """Leave a spool as a process that was killed leaves it."""
    spool = take_spool(folder, 64 * MIB)
    for n in range(0, number, 10):
        spool.append(rows(n, 10), ["{}"])
    for name in ("", "-wal"):
        (folder / f"copy{name}").write_bytes(spool.path.with_name(spool.path.name + name).read_bytes())
    path = spool.path
    spool.close()
    for name in ("", "-wal"):
        (folder / f"copy{name}").rename(path.with_name(path.name + name))
    return path


def test_a_torn_tail_loses_no_whole_commit(tmp_path: Path) -> None:
    path = _left_open(tmp_path, 100)
    wal = path.with_name(path.name + "-wal")
    wal.write_bytes(wal.read_bytes()[:-100])  # the last commit was not whole, so it was never answered
    with capture_logs() as logs:
        spool = take_spool(tmp_path, 64 * MIB)
    assert [(line["event"], line["rows"]) for line in logs] == [
        ("the spool was not closed; whole commits are kept", 90)
    ]
    assert spool.depth().rows == 90
    spool.close()


def test_a_damaged_file_is_set_aside_and_its_whole_rows_are_kept(tmp_path: Path) -> None:
    path = _left_open(tmp_path, 2_000)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    octets = bytearray(path.read_bytes())
    octets[-30_000:-20_000] = b"\xff" * 10_000
    path.write_bytes(octets)
    with capture_logs() as logs:
        spool = take_spool(tmp_path, 64 * MIB)
    [said] = logs
    assert said["event"] == "the spool is damaged; its whole rows are kept"
    assert 0 < said["rows"] < 2_000
    [(generation, _)] = spool.generations()
    kept = spool.read_next(generation, 10_000).rows
    assert [row[3] for row in kept] == [row[3] for row in rows(0, len(kept))]
    assert any(isinstance(found, str) and "damaged" in found for _, found in look_into(tmp_path))
    spool.close()


def _damaged(folder: Path) -> Path:
    """Leave a spool of 2000 rows, some in its middle overwritten."""
    path = _left_open(folder, 2_000)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    octets = bytearray(path.read_bytes())
    octets[-50_000:-40_000] = b"\xff" * 10_000
    path.write_bytes(octets)
    return path


def test_rows_behind_the_damage_are_kept_in_their_places(tmp_path: Path, database: Database) -> None:
    _damaged(tmp_path / "spool")
    with closing(take_spool(tmp_path / "spool", 64 * MIB)) as spool:
        [(generation, name)] = spool.generations()
        out = SpoolWriter(database)
        while (waiting := spool.read_next(generation, 500)).rows:
            out.append(name, waiting.first_seq, waiting.rows)
            spool.forget(generation, waiting.first_seq + len(waiting.rows) - 1)
    kept = raws(database)
    assert (kept[0], kept[-1]) == (b"request 0", b"request 1999")
    assert missing(database) == 2_000 - len(kept) > 0


@pytest.mark.parametrize("step", range(5))
def test_taking_over_a_damaged_file_may_be_cut_off_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A full disk while the rows are copied, or a kill before one of the files is renamed."""
    path = _damaged(tmp_path)
    with monkeypatch.context() as patch:
        left = [step]

        def rename(self: Path, target: Path) -> Path:
            left[0] -= 1
            if left[0] == 0:
                raise OSError("cut off")
            return self.replace(target)

        patch.setattr(Path, "rename", rename)
        if step == 0:
            patch.setattr("accounting.db.spool_file._TABLES", spool_file._TABLES + "PRAGMA max_page_count=12;")
        with pytest.raises(TollbookError):
            take_spool(tmp_path, 64 * MIB)
    with closing(take_spool(tmp_path, 64 * MIB)) as spool:
        [(generation, _)] = spool.generations()
        assert len(spool.read_next(generation, 10_000).rows) > 900
    assert len([found for _, found in look_into(tmp_path) if isinstance(found, str)]) == 1
    assert path.exists()


def test_commits_lost_to_a_damaged_log_are_told_and_the_log_is_kept(tmp_path: Path) -> None:
    path = _left_open(tmp_path, 100)
    wal = path.with_name(path.name + "-wal")
    octets = bytearray(wal.read_bytes())
    octets[-len(octets) // 4] ^= 1  # behind the tables
    wal.write_bytes(octets)
    with capture_logs() as logs, closing(take_spool(tmp_path, 64 * MIB)) as spool:
        kept = spool.depth().rows
    assert 0 < kept < 100
    [said] = [line for line in logs if line["event"] == "the spool's last commits are damaged"]
    assert said["commits_lost"] == (100 - kept) // 10
    assert Path(said["file"]).read_bytes() == bytes(octets)


def test_a_spool_that_another_process_left_is_moved_beside_its_own(
    sources: SourceList, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    spools = [take_spool(folder, MIB), take_spool(folder, MIB)]
    for spool, first in zip(spools, (0, 5), strict=True):
        spool.append(rows(first, 5), sources.settings)
    for spool in spools:
        spool.close()
    with closing(SpooledJournal(database, "test", sources, folder, MIB)) as store:
        store.open()
        wait_until_stored(database, rows(0, 10))


def test_depth_costs_the_same_however_much_waits(tmp_path: Path) -> None:
    with closing(take_spool(tmp_path, 64 * MIB)) as spool:
        steps = []
        for n in range(0, 20_000, 10_000):
            spool.append(rows(n, 10_000), ["{}"])
            count = [0]
            spool._out.set_progress_handler(lambda count=count: count.__setitem__(0, count[0] + 1), 1)
            assert spool.depth().rows == n + 10_000
            spool._out.set_progress_handler(None, 1)
            steps.append(count[0])
        assert steps[0] == steps[1] < 1_000


def test_a_file_that_is_no_spool_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "1.spool").write_bytes(b"something else " * 100)
    spool = take_spool(tmp_path, 64 * MIB)
    spool.append(rows(0, 1), ["{}"])
    assert len(list(tmp_path.glob("1.spool.damaged-*"))) == 1
    spool.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TollbookError, match=r"\[spool\] directory"):
        take_spool(tmp_path / "file", MIB)


def test_status_tells_what_waits(tmp_path: Path) -> None:
    config = tmp_path / "tollbook.toml"
    config.write_text('[database]\nurl = "sqlite:///t.db"\n')
    runner = CliRunner()
    assert "nothing waits" in runner.invoke(app, ["spool", "status", "--config", str(config)]).output
    spool: Spool = take_spool(tmp_path / "spool", MIB)
    spool.append(rows(0, 7), ["{}"])
    [told] = json.loads(runner.invoke(app, ["spool", "status", "--json", "--config", str(config)]).output)
    assert (told["requests"], told["oldest_at"], told["problem"]) == (7, "1970-01-01T00:00:00.000Z", "")
    assert "1.spool" in runner.invoke(app, ["spool", "status", "--config", str(config)]).output
    spool.close()
