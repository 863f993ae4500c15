"""MariaDB is killed and started again while the worker runs: it goes on by itself, and nothing is lost or doubled."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from accounting.db.engine import open_database, upgrade_database
from cdr.store.tables import open_call
from tests.support.lab import Lab, bye, invite
from tests.support.restart import restartable_server

DECK = "prefix,destination,rate,connect_fee\n4915,Germany mobile,0.12,0\n"


def test_worker_goes_on_after_the_server_was_away(tmp_path: Path) -> None:
    with restartable_server() as server:
        upgrade_database(server.url)
        with open_database(server.url) as database:
            lab = Lab(database, tmp_path, "[worker]\ninterval_s = 1\n")
            lab.sell(DECK)
            with _schedule(lab) as wait_for:
                for n in range(3):
                    lab.journal(invite(f"c{n}", 0), bye(f"c{n}", 60))
                    wait_for("committed a batch")
                    lab.close()
                    database.dispose()
                    server.kill()
                    wait_for("a job failed")
                    server.start()
                    wait_for("a job runs again")
            assert lab.differences() == ()
            assert [row.revision for row in lab.cdrs()] == [1, 1, 1]
            assert lab.balance() == "-0.36"
            with database.read() as conn:
                assert conn.execute(select(open_call)).all() == []
            lab.close()


@contextmanager
def _schedule(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Run the worker; give what waits until its log says something."""
    command = [sys.executable, "-m", "tollbook", "schedule", "--config", str(lab.settings.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        log = worker.stderr

        def wait_for(words: str) -> None:
            assert any(words in line for line in log), f"it ended without saying {words!r}"

        try:
            yield wait_for
        finally:
            worker.terminate()
            log.read()
    assert worker.returncode == 0
