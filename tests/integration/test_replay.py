"""`tollbook replay` recovers what was lost from a capture, each request once, however often it is run."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from accounting.base.errors import TollbookError
from accounting.captures import known_clients
from accounting.db.append import Doubt
from accounting.db.engine import Database
from accounting.db.spool_file import take_spool
from accounting.db.tables import writer as writer_table
from accounting.journal import JournalRow, gaps, read_after, writers
from accounting.radius.capture import Datagram
from accounting.radius.clients import peer_text
from accounting.replay import Replay
from tests.support.capture import CLIENT, US, fragments, framed, packet, pcap_file, pcapng_by_dpkt, segment
from tests.support.lab import T0, Lab, bye, invite
from tests.support.radius import SECRET, request, sign
from tollbook import app

Timed = Sequence[tuple[int, bytes]]
CALL = [(T0, invite("call-1", 0)), (T0 + 60, bye("call-1", 60))]


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(database, tmp_path)
    yield lab
    lab.close()


def capture(folder: Path, sent: Timed, name: str = "lost.pcap", source: tuple[str, int] = CLIENT) -> str:
    """Write a capture of datagrams by their second."""
    path = folder / name
    path.write_bytes(pcap_file([(at * US, framed(1, bytes(packet(payload, source)))) for at, payload in sent]))
    return str(path)


def replayed(lab: Lab, *words: str) -> dict[str, int]:
    """Return what became of the requests, by outcome."""
    told = json.loads(lab.tollbook("replay", "--json", *words))["requests"]
    return {row["outcome"]: row["requests"] for row in told}


def problem(lab: Lab, *words: str) -> str:
    result = CliRunner().invoke(app, ["replay", *words, "--config", str(lab.settings.path)])
    assert isinstance(result.exception, TollbookError), result.output
    return str(result.exception)


def rows(lab: Lab) -> list[JournalRow]:
    with lab.database.journal_read() as conn:
        return read_after(conn, {}, 1000)


def test_lost_requests_are_stored_as_received_when_they_were_captured(lab: Lab, tmp_path: Path) -> None:
    assert replayed(lab, capture(tmp_path, CALL)) == {"stored": 2}
    stored = rows(lab)
    assert [(row.received_us, row.raw) for row in stored] == [(at * US, raw) for at, raw in CALL]
    assert {peer_text(row.peer) for row in stored} == {"127.0.0.1:40000"}
    with lab.database.journal_read() as conn:
        assert [(one.kind, one.name) for one in writers(conn)] == [("replay", "lost.pcap")]


def test_the_same_capture_again_adds_nothing(lab: Lab, tmp_path: Path) -> None:
    path = capture(tmp_path, CALL)
    replayed(lab, path)
    assert replayed(lab, path, path) == {"held": 2, "repeated": 2}
    assert len(rows(lab)) == 2
    with lab.database.journal_read() as conn:
        assert not gaps(conn)
        assert conn.execute(select(func.count()).select_from(writer_table)).scalar() == 1


def test_what_the_receiver_took_is_not_stored_again_though_its_clock_differs(lab: Lab, tmp_path: Path) -> None:
    lab.journal(CALL[0][1], received_s=-500)
    assert replayed(lab, capture(tmp_path, CALL)) == {"held": 1, "stored": 1}
    lab.process()
    [cdr] = lab.cdrs()
    assert cdr.duration_ms == 60_000
    assert not lab.differences()


def test_repeats_in_a_capture_are_stored_once(lab: Lab, tmp_path: Path) -> None:
    sent = [CALL[0], (T0 + 3, CALL[0][1]), (T0 + 3, sign(CALL[0][1][20:], SECRET, identifier=9))]
    assert replayed(lab, capture(tmp_path, sent)) == {"stored": 2, "repeated": 1}
    assert [row.received_us for row in rows(lab)] == [T0 * US, (T0 + 3) * US]


def test_a_recovered_call_is_charged_once_though_part_of_it_was_known(lab: Lab, tmp_path: Path) -> None:
    lab.sell("prefix,destination,rate\n49,Germany,0.06\n")
    lab.journal(CALL[0][1])
    lab.process(120)
    path = capture(tmp_path, CALL)
    for _ in range(2):
        replayed(lab, path)
        lab.process(180)
    assert [charge.amount_micros for charge in lab.charges()] == [60_000]
    assert not lab.differences()


def test_delay_counts_from_the_time_of_the_capture(lab: Lab, tmp_path: Path) -> None:
    untimed = request(SECRET, (40, 1), (204, 1), (205, 200), (206, "a"), (207, "b"), (44, "c9"), (41, 30))
    ended = request(SECRET, (40, 2), (204, 8), (205, 200), (206, "a"), (207, "b"), (44, "c9"), (41, 0))
    replayed(lab, capture(tmp_path, [(T0 + 30, untimed), (T0 + 90, ended)]))
    lab.process()
    [cdr] = lab.cdrs()
    assert (cdr.answered_at.timestamp(), cdr.duration_ms) == (T0, 90_000)


def test_dry_run_stores_nothing(lab: Lab, tmp_path: Path) -> None:
    path = capture(tmp_path, CALL)
    assert replayed(lab, path, path, "--dry-run") == {"stored": 2, "repeated": 2}
    assert not rows(lab)
    assert "would be stored" in lab.tollbook("replay", path, "--dry-run")


def test_what_is_not_verified_is_refused_and_told(lab: Lab, tmp_path: Path) -> None:
    sent = [*CALL, (T0, sign(CALL[0][1][20:], b"another")), (T0, b"rubbish"), (T0, sign(b"", SECRET, code=12))]
    path = capture(tmp_path, sent)
    assert problem(lab, path) == "not everything could be taken: 1 refused: made with another secret"
    assert len(rows(lab)) == 2
    stranger = capture(tmp_path, CALL, "stranger.pcap", ("192.0.2.77", 40_000))
    assert replayed(lab, stranger) == {"unknown_client": 2}
    assert len(rows(lab)) == 2


def test_requests_of_a_tcp_connection_are_stored_once(lab: Lab, tmp_path: Path) -> None:
    first, last = (raw for _, raw in CALL)
    stream = first + last
    parts = [(T0, segment(stream[:30], 5)), (T0, segment(stream[30:], 35)), (T0 + 60, segment(stream[30:], 35))]
    path = tmp_path / "tcp.pcap"
    path.write_bytes(pcap_file([(at * US, framed(1, part)) for at, part in parts]))
    assert replayed(lab, str(path)) == {"stored": 2}
    assert [row.raw for row in rows(lab)] == [first, last]
    assert replayed(lab, str(path)) == {"held": 2}
    gap = tmp_path / "gap.pcap"
    gap.write_bytes(pcap_file([(T0 * US, framed(1, segment(stream[:30], 5)))]))
    assert "1 gaps in TCP connections" in problem(lab, str(gap))


def test_times_that_cannot_be_are_refused(lab: Lab, tmp_path: Path) -> None:
    path = capture(tmp_path, [(1000, CALL[0][1]), (4_200_000_000, CALL[1][1])])
    assert problem(lab, path) == "not everything could be taken: 2 refused: no time, or one that cannot be"
    assert not rows(lab)


def test_packets_cut_or_in_pieces_are_told(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    whole = request(SECRET, (40, 1), (44, "c1"), *[(31, "x" * 250)] * 8)
    pieces = fragments(packet(whole), 1480)
    path.write_bytes(pcap_file([(T0 * US, piece) for piece in pieces[:1]], 101))
    assert problem(lab, str(path)) == "not everything could be taken: 1 with fragments missing"
    path.write_bytes(pcap_file([(T0 * US, framed(1, bytes(packet(CALL[0][1]))))], snaplen=96))
    assert "1 cut short by the capture" in problem(lab, str(path))
    path.write_bytes(pcapng_by_dpkt([(T0 * US, piece) for piece in pieces], 101))
    assert replayed(lab, str(path)) == {"stored": 1}
    assert [row.raw for row in rows(lab)] == [whole]


def test_a_capture_over_midnight_has_a_writer_for_each_day(lab: Lab, tmp_path: Path) -> None:
    midnight = T0 - T0 % 86_400
    sent = [(midnight + at, invite(f"c{at}", 0)) for at in (-2, -1, 0, 1)]
    path = capture(tmp_path, [sent[2], sent[0], sent[3], sent[1]])
    assert replayed(lab, path) == {"stored": 4}
    assert [(row.ref & 0xFFFFFFFF, row.received_us // US - midnight) for row in rows(lab)] == [
        (1, -2), (2, -1), (1, 0), (2, 1),
    ]  # fmt: skip
    assert replayed(lab, path) == {"held": 4}


def test_requests_in_the_spool_are_not_lost(lab: Lab, tmp_path: Path) -> None:
    spool = take_spool(lab.settings.spool.directory, 1 << 30)
    spool.append_doubtful(Doubt(1, "mark", 1), [(T0 * US, 0, b"", CALL[0][1])], ["{}"])
    spool.close()
    assert "1 requests wait in the spool" in problem(lab, capture(tmp_path, CALL))
    assert not rows(lab)


def test_ports_are_those_of_the_settings_or_named(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "port.pcap"
    path.write_bytes(pcap_file([(at * US, bytes(packet(raw, CLIENT, ("127.0.0.1", 1646)))) for at, raw in CALL], 101))
    assert lab.tollbook("replay", str(path)) == "No requests to these ports.\n"
    assert replayed(lab, str(path), "--port", "1646") == {"stored": 2}


def test_chunks_of_any_size_give_the_same(lab: Lab, database: Database) -> None:
    known = known_clients(lab.settings)
    sent = [Datagram((T0 + at // 2) * US, *CLIENT, "127.0.0.1", 1813, invite(f"c{at % 7}", at % 7)) for at in range(30)]
    for chunk in (1, 2, 5, 1000):
        replay = Replay(database, known, now_us=(T0 + 100) * US, chunk=chunk)
        replay.take("some", sent, frozenset({1813}))
        assert sum(replay.outcomes.values()) == 30
    assert Counter(row.raw for row in rows(lab)) == Counter({invite(f"c{at}", at): 1 for at in range(7)})
