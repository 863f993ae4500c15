"""The journal writer's own connection: one INSERT and commit per batch, the fastest way of each database.

Decides nothing: numbering and what to do after an error are accounting.journal's.
"""

import os
import socket
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Engine

STATEMENT_BYTES_MAX = 512 * 1024
"""An INSERT is not much longer: far below any server's max_allowed_packet, far above a usual batch."""
LOCK_WAIT_S = 2
"""How long one attempt waits for a lock of another process, unless told; the caller decides how often it tries."""
SILENCE_S = 30
"""A server over TCP that is gone without a word is given up after so long."""

NewRow = tuple[int, int, bytes, bytes]
"""received_us, source_id, peer, raw"""

KeptPosition = tuple[str, str, str, int]
"""collector, table_name, position, moved_us: a row of collector_position"""


class Doubt(NamedTuple):
    """Where rows may be in the journal, or may yet come to be: from first_seq on, the writer being of that mark."""

    writer: int
    mark: str
    first_seq: int


class Appender(Protocol):
    """A connection that appends to the journal. Its errors are the driver's own."""

    def insert(
        self,
        writer: int,
        first_seq: int,
        rows: Sequence[NewRow],
        position: KeptPosition | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Store the rows under seq first_seq and on, and a collector's position with them: all or none, and commit.

        again: those that are stored already are left as they are.
        """

    def last_seq(self, writer: int) -> int:
        """Return the highest seq of a writer that is stored, 0 without any."""

    def close(self) -> None: ...


def open_appender(engine: Engine, answer_s: int | None = None) -> Appender:
    """Return a new connection of its own, set up as the engine sets up all of them.

    answer_s: as long as that, and not LOCK_WAIT_S, a lock is waited for; a server's answer is the engine's matter.
    """
    pooled = engine.raw_connection()
    pooled.detach()
    if engine.dialect.name == "sqlite":
        return _Sqlite(pooled.dbapi_connection, LOCK_WAIT_S if answer_s is None else answer_s)
    return _Mysql(pooled.dbapi_connection)


_SQLITE_ROWS_MAX = 256
"""In one statement: it has six parameters a row, and SQLite takes 32,766."""


class _Sqlite:
    """INSERTs of many rows in a transaction.

    executemany gives the interpreter away for each row, and waits for it as often where another thread is busy: with a
    receiver that reads while it commits, a fifth of the rate.
    """

    def __init__(self, connection: Any, lock_wait_s: float) -> None:  # the driver's connection
        self._dbapi = connection
        self._dbapi.execute("PRAGMA query_only=0")
        self._dbapi.execute(f"PRAGMA busy_timeout={round(lock_wait_s * 1000)}")

    def insert(
        self,
        writer: int,
        first_seq: int,
        rows: Sequence[NewRow],
        position: KeptPosition | None = None,
        *,
        again: bool = False,
    ) -> None:
        numbered = [(writer, seq, *row) for seq, row in enumerate(rows, first_seq)]
        behind = " ON CONFLICT (writer, seq) DO NOTHING" if again else ""
        self._dbapi.execute("BEGIN IMMEDIATE")
        for at in range(0, len(numbered), _SQLITE_ROWS_MAX):
            some = numbered[at : at + _SQLITE_ROWS_MAX]
            marks = ",".join(["(?,?,?,?,?,?)"] * len(some))
            self._dbapi.execute(f"INSERT INTO journal VALUES {marks}{behind}", list(chain.from_iterable(some)))
        if position is not None:
            self._dbapi.execute("REPLACE INTO collector_position VALUES (?, ?, ?, ?)", position)
        self._dbapi.execute("COMMIT")

    def last_seq(self, writer: int) -> int:
        [last] = self._dbapi.execute("SELECT max(seq) FROM journal WHERE writer = ?", (writer,)).fetchone()
        return last or 0

    def close(self) -> None:
        self._dbapi.close()  # rolls back what is not committed


class _Mysql:
    """One hand-built INSERT per batch: half the time of executemany; in autocommit, so without a second round trip.

    Octets go as hexadecimal literals: twice as long as escaped strings, and yet 8.6 us of client and server per row
    against 11.5 (batches of 128 requests of 305 octets, MariaDB 10.11).
    """

    def __init__(self, connection: Any) -> None:  # the driver's connection
        self._dbapi = connection
        self._dbapi.autocommit(True)
        _notice_silence(self._dbapi.fileno())

    def insert(
        self,
        writer: int,
        first_seq: int,
        rows: Sequence[NewRow],
        position: KeptPosition | None = None,
        *,
        again: bool = False,
    ) -> None:
        values = [
            f"({writer:d},{seq:d},{received_us:d},{source_id:d},x'{peer.hex()}',x'{raw.hex()}')"
            for seq, (received_us, source_id, peer, raw) in enumerate(rows, first_seq)
        ]
        statements = _statements(values) if values else []
        if again:
            statements = [f"{statement} ON DUPLICATE KEY UPDATE seq = journal.seq" for statement in statements]
        if position is not None:
            words = ",".join(f"_utf8mb4 x'{word.encode().hex()}'" for word in position[:3])
            statements.append(f"REPLACE INTO collector_position VALUES ({words},{position[3]:d})")
        if len(statements) > 1:
            statements = ["START TRANSACTION", *statements, "COMMIT"]
        for statement in statements:
            self._dbapi.query(statement.encode())

    def last_seq(self, writer: int) -> int:
        cursor = self._dbapi.cursor()
        try:
            cursor.execute(f"SELECT max(seq) FROM journal WHERE writer = {writer:d}")
            [last] = cursor.fetchone()
        finally:
            cursor.close()
        return last or 0

    def close(self) -> None:
        self._dbapi.close()


def _statements(values: Sequence[str]) -> list[str]:
    """Return INSERT statements for these rows: one, unless it would be too long."""
    statements: list[str] = []
    held: list[str] = []
    size = 0
    for value in values:
        if held and size + len(value) > STATEMENT_BYTES_MAX:
            statements.append("INSERT INTO journal VALUES " + ",".join(held))
            held, size = [], 0
        held.append(value)
        size += len(value)
    statements.append("INSERT INTO journal VALUES " + ",".join(held))
    return statements


def _notice_silence(fd: int) -> None:
    with socket.socket(fileno=os.dup(fd)) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 6)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
