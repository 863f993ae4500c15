"""What production does to a receiver: nothing that was acknowledged is missing, and no call is charged twice.

Real processes and a real load; what happens when is drawn from a seed.
"""

import random
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accounting.db.engine import upgrade_database
from tests.support.chaos import Site, wait_until
from tests.support.daemon import program
from tests.support.lossy import Harm, lossy_path
from tests.support.restart import RestartableServer, restartable_server

CALLS = "4000"
RATE = "3000"
SLOW_DISK = Path(__file__).parents[1] / "support/slowdisk.c"


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """A Tollbook on a database of each kind."""
    with _site(tmp_path, database_url) as made:
        yield made


@contextmanager
def _site(folder: Path, url: str) -> Iterator[Site]:
    made = Site(folder, url)
    made.sell()
    try:
        yield made
    finally:
        made.close()


def _pauses(seed: int, number: int, longest_s: float) -> Iterator[None]:
    """Wait so many times, each a while drawn from the seed."""
    chance = random.Random(seed)
    for _ in range(number):
        signal.sigtimedwait((), chance.uniform(0.1, longest_s))
        yield


def test_receiver_is_killed_again_and_again(site: Site) -> None:
    receiver = site.start_receiver()
    site.load("--calls", CALLS, "--rate", RATE)
    for _ in _pauses(seed=1, number=5, longest_s=0.8):
        receiver.kill()
        receiver.wait()
        receiver = site.start_receiver()
    site.finish_load()
    site.check_nothing_lost()
    site.check_calls()


def test_receiver_is_restarted_in_peace(site: Site) -> None:
    receiver = site.start_receiver()
    site.load("--calls", CALLS, "--rate", RATE)
    for _ in _pauses(seed=2, number=3, longest_s=0.8):
        receiver.terminate()
        assert receiver.wait(30) == 0
        receiver = site.start_receiver()
    site.finish_load()
    site.check_nothing_lost()
    site.check_calls()


def test_clients_are_loaded_again_under_load(site: Site) -> None:
    receiver = site.start_receiver()
    site.load("--calls", CALLS, "--rate", RATE)
    for _ in _pauses(seed=9, number=4, longest_s=0.4):
        receiver.send_signal(signal.SIGHUP)
    site.finish_load()
    assert "clients loaded again" in site.said()
    site.check_nothing_lost()


def test_receiver_is_stopped_for_a_while(site: Site) -> None:
    receiver = site.start_receiver()
    site.load("--calls", CALLS, "--rate", RATE)
    for _ in _pauses(seed=3, number=2, longest_s=0.5):
        receiver.send_signal(signal.SIGSTOP)
        signal.sigtimedwait((), 1.0)
        receiver.send_signal(signal.SIGCONT)
    site.finish_load()
    site.check_nothing_lost()
    site.check_calls()


def test_path_loses_doubles_and_reorders(site: Site) -> None:
    site.start_receiver()
    with lossy_path(("127.0.0.1", site.port), Harm(lost=0.05, doubled=0.1, late=0.2), seed=4) as path:
        site.load("--calls", "3000", "--rate", RATE, "--dup-ratio", "0.05", port=path.port)
        site.finish_load()
    assert path.lost > 100
    assert path.doubled > 100
    assert path.late > 100
    site.check_nothing_lost()
    site.check_calls()


def test_disk_is_slow(sqlite_url: str, tmp_path: Path) -> None:
    library = tmp_path / "slowdisk.so"
    subprocess.run([program("gcc", "gcc libc6-dev"), "-shared", "-fPIC", "-o", library, SLOW_DISK, "-ldl"], check=True)
    with _site(tmp_path, sqlite_url) as site:
        site.start_receiver({"LD_PRELOAD": str(library), "SLOW_DISK_MS": "150"})
        site.load("--calls", "3000")
        seen = site.finish_load()
        assert seen.p50_ms > 100, "the disk was not slow"
        site.check_nothing_lost()
        site.check_calls()


def test_disk_is_full(sqlite_url: str, tmp_path: Path) -> None:
    """No file may grow, neither the journal's nor the spool's: all is answered when there is room again."""
    with _site(tmp_path, sqlite_url) as site:
        receiver = site.start_receiver()
        _, hard = resource.prlimit(receiver.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(receiver.pid, resource.RLIMIT_FSIZE, (1_000_000, hard))
        site.load("--calls", "3000")
        wait_until(lambda: "nothing can be stored" in site.said(), "the disk is full")
        resource.prlimit(receiver.pid, resource.RLIMIT_FSIZE, (hard, hard))
        site.finish_load()
        site.check_nothing_lost()
        site.check_calls()


def test_clock_jumps(site: Site) -> None:
    """From a start to the next: a day ahead, then a day and a half back; the calls' own times say when they were."""
    program("faketime", "faketime")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    site.load("--calls", "6000", "--rate", "1000")  # the starts take some seconds of it
    for offset in ("+86400", "-43200", "+0"):
        receiver = site.start_receiver(
            {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        )
        before = len(site.acknowledged())
        wait_until(lambda before=before: len(site.acknowledged()) > before + 200, "requests are answered")
        if offset != "+0":
            receiver.terminate()
            assert receiver.wait(30) == 0
    site.finish_load()
    assert site.received_span_s() > 129_000, "the clock did not jump"
    site.check_nothing_lost()
    site.check_calls()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestartableServer]:
    """A MariaDB that may be killed."""
    with restartable_server() as running:
        upgrade_database(running.url)
        yield running


def test_mariadb_is_killed_again_and_again(server: RestartableServer, tmp_path: Path) -> None:
    with _site(tmp_path, server.url) as site:
        site.start_receiver()
        site.load("--calls", CALLS, "--rate", RATE)
        for _ in _pauses(seed=6, number=2, longest_s=0.8):
            server.kill()
            signal.sigtimedwait((), 0.5)
            server.start()
        site.finish_load()
        site.check_nothing_lost()
        site.check_calls()


def test_database_is_restored_from_an_older_backup(server: RestartableServer, tmp_path: Path) -> None:
    """What the backup lacks is an alarm; what comes after it is stored, and nothing is charged twice."""
    with _site(tmp_path, server.url) as site:
        site.start_receiver()
        site.load("--calls", "1000")
        site.finish_load()
        site.run("process")
        server.kill()
        server.back_up()
        server.start()
        for _ in range(2):  # the first may go by the spool, the second does not
            site.load("--calls", "1000")
            site.finish_load()
            site.wait_until_journalled(site.acknowledged().keys())
        site.run("process")
        server.kill()
        server.restore()
        server.start()
        site.load("--calls", "1000")
        site.finish_load()
        before, lost, lost_too, after = (site.acknowledged_of(load) for load in range(4))
        site.wait_until_journalled(before | after)
        assert not (lost | lost_too) & site.journalled().keys()
        assert "the database has lost requests that it had taken" in site.said()
        site.check_charges()
        differences = site.run("verify", status=1)
        assert "some are missing" in differences


def test_both_are_killed(server: RestartableServer, tmp_path: Path) -> None:
    with _site(tmp_path, server.url) as site:
        receiver = site.start_receiver()
        site.load("--calls", CALLS, "--rate", RATE)
        for _ in _pauses(seed=7, number=2, longest_s=0.8):
            server.kill()
            signal.sigtimedwait((), 0.5)
            receiver.kill()
            receiver.wait()
            server.start()
            receiver = site.start_receiver()
        site.finish_load()
        site.check_nothing_lost()
        site.check_calls()


def test_mariadb_is_stopped_for_a_while(server: RestartableServer, tmp_path: Path) -> None:
    with _site(tmp_path, server.url) as site:
        site.start_receiver()
        site.load("--calls", CALLS, "--rate", RATE)
        for _ in _pauses(seed=8, number=2, longest_s=0.5):
            server.signal(signal.SIGSTOP)
            signal.sigtimedwait((), 3.0)
            server.signal(signal.SIGCONT)
        site.finish_load()
        site.check_nothing_lost()
        site.check_calls()
