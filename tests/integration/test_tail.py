"""A log file followed by lines: every line once, whatever happens to the file."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import accounting.tail
from accounting.tail import Position, Tail, position_of

MANY = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cdr.log"


@pytest.fixture
def tail(path: Path) -> Iterator[Tail]:
    opened = Tail(path, None)
    yield opened
    opened.close()


def add(path: Path, *words: str, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("\n".join(words) + end)


def again(tail: Tail, path: Path, limit: int = MANY) -> list[bytes]:
    """Return what a new process reads from the kept position."""
    tail.close()
    new = Tail(path, position_of(tail.position.text()))
    try:
        return new.lines(limit)
    finally:
        new.close()


def test_new_lines_come_once(tail: Tail, path: Path) -> None:
    assert tail.lines(MANY) == []
    add(path, "one", "two")
    assert tail.lines(MANY) == [b"one", b"two"]
    assert tail.lines(MANY) == []
    add(path, "three")
    assert tail.lines(MANY) == [b"three"]


def test_torn_last_line_waits_for_its_end(tail: Tail, path: Path) -> None:
    add(path, "one", "tw", end="")
    assert tail.lines(MANY) == [b"one"]
    assert again(tail, path) == []
    add(path, "o")
    assert again(tail, path) == [b"two"]


def test_limit_leaves_the_rest_for_later(tail: Tail, path: Path) -> None:
    add(path, *map(str, range(10)))
    got = [tail.lines(4) for _ in range(4)]
    assert [len(lines) for lines in got] == [4, 4, 2, 0]
    assert [line for lines in got for line in lines] == [str(n).encode() for n in range(10)]


def test_restart_goes_on_behind_the_last_line(tail: Tail, path: Path) -> None:
    add(path, "one", "two")
    assert tail.lines(1) == [b"one"]
    assert again(tail, path) == [b"two"]


def test_rotation_loses_nothing_and_repeats_nothing(tail: Tail, path: Path) -> None:
    add(path, "one", "two")
    assert tail.lines(1) == [b"one"]
    path.rename(f"{path}.1")
    add(Path(f"{path}.1"), "three")
    assert [tail.lines(MANY), tail.lines(MANY)] == [[b"two", b"three"], []]
    path.touch()  # logrotate's create: the writer still has the old one open
    assert tail.lines(MANY) == []
    add(Path(f"{path}.1"), "four")
    assert tail.lines(MANY) == [b"four"]
    add(Path(f"{path}.1"), "five")
    add(path, "six")
    assert [tail.lines(MANY), tail.lines(MANY), tail.lines(MANY)] == [[b"five"], [b"six"], []]
    assert again(tail, path) == []


def test_rotations_while_nobody_read_are_read_in_their_order(tail: Tail, path: Path) -> None:
    add(path, "one", "two")
    assert tail.lines(1) == [b"one"]
    tail.close()
    path.rename(f"{path}.2")
    add(path, "three", "torn", end="")
    path.rename(f"{path}.1")
    add(path, "four")
    for age, name in enumerate((f"{path}", f"{path}.1", f"{path}.2", f"{path}.3")):
        Path(name).touch()
        os.utime(name, (1_800_000_000 - age, 1_800_000_000 - age))
    later = Tail(path, tail.position)
    got: list[bytes] = []
    while lines := later.lines(1):
        got += lines
    later.close()
    assert got == [b"two", b"three", b"torn", b"four"]


def test_file_that_is_gone_is_passed_over(tail: Tail, path: Path) -> None:
    add(path, "one", "two")
    assert tail.lines(1) == [b"one"]
    path.rename(path.with_name("elsewhere"))
    add(path, "three")
    assert again(tail, path) == [b"three"]


def test_packed_files_are_not_read(tail: Tail, path: Path) -> None:
    add(path, "one")
    assert tail.lines(MANY) == [b"one"]
    path.rename(f"{path}.1.gz")
    add(path, "two")
    assert again(tail, path) == [b"two"]


def test_truncated_file_is_read_from_its_beginning(tail: Tail, path: Path) -> None:
    add(path, "one", "two")
    assert tail.lines(MANY) == [b"one", b"two"]
    path.write_text("three\n")
    assert tail.lines(MANY) == [b"three"]
    path.write_text("four\nand much more than was there before\n")
    assert len(tail.lines(MANY)) == 2
    path.write_text("")
    assert tail.lines(MANY) == []
    add(path, "five")
    assert tail.lines(MANY) == [b"five"]


def test_inode_that_another_file_was_given_is_not_taken_for_the_old_one(path: Path) -> None:
    add(path, "not what was read before", "two")
    tail = Tail(path, Position(path.stat().st_ino, 4, b"one\n"))
    assert tail.lines(MANY) == [b"not what was read before", b"two"]
    tail.close()


def test_line_without_end_does_not_stop_the_rest(monkeypatch: pytest.MonkeyPatch, tail: Tail, path: Path) -> None:
    monkeypatch.setattr(accounting.tail, "READ_BYTES", 64)
    add(path, "one", "x" * 200, "two")
    got = [line for _ in range(8) for line in tail.lines(MANY)]
    assert (got[0], got[-1]) == (b"one", b"two")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    tail = Tail(tmp_path / "pipe", None)
    assert tail.lines(MANY) == []
    nowhere = Tail(tmp_path / "no" / "such" / "folder", None)
    assert nowhere.lines(MANY) == []
