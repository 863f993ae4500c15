"""Captured traffic of real proxies, sent to a real receiver from one address per proxy, becomes the CSV that it should.

Everything is sent twice, the second time under other identifiers as after a failover, in a random order.
"""

import csv
import random
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from accounting.db.engine import Database
from cdr.pairing_calls import disposition_of
from tests.support.lab import settings
from tests.support.load import free_port
from tests.support.radius import SECRET, again, is_answer
from tests.unit.sources.rows import Capture, captures

TRIES = 40
ALL = [capture for capture in captures() if capture.calls]
PROXIES = sorted({capture.proxy for capture in ALL})


def test_captured_traffic_becomes_the_csv_of_what_happened(database: Database, tmp_path: Path) -> None:
    port = free_port()
    config = _configure(database, tmp_path, port)
    receiver = subprocess.Popen([sys.executable, "-m", "tollbook", "receive", *config])
    try:
        for number, proxy in enumerate(PROXIES):
            datagrams = [row.raw for capture in ALL if capture.proxy == proxy for row in capture.rows]
            datagrams += [again(datagram, SECRET, identifier=(datagram[1] + 101) % 256) for datagram in datagrams]
            random.Random(number).shuffle(datagrams)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((_address(number), 0))
                for datagram in datagrams:
                    _send(sock, datagram, ("127.0.0.1", port))
    finally:
        receiver.terminate()
        assert receiver.wait(20) == 0
    _tollbook("process", "--now", "2026-11-26T12:00:00Z", *config)
    _tollbook("verify", *config)
    _tollbook("export", "cdrs", "--out", str(tmp_path / "cdrs.csv"), *config)
    by_call = defaultdict(list)
    with (tmp_path / "cdrs.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_call[row["call_id"]].append(row)
    for capture in ALL:
        _check(capture, by_call)
    assert by_call == {}, "CDRs of calls that nobody made"


def _address(number: int) -> str:
    return f"127.0.1.{number + 1}"


def _configure(database: Database, folder: Path, port: int) -> tuple[str, str]:
    more = "".join(
        f'[[clients]]\nname = "{proxy}"\naddress = "{_address(number)}"\nsecret = "{SECRET.decode()}"\n'
        f'dialect = "{capture.source.dialects[0]}"\ndictionary = "{capture.source.dictionary}"\n'
        'own_addresses = ["127.0.0.1"]\n'
        for number, proxy in enumerate(PROXIES)
        for capture in [next(capture for capture in ALL if capture.proxy == proxy)]
    )
    return "--config", str(settings(database, folder, more + f'[receiver]\nlisten = ["127.0.0.1:{port}"]\n').path)


def _send(sock: socket.socket, datagram: bytes, address: tuple[str, int]) -> None:
    sock.settimeout(0.5)
    for _ in range(TRIES):
        sock.sendto(datagram, address)
        try:
            if is_answer(sock.recv(4096), datagram, SECRET):
                return
        except (TimeoutError, ConnectionRefusedError):
            continue
    raise AssertionError("no answer")


def _tollbook(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tollbook", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


def _check(capture: Capture, by_call: dict[str, list[dict[str, str]]]) -> None:
    for truth in capture.calls:
        where = f"{capture.proxy}/{capture.scenario} {truth['call_id']}"
        rows = by_call.pop(truth["call_id"], [])
        reported = [row.raw for row in capture.rows if truth["call_id"].encode() in row.raw]
        assert len(rows) == (1 if reported and truth["method"] == "INVITE" else 0), where
        for row in rows:
            if not truth["answered"]:
                assert (row["disposition"], row["duration_ms"]) == (disposition_of(truth["final_code"]), "0"), where
            elif row["stop_cause"] == "max_age":
                assert (row["exception"], row["ended_at"], row["duration_ms"]) == ("no_stop", "", "0"), where
            else:
                exact = row["stop_cause"] == "complete"
                assert abs(int(row["duration_ms"]) - truth["billable_ms"]) <= (60 if exact else 1_100), where
