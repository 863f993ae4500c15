"""`tollbook receive` as a process: says when it listens, stops on a signal, tells in one line why it cannot start."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from accounting.db.engine import open_database
from accounting.journal import read_after, writers
from tests.support.radius import SECRET, is_answer, request

PATIENCE_S = 60
ROOT = Path(__file__).parents[2]
START = request(SECRET, (40, 1), (44, "call-1"))


def config(folder: Path, url: str, listen: str = "127.0.0.1:0") -> Path:
    path = folder / "tollbook.toml"
    path.write_text(
        f'[database]\nurl = "{url}"\n[receiver]\nlisten = ["{listen}"]\n'
        f'[[clients]]\nname = "proxy-1"\naddress = "127.0.0.0/8"\nsecret = "{SECRET.decode()}"\n'
    )
    return path


def command(path: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "tollbook", "receive", "--config", str(path)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={"PATH": os.environ["PATH"]})


@contextmanager
def started(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Give a receiver, of whose words none is read yet."""
    process = command(path)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def running(path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Give a receiver that listens, and its port."""
    with started(path) as process:
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if found:
                break
        else:
            pytest.fail(f"it ended: {''.join(lines)}")
        yield process, int(found.group(1))


@contextmanager
def client_of(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", port))
        yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_stops_on_a_signal_with_0(sqlite_url: str, tmp_path: Path, number: signal.Signals) -> None:
    with running(config(tmp_path, sqlite_url)) as (process, port), client_of(port) as client:
        client.send(START)
        assert is_answer(client.recv(4096), START, SECRET)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    with open_database(sqlite_url) as database, database.journal_read() as conn:
        assert [row.raw for row in read_after(conn, {}, 10)] == [START]
        [writer] = writers(conn)
        assert (writer.kind, writer.name, writer.pid) == ("receiver", f"127.0.0.1:{port}", process.pid)


def test_a_database_that_is_held_neither_keeps_answers_back_nor_the_end(sqlite_url: str, tmp_path: Path) -> None:
    with open_database(sqlite_url) as database:
        with (
            running(config(tmp_path, sqlite_url)) as (process, port),
            client_of(port) as client,
            database.journal_write(),
        ):
            client.send(START)
            assert is_answer(client.recv(4096), START, SECRET)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        with started(config(tmp_path, sqlite_url)) as process:
            assert process.stderr
            assert any("the spool was moved" in line for line in process.stderr)
        with database.journal_read() as conn:
            assert [row.raw for row in read_after(conn, {}, 10)] == [START]


def test_an_interrupt_after_the_first_signal_does_not_wait_for_the_disk(sqlite_url: str, tmp_path: Path) -> None:
    with (
        running(config(tmp_path, sqlite_url)) as (process, port),
        client_of(port) as client,
        open_database(sqlite_url) as database,
        closing(sqlite3.connect(tmp_path / "spool/1.spool")) as spool,
        database.journal_write(),
    ):
        spool.execute("BEGIN IMMEDIATE")
        assert process.stderr
        client.send(START)
        assert any("nothing can be stored" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert any("stopping" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 1


def test_a_hangup_lets_other_clients_in_and_a_bad_file_changes_nothing(sqlite_url: str, tmp_path: Path) -> None:
    path = config(tmp_path, sqlite_url)
    right = path.read_text()
    other = request(b"another", (40, 1), (44, "call-2"))
    with running(path) as (process, port), client_of(port) as client:
        assert process.stderr
        client.send(START)
        assert is_answer(client.recv(4096), START, SECRET)

        path.write_text(right.replace("127.0.0.0/8", "127.0.0.0/99"))
        process.send_signal(signal.SIGHUP)
        assert any("the settings have mistakes" in line for line in process.stderr)
        client.send(request(SECRET, (40, 2), (44, "call-1")))
        assert client.recv(4096)

        path.write_text(right.replace(SECRET.decode(), "another").replace("[receiver]", "[receiver]\nbatch_max = 9"))
        process.send_signal(signal.SIGHUP)
        assert any("need a restart" in line and "receiver" in line for line in process.stderr)
        assert any("clients loaded again" in line for line in process.stderr)
        client.send(request(SECRET, (40, 3), (44, "call-1")))
        client.send(other)
        assert is_answer(client.recv(4096), other, b"another")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    with open_database(sqlite_url) as database, database.journal_read() as conn:
        assert [row.raw for row in read_after(conn, {}, 10)][-1] == other
        assert len(read_after(conn, {}, 10)) == 3


def fails(path: Path) -> str:
    """Return what a receiver says that cannot start."""
    process = command(path)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, said
    assert SECRET.decode() not in said
    assert said.count("\n") == 1, said
    return said


def test_a_port_in_use_is_one_line_and_exit_1(sqlite_url: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{held.getsockname()[1]}"
        assert f"cannot listen on {name}: the port is in use" in fails(config(tmp_path, sqlite_url, name))
    with open_database(sqlite_url) as database, database.journal_read() as conn:
        assert writers(conn) == []


def test_it_starts_and_answers_while_the_database_is_away(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        path = config(tmp_path, f"mysql://root@127.0.0.1:{nobody.getsockname()[1]}/tollbook")
        with running(path) as (process, port), client_of(port) as client:
            client.send(START)
            assert is_answer(client.recv(4096), START, SECRET)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0


def test_a_spool_that_cannot_be_written_is_one_line_and_exit_1(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no folder")
    assert "[spool] directory" in fails(config(tmp_path, sqlite_url))


def test_a_database_without_tables_is_one_line_and_exit_1(tmp_path: Path) -> None:
    assert "run: tollbook db upgrade" in fails(config(tmp_path, f"sqlite:///{tmp_path}/new.db"))
