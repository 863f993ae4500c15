"""kill -9 of receiver, worker and `process` at random instants under load.

Nothing acknowledged is lost, nothing is charged twice, and every figure can be derived again.
"""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from accounting.db.engine import Database
from accounting.db.tables import journal
from cdr.store.batches import OvertakenError
from cdr.store.tables import account
from tests.support.lab import Lab, bye, invite
from tests.support.load import Sender, free_port

DECK = "prefix,destination,rate,connect_fee\n49,Germany,0.06,0.01\n4915,Germany mobile,0.12,0\n"
KILLS = 24
CALLS_MAX = 60_000
PRICE_MICROS_PER_S = 2_000
START_REPORT = invite("", 0)[20:26]  # Acct-Status-Type Start comes first


class Process:
    """One tollbook command that is started again whenever it is dead."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.child: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        if self.child is None or self.child.poll() is not None:
            command = [sys.executable, "-m", "tollbook", *self.words]
            self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self.child is not None
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def end(self) -> int:
        assert self.child is not None
        self.child.terminate()
        return self.child.wait(30)


def bodies() -> Iterator[bytes]:
    """Yield the reports of calls: each lasts some seconds, its Stop comes 40 calls after its Start."""
    for n in range(CALLS_MAX):
        yield invite(f"k{n}", n)[20:]
        if n >= 40:
            yield bye(f"k{n - 40}", n - 40 + 1 + n % 7)[20:]


def lasted_s(n: int) -> int:
    return 1 + (n + 40) % 7


@pytest.mark.parametrize("seed", [1])
def test_kill_9_at_random_instants(database: Database, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    port = free_port()
    lab = Lab(database, tmp_path, f'[receiver]\nlisten = ["127.0.0.1:{port}"]\n[worker]\ninterval_s = 1\n')
    lab.sell(DECK)
    lab.close()
    config = ("--config", str(lab.settings.path))
    processes = [
        Process("receive", *config),
        Process("schedule", *config),
        Process("process", *config),
    ]
    sender = Sender(("127.0.0.1", port), bodies())
    sender.start()
    try:
        for _ in range(KILLS):
            until = time.monotonic() + chance.uniform(0.2, 2.5)
            while time.monotonic() < until:
                sender.join(0.05)
                for process in processes:
                    process.start()
            chance.choice(processes).kill()
        processes[0].start()
        sender.finish(60)
        assert not sender.is_alive(), "some requests were never answered"
        _wait_until_answered(port)
        assert processes[0].end() == 0
    finally:
        for process in processes:
            process.kill()

    with suppress(OvertakenError):  # the server may just be committing for a process that was killed
        lab.process()
    lab.process()
    assert lab.differences() == ()
    _check_journal(database, sender)
    _check_calls(lab, sender)


def _wait_until_answered(port: int) -> None:
    """Repeat the first report until a receiver answers it, so that it is known to be up."""
    again = Sender(("127.0.0.1", port), iter([invite("k0", 0)[20:]]))
    again.start()
    again.join(30)
    assert again.acked == {0}


def _check_journal(database: Database, sender: Sender) -> None:
    with database.journal_read() as conn:
        stored = Counter(row.raw[20:] for row in conn.execute(select(journal.c.raw)))
    missing = [n for n in sender.acked if not stored[sender.sent[n]]]
    assert missing == []
    assert len(sender.acked) == len(sender.sent) > 1_000, "there was no load to speak of"


def _check_calls(lab: Lab, sender: Sender) -> None:
    starts = sum(body.startswith(START_REPORT) for body in sender.sent)
    rows = lab.cdrs()
    assert len(rows) == starts
    assert len({row.call_id for row in rows}) == starts
    ended = [row for row in rows if row.stop_cause == "bye"]
    assert len(ended) >= starts - 41
    for row in ended:
        n = int(row.call_id[1:])
        assert row.duration_ms == lasted_s(n) * 1_000
        assert row.price_micros == lasted_s(n) * PRICE_MICROS_PER_S
    charges = lab.charges()
    charged = Counter(c.cdr_id for c in charges if c.kind == "charge")
    charged.subtract(c.cdr_id for c in charges if c.kind == "reversal")
    assert +charged == Counter(row.id for row in ended), "one charge for each that ended, and for nobody else"
    assert not -charged, "what was charged is taken back once"
    with lab.database.read() as conn:
        balance = conn.execute(select(account.c.balance_micros).where(account.c.name == "acme")).scalar_one()
    assert balance == -sum(row.price_micros for row in ended)
