"""Several processes as one: receivers that share addresses, sockets that outlive a child, metrics and health."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accounting.base.priority import NICENESS
from accounting.db.engine import open_database
from accounting.journal import read_after, writers
from tests.support.daemon import listens, program
from tests.support.radius import SECRET, is_answer, request
from tests.support.service import PATIENCE_S, ROOT, Service


@contextmanager
def client_of(service: Service) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", service.port))
        yield client


def start_of(call: str) -> bytes:
    return request(SECRET, (40, 1), (44, call))


def misses(page: tuple[int, str], name: str) -> bool:
    status, body = page
    return status == 503 and name in json.loads(body)["problems"]


def ask(service: Service, calls: int) -> None:
    """Have so many clients, each on a port of its own, store a request."""
    for number in range(calls):
        with client_of(service) as client:
            asked = start_of(f"call-{number}")
            client.send(asked)
            assert is_answer(client.recv(4096), asked, SECRET)


def test_processes_share_an_address_and_each_writes_its_own_part(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url, processes=2)
    with service.running("receive"):
        ask(service, 40)
        service.wait(lambda: service.metric("tollbook_receiver_acknowledged_total") == 40, "the metrics tell of all")
        service.wait(lambda: service.metric("tollbook_receiver_pending") == 0, "nothing waits")
        assert service.metric('tollbook_supervisor_ready{process="receive-2"}') == 1
    assert service.process.returncode == 0
    with open_database(sqlite_url) as database, database.journal_read() as conn:
        rows = read_after(conn, {}, 100)
        by_writer = {writer.id: sum(row.ref >> 32 == writer.id for row in rows) for writer in writers(conn)}
    assert len(rows) == 40
    assert len(by_writer) == 2
    assert all(by_writer.values()), by_writer


def test_the_worker_lets_the_receivers_go_first(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    with service.running():
        service.wait(
            lambda: os.getpriority(os.PRIO_PROCESS, service.pid("schedule")) == NICENESS, "the worker gives way"
        )
        assert os.getpriority(os.PRIO_PROCESS, service.pid("receive")) < NICENESS


def test_nothing_that_waits_for_a_killed_receiver_is_lost(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    with service.running(), client_of(service) as client:
        pid = service.pid("receive")
        os.kill(pid, signal.SIGSTOP)
        asked = start_of("waits")
        client.send(asked)
        os.kill(pid, signal.SIGKILL)
        assert is_answer(client.recv(4096), asked, SECRET)  # by the next one, from the same socket
        assert service.pid("receive") not in (0, pid)
        assert service.metric('tollbook_supervisor_restarts_total{process="receive"}') == 1


def test_counters_go_on_over_a_restart_of_their_process(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    with service.running("receive"):
        ask(service, 3)
        service.wait(lambda: service.metric("tollbook_receiver_acknowledged_total") == 3, "all are counted")
        pid = service.pid("receive")
        os.kill(pid, signal.SIGKILL)
        service.wait_for_another("receive", pid)
        ask(service, 2)
        service.wait(lambda: service.metric("tollbook_receiver_acknowledged_total") == 5, "the sum is 5")


def test_readyz_says_what_keeps_a_process_from_its_work(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    with service.running():
        for page in ("/healthz", "/readyz", "/readyz/receive", "/readyz/schedule"):
            assert service.get(page)[0] == 200, service.get(page)
        assert service.get("/readyz/nobody")[0] == 404
        assert service.get("/")[0] == 404
        pid = service.pid("schedule")
        os.kill(pid, signal.SIGKILL)
        service.wait(lambda: misses(service.get("/readyz"), "schedule"), "it is missed")
        assert service.get("/readyz/receive")[0] == 200
        service.wait(lambda: service.get("/readyz")[0] == 200, "it is back")


def test_serve_starts_while_the_database_is_away(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        service = Service(tmp_path, f"mysql://root@127.0.0.1:{nobody.getsockname()[1]}/tollbook")
        with service.running(until_ready=False):
            service.wait(lambda: service.get("/readyz/receive")[0] == 200, "the receiver is ready")
            ask(service, 2)
            service.wait(lambda: service.metric("tollbook_spool_rows") == 2, "both wait in the spool")
            service.wait(lambda: "schedule" in service.get("/readyz")[1], "the worker is missed")
            assert service.get("/readyz")[0] == 503


def test_a_silent_client_of_the_page_keeps_nobody_waiting(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    with service.running("receive"), socket.create_connection(("127.0.0.1", service.page)) as silent:
        silent.send(b"GET /met")
        assert service.get("/metrics")[0] == 200


@pytest.mark.parametrize("what", ["page", "port"])
def test_a_port_in_use_is_one_line_and_exit_1(sqlite_url: str, tmp_path: Path, what: str) -> None:
    service = Service(tmp_path, sqlite_url, processes=2 if what == "port" else 1)
    kind = socket.SOCK_STREAM if what == "page" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as held:
        if kind is socket.SOCK_DGRAM:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another Tollbook's would be
        held.bind(("127.0.0.1", getattr(service, what)))
        done = subprocess.run(service.command("serve"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the port is in use" in done.stderr
    assert ("[metrics] listen" if what == "page" else "[receiver] listen") in done.stderr


def test_it_takes_the_sockets_that_systemd_bound(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    activate = program("systemd-socket-activate", "systemd")
    launcher = [activate, "--datagram", f"--listen=127.0.0.1:{service.port}"]
    with service.running(launcher=launcher, until_ready=False), client_of(service) as client:
        service.wait(lambda: listens(("127.0.0.1", service.port)), "systemd has bound the port")
        asked = start_of("first")
        client.send(asked)  # waits in systemd's socket until the service it starts reads it
        assert is_answer(client.recv(4096), asked, SECRET)
        service.wait(lambda: service.get("/readyz")[0] == 200, "all is ready")


def test_a_restart_loses_nothing_that_waits_in_the_sockets_of_systemd(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url, processes=2)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
        client_of(service) as client,
    ):
        for held in (first, second):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(("127.0.0.1", service.port))
        for call in ("one", "two"):  # the second waits while nothing runs
            asked = start_of(call)
            client.send(asked)
            with held_by_systemd(service, [first.fileno(), second.fileno()]):
                assert is_answer(client.recv(4096), asked, SECRET)
    with open_database(sqlite_url) as database, database.journal_read() as conn:
        assert [row.raw for row in read_after(conn, {}, 9)] == [start_of("one"), start_of("two")]


@contextmanager
def held_by_systemd(service: Service, sockets: list[int]) -> Iterator[None]:
    """Run `tollbook receive` with these sockets handed to it as sd_listen_fds(3) says."""
    script = "import os, sys; at, *words = sys.argv[1:]\n"
    script += "for to, fd in enumerate(map(int, at.split(',')), 3): os.dup2(fd, to)\n"
    script += "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': str(at.count(',') + 1)}\n"
    script += "os.execv(words[0], words)"
    process = subprocess.Popen(
        [sys.executable, "-c", script, ",".join(map(str, sockets)), *service.command("receive")],
        stderr=subprocess.DEVNULL, pass_fds=sockets, cwd=ROOT,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
