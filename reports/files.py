"""Files and folders that appear whole or not at all: written beside their place, then moved into it."""

import ctypes
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from accounting.base.errors import TollbookError

STDOUT = Path("-")
AT_FDCWD = -100
RENAME_EXCHANGE = 2  # renameat2(2), Linux 3.15
NEW_FILE_MODE = 0o666  # less the umask
NEW_FOLDER_MODE = 0o777


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of path at the end; after an exception path is as it was.

    "-" is standard output. A device or pipe is written to directly. What goes wrong is a TollbookError of one line.
    """
    if path == STDOUT:
        with _told(path):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    path = Path(os.path.realpath(path))  # a link stays a link
    with _told(path):
        if path.is_dir():
            raise TollbookError(f"{path} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            with path.open("wb") as special:
                yield special
            return
        temporary, file = _new_beside(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def exchange_folders(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return whether the system could."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    done: int = renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    return done == 0


def replace_folder(
    path: Path, files: Mapping[str, bytes], *, exchange: Callable[[Path, Path], bool] = exchange_folders
) -> None:
    """Write files as the folder path; what stood there before goes with all its files at once.

    Where two folders cannot be exchanged in one step, the old one is moved away first.
    """
    path = Path(os.path.realpath(path))
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            for name, content in files.items():
                with (new / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            new.chmod(NEW_FOLDER_MODE & ~_umask())
            _sync_folder(new)
            _move_folder(new, path, exchange)
        finally:
            shutil.rmtree(new, ignore_errors=True)  # by now the old one, if all went well
        _sync_folder(path.parent)


def _move_folder(new: Path, path: Path, exchange: Callable[[Path, Path], bool]) -> None:
    if not path.exists():
        new.rename(path)
        return
    if not path.is_dir():
        raise TollbookError(f"{path} is in the way: a folder of reports belongs there; move it")
    if exchange(new, path):
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.rename(old / path.name)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell in one line what the operating system refused."""
    try:
        yield
    except BrokenPipeError:
        if path == STDOUT:  # or the interpreter would complain again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise TollbookError(f"{_name(path)}: the reader closed the pipe before all was written") from None
    except FileNotFoundError:
        raise TollbookError(f"cannot write {_name(path)}: there is no folder {path.parent}; create it") from None
    except OSError as error:
        raise TollbookError(f"cannot write {_name(path)}: {error.strerror or error}") from error


def _name(path: Path) -> str:
    return "standard output" if path == STDOUT else str(path)


def _new_beside(path: Path) -> tuple[Path, BinaryIO]:
    """Create a file with a name of its own in the folder of path, with the rights that a new file has."""
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
    return temporary, os.fdopen(number, "wb")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(number)
    finally:
        os.close(number)
