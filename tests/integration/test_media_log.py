"""rtpengine's lines from UDP and from a file, stored in the journal of either database."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from prometheus_client import REGISTRY

from accounting.base.config import MediaSettings
from accounting.base.errors import TollbookError
from accounting.db.engine import Database, open_database
from accounting.journal import read_after, seq_counts, writers
from accounting.media_log import MediaLog, UdpInbox
from tests.support.load import free_port

PATIENCE_S = 30.0
CORPUS = Path(__file__).parents[1] / "data" / "corpus"
LINES = [
    told["line"]
    for line in (CORPUS / "rtpengine-cdr-syslog.jsonl").read_text().splitlines()
    if (told := json.loads(line))["kind"] == "syslog"
]


@contextmanager
def opened(database: Database, **settings: object) -> Iterator[MediaLog]:
    log = MediaLog(database, MediaSettings(name="relay-1", **settings))  # type: ignore[arg-type]
    try:
        log.open()
        yield log
    finally:
        log.close()


def raw(database: Database) -> list[bytes]:
    with database.journal_read() as conn:
        return [row.raw for row in read_after(conn, {}, 100_000)]


def step_until(log: MediaLog, database: Database, count: int) -> list[bytes]:
    end = monotonic() + PATIENCE_S
    while len(found := raw(database)) < count:
        assert monotonic() < end, f"waited in vain for {count} rows"
        log.step()
    return found


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("tollbook_media_dropped_total", {"source": "relay-1", "reason": reason}) or 0.0


def test_datagrams_are_stored_as_they_came(database: Database) -> None:
    with opened(database, listen="127.0.0.1:0") as log, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        assert isinstance(log.inbox, UdpInbox)
        to = log.inbox.socket.getsockname()
        for line in (LINES[0], "<30>rtpengine: info: [1-8253] Closing call", LINES[1] + "\n"):
            relay.sendto(line.encode(), to)
        assert step_until(log, database, 2) == [LINES[0].encode(), LINES[1].encode() + b"\n"]
    with database.journal_read() as conn:
        [row, _] = read_after(conn, {}, 10)
        [writer] = writers(conn)
    assert (writer.kind, writer.name, row.peer[10:16]) == ("media", "relay-1", b"\xff\xff\x7f\x00\x00\x01")


def test_datagrams_of_others_are_dropped_and_counted(sqlite_url: str) -> None:
    before = dropped("unknown_sender")
    with (
        open_database(sqlite_url) as database,
        opened(database, listen="127.0.0.1:0", address="127.0.0.9") as log,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay,
    ):
        assert isinstance(log.inbox, UdpInbox)
        to = log.inbox.socket.getsockname()
        relay.bind(("127.0.0.9", 0))
        stranger.sendto(LINES[0].encode(), to)
        relay.sendto(LINES[1].encode(), to)
        assert step_until(log, database, 1) == [LINES[1].encode()]
    assert dropped("unknown_sender") == before + 1


def test_port_in_use_is_told_with_its_setting(sqlite_url: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, open_database(sqlite_url) as database:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TollbookError, match=r"\[\[media\]\] relay-1: cannot listen on 127.0.0.1:"):
            MediaLog(database, MediaSettings(name="relay-1", listen=address))


def test_lines_of_a_file_are_stored_once_over_restarts(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "cdr.log"
    path.write_text(f"{LINES[0]}\nother words\n{LINES[1][:100]}")
    for _ in range(3):
        with opened(database, file=path) as log:
            while log.step():
                pass
    assert raw(database) == [LINES[0].encode()]
    with path.open("a") as file:
        file.write(LINES[1][100:] + "\n")
    path.rename(f"{path}.1")
    path.write_text(f"{LINES[0]} again\n")
    for _ in range(3):
        with opened(database, file=path) as log:
            while log.step():
                pass
    assert sorted(raw(database)) == sorted([LINES[0].encode(), LINES[1].encode(), f"{LINES[0]} again".encode()])
    with database.journal_read() as conn:
        assert all(count.first == 1 and count.last == count.rows for count in seq_counts(conn))


def test_many_lines_come_in_several_commits(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "cdr.log"
    path.write_text("".join(f"{LINES[0]}{n}\n" for n in range(1_234)))
    with opened(database, file=path) as log:
        while log.step():
            pass
    assert [line.decode() for line in raw(database)] == [f"{LINES[0]}{n}" for n in range(1_234)]


def test_process_killed_while_it_reads_stores_every_line_once(database_url: str, tmp_path: Path) -> None:
    path, config = tmp_path / "cdr.log", tmp_path / "tollbook.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n[[media]]\nname = "relay-1"\nfile = "cdr.log"\n')
    lines = [f"{LINES[0]}{n}" for n in range(6_000)]
    with open_database(database_url) as database:
        for kill in range(4):
            if kill == 2:
                path.rename(f"{path}.1")
            with path.open("a") as file:
                file.writelines(f"{line}\n" for line in lines[kill * 1_500 : (kill + 1) * 1_500])
            before = len(raw(database))
            command = [sys.executable, "-m", "tollbook", "media", "--config", str(config)]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
                _wait(lambda was=before: len(raw(database)) > was)
                child.send_signal(signal.SIGKILL if kill < 3 else signal.SIGTERM)
                if kill == 3:
                    assert child.wait(PATIENCE_S) == 0
        with opened(database, file=path) as log:
            while log.step():
                pass
        assert sorted(raw(database)) == sorted(line.encode() for line in lines)


def test_command_listens_until_it_is_asked_to_stop(sqlite_url: str, tmp_path: Path) -> None:
    config, port = tmp_path / "tollbook.toml", free_port()
    config.write_text(f'[database]\nurl = "{sqlite_url}"\n[[media]]\nname = "relay-1"\nlisten = "127.0.0.1:{port}"\n')
    command = [sys.executable, "-m", "tollbook", "media", "--config", str(config)]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay,
        open_database(sqlite_url) as database,
    ):
        assert child.stderr is not None
        assert "following 127.0.0.1" in child.stderr.readline()
        relay.sendto(LINES[0].encode(), ("127.0.0.1", port))
        _wait(lambda: raw(database) == [LINES[0].encode()])
        child.terminate()
        assert child.wait(PATIENCE_S) == 0


def _wait(true: object) -> None:
    assert callable(true)
    end = monotonic() + PATIENCE_S
    while not true():
        assert monotonic() < end, "waited in vain"
