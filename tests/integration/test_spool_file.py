"""A spool's file: what it keeps of what was stored, whatever becomes of the disk and the process."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from accounting.base.errors import TollbookError
from accounting.db import spool_file
from accounting.db.append import NewRow
from accounting.db.engine import Database
from accounting.db.spool_file import Spool, SpoolUnavailable, free_spools, look_into, take_spool
from accounting.journal import SpoolWriter
from tests.support.spool import MIB, PEER, damaged, left_open, missing, raws, rows
from tollbook import app


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


def test_what_is_empty_is_given_back_in_steps(tmp_path: Path) -> None:
    with closing(take_spool(tmp_path, 64 * MIB)) as spool:
        large: list[NewRow] = [(0, 0, PEER, bytes(4000)) for _ in range(6_000)]
        spool.append(large, ["{}"])
        spool.forget(spool.generations()[0][0], len(large))
        before = spool.path.stat().st_size
        steps = 0
        while spool.shrink():
            steps += 1
            spool.append(rows(0, 1), ["{}"])
        assert steps > 1
        spool._out.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert spool.path.stat().st_size < 20 * MIB < before


def test_generations_that_were_moved_are_forgotten_but_not_the_one_in_use(tmp_path: Path) -> None:
    with closing(take_spool(tmp_path, 64 * MIB)) as spool:
        for n in range(3):
            spool.append(rows(n, 1), ["{}"])
            spool.end_generation()
        (first, _), _, (last, name) = spool.generations()
        for generation in range(first, last + 1):
            spool.forget(generation, 1)
        spool.forget_generations()
        spool._generation = last
        spool.append(rows(3, 1), ["{}"])
        assert spool.generations() == [(last, name)]
        assert spool._run("SELECT count(*) FROM generation") == [(1,)]


def test_commits_are_on_the_disk_and_files_are_not_everybodys(tmp_path: Path) -> None:
    with closing(take_spool(tmp_path / "spool", MIB)) as spool:
        assert spool._in.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert (tmp_path / "spool").stat().st_mode & 0o007 == 0


def test_a_torn_tail_loses_no_whole_commit(tmp_path: Path) -> None:
    path = left_open(tmp_path, 100)
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
    path = left_open(tmp_path, 2_000)
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


def test_rows_behind_the_damage_are_kept_in_their_places(tmp_path: Path, database: Database) -> None:
    damaged(tmp_path / "spool")
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
    path = damaged(tmp_path)
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
    path = left_open(tmp_path, 100)
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


def test_a_row_that_is_no_row_any_more_stops_none_behind_it(tmp_path: Path) -> None:
    """Nor does SQLite tell of it by itself: the page is whole."""
    path = left_open(tmp_path, 100)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("UPDATE waiting SET received_us = 'then' WHERE seq = 50")
    with capture_logs() as logs, closing(take_spool(tmp_path, 64 * MIB)) as spool:
        assert [line["event"] for line in logs] == ["the spool is damaged; its whole rows are kept"]
        assert len(spool._run("SELECT * FROM waiting")) == 99


def test_a_source_that_was_lost_is_not_taken_for_the_next(tmp_path: Path) -> None:
    damaged(tmp_path)
    with closing(sqlite3.connect(tmp_path / "1.spool", isolation_level=None)) as connection:
        connection.execute("DELETE FROM spool_source")
    with closing(take_spool(tmp_path, 64 * MIB)) as spool:
        spool.append(rows(0, 1), ['{"name":"another"}'])
        assert spool.sources() == {1: "lost 1", 2: '{"name":"another"}'}


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


def test_status_of_a_folder_that_cannot_be_read_is_not_nothing(tmp_path: Path) -> None:
    config = tmp_path / "tollbook.toml"
    config.write_text('[database]\nurl = "sqlite:///t.db"\n')
    (tmp_path / "spool").write_text("")
    with pytest.raises(TollbookError, match="cannot be read"):
        list(look_into(tmp_path / "spool"))
    assert CliRunner().invoke(app, ["spool", "status", "--config", str(config)]).exit_code == 1


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
