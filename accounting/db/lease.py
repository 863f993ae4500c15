"""Leases: one process at a time does a named piece of work; a crash frees it at once.

A lease only avoids wasted work. Nothing may be right because of it.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TextIO

from sqlalchemy import Connection, Engine, text

from accounting.base.errors import TollbookError

POLL_S = 0.05
LOCK_NAME_MAX = 64
ADVICE = "wait until it is done, or stop it"
LOCK_WAIT_S = 1.0
"""GET_LOCK waits no longer at a time, so that a signal is seen."""


class LeaseHeld(TollbookError):
    """Somebody else has the lease; the message names who."""


@contextmanager
def file_lease(database: Path, name: str, timeout_s: float) -> Iterator[None]:
    """Hold a lock on a file beside the SQLite file."""
    path = database.with_name(f"{database.name}.{name}.lock")
    deadline = time.monotonic() + timeout_s
    with path.open("a+", encoding="utf-8") as file:
        while not _locked(file):
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise LeaseHeld(f"the lease {name!r} of {database} is held by {holder}; {ADVICE}")
            time.sleep(POLL_S)
        try:
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{socket.gethostname()} pid {os.getpid()}\n".encode())  # leaves nothing to flush
        except OSError as error:
            raise TollbookError(f"{path} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


@contextmanager
def server_lease(engine: Engine, name: str, timeout_s: float) -> Iterator[None]:
    """Hold GET_LOCK on a connection of its own; it ends with the connection."""
    database = engine.url.database or ""
    lock = _lock_name(database, name)
    deadline = time.monotonic() + timeout_s
    with engine.connect() as conn:
        conn.detach()
        conn.execute(text("SET SESSION wait_timeout = 31536000"))  # it sits idle as long as the work takes
        while not _got(conn, lock, max(0.0, min(LOCK_WAIT_S, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                holder = _holder(conn, lock)
                raise LeaseHeld(f"the lease {name!r} of database {database} is held by {holder}; {ADVICE}")
        conn.commit()
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_name(database: str, name: str) -> str:
    lock = f"tollbook.{database}.{name}"
    if len(lock) <= LOCK_NAME_MAX:
        return lock
    return f"tollbook.{blake2b(lock.encode(), digest_size=16).hexdigest()}"


def _got(conn: Connection, lock: str, wait_s: float) -> bool:
    got: int | None = conn.execute(text("SELECT GET_LOCK(:lock, :wait_s)"), {"lock": lock, "wait_s": wait_s}).scalar()
    return got == 1


def _holder(conn: Connection, lock: str) -> str:
    row = conn.execute(
        text("SELECT id, user, host FROM information_schema.processlist WHERE id = IS_USED_LOCK(:lock)"), {"lock": lock}
    ).one_or_none()
    return "another session" if row is None else f"{row.user}@{row.host} (connection {row.id})"
