"""Follows a log file by lines: over rotation, truncation and restarts, from a position that the caller keeps.

Knows nothing of what the lines say, and keeps nothing itself.
"""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from accounting.base.log import get_logger

READ_BYTES = 1 << 20
"""Read at once; a longer line is none, and passed over."""
MARK_BYTES = 64
"""So much of what was read last is kept, to know the file again: an inode is soon given to another one."""
PACKED = (".gz", ".bz2", ".xz", ".zst")

log = get_logger("tail")


class Position(NamedTuple):
    """How far a log was read: the file, the offset behind the last line, and the octets before it."""

    inode: int
    offset: int
    mark: bytes

    def text(self) -> str:
        """Return the position as it is kept."""
        return json.dumps({"inode": self.inode, "offset": self.offset, "mark": self.mark.hex()})


def position_of(text: str) -> Position:
    """Return a position that was kept."""
    told = json.loads(text)
    return Position(int(told["inode"]), int(told["offset"]), bytes.fromhex(told["mark"]))


class Tail:
    """Reads a log that is written, rotated and truncated by others. One thread; `lines` is called again and again."""

    def __init__(self, path: Path, start: Position | None) -> None:
        self._path = path
        self._fd: int | None = None
        self._position = start or Position(0, 0, b"")

    @property
    def position(self) -> Position:
        """How far the lines given so far reach."""
        return self._position

    def lines(self, limit: int) -> list[bytes]:
        """Return up to `limit` new lines without their ends; a last line without its end waits until it has it."""
        if self._fd is None and not self._open():
            return []
        found = self._read(limit)
        following = None if found else self._following()
        if following is None:
            return found
        found = self._read(limit)  # what was written before the other file was begun
        if not found:
            found = self._rest()
            self._switch(following)
            found += self._read(limit - len(found))
        return found

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> bool:
        """Open the file that the position is in, else the log's own from its beginning; False while there is none."""
        if self._position.inode:
            for path in (self._path, *self._rotated()):
                if _inode(path) == self._position.inode and (fd := _opened(path)) is not None:
                    if self._is_same(fd):
                        self._fd = fd
                        return True
                    os.close(fd)
            log.warning("the file that was read last is gone; lines may be missing", file=str(self._path))
        self._fd = _opened(self._path)
        if self._fd is None:
            return False
        self._position = Position(os.fstat(self._fd).st_ino, 0, b"")
        return True

    def _read(self, limit: int) -> list[bytes]:
        assert self._fd is not None
        if limit <= 0:
            return []
        inode, offset, mark = self._position
        if not self._is_same(self._fd):
            log.warning("the file was truncated or written anew; read from its beginning", file=str(self._path))
            offset, mark = 0, b""
        data = os.pread(self._fd, READ_BYTES, offset)
        found = data.split(b"\n", limit)
        found.pop()  # what follows the last end of line
        size = sum(len(line) + 1 for line in found)
        if not found and len(data) == READ_BYTES:
            log.warning("a line is too long and passed over", file=str(self._path), offset=offset)
            size = len(data)
        self._position = Position(inode, offset + size, (mark + data[:size])[-MARK_BYTES:])
        return found

    def _rest(self) -> list[bytes]:
        """Return the last line of a file that nobody will write any more, though it has no end."""
        assert self._fd is not None
        rest = os.pread(self._fd, READ_BYTES, self._position.offset)
        return [rest] if rest else []

    def _is_same(self, fd: int) -> bool:
        """Return whether the file still holds, before the offset, what was read there."""
        _, offset, mark = self._position
        return os.pread(fd, len(mark), offset - len(mark)) == mark if mark else True

    def _following(self) -> Path | None:
        """Return the file to read after this one, None while this is the log and nothing was written to a new one."""
        assert self._fd is not None
        current = os.fstat(self._fd)
        if _inode(self._path) in (None, current.st_ino):
            return None
        for path in self._rotated():
            try:
                found = path.stat()
            except OSError:
                continue
            if found.st_ino != current.st_ino and found.st_mtime_ns > current.st_mtime_ns:
                return path
        return self._path if self._path.stat().st_size else None  # the writer may still have the old one open

    def _switch(self, path: Path) -> None:
        fd = _opened(path)
        if fd is None:
            return
        self.close()
        self._fd = fd
        self._position = Position(os.fstat(fd).st_ino, 0, b"")

    def _rotated(self) -> list[Path]:
        """Return what the log may have been renamed to, the oldest first."""
        return sorted(_beside(self._path), key=lambda path: (_changed_ns(path), path.name))


def _beside(path: Path) -> Iterator[Path]:
    try:
        found = list(path.parent.iterdir())
    except OSError:
        return
    begins = f"{path.name}.", f"{path.name}-"
    yield from (one for one in found if one.name.startswith(begins) and one.suffix not in PACKED)


def _opened(path: Path) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
