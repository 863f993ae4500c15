"""The receiver on real sockets and real databases: what is answered was stored, and only then."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from structlog.testing import capture_logs

from accounting.base.errors import TollbookError
from accounting.db.engine import Database, open_database, upgrade_database
from accounting.event import unpack_ref
from accounting.journal import DAY_US, gaps, writers
from accounting.radius.clients import pack_peer
from accounting.radius.udp import listen
from tests.support.radius import SECRET, is_answer, request
from tests.support.receiving import LOOPBACK, Rig, count, has_answer, receiving
from tests.support.restart import restartable_server


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    with receiving(database) as made:
        yield made


@pytest.fixture
def small(sqlite_url: str) -> Iterator[Rig]:
    """A rig for what does not depend on the database."""
    with open_database(sqlite_url) as database, receiving(database) as made:
        yield made


def start(number: int = 1, secret: bytes = SECRET, **more: int) -> bytes:
    return request(secret, (40, 1), (44, f"call-{number}"), **more)


@contextmanager
def nobody_writes(database: Database) -> Iterator[Callable[[], None]]:
    """Keep the journal from being written until the given function is called."""
    with ExitStack() as stack:
        if database.dialect == "sqlite":
            stack.enter_context(database.journal_write())
        else:
            conn = stack.enter_context(database.journal_engine.connect())
            conn.execute(text("LOCK TABLES journal READ"))
            stack.callback(lambda: conn.execute(text("UNLOCK TABLES")))
        yield stack.close


def test_a_request_is_stored_as_it_came_and_then_answered(rig: Rig) -> None:
    client = rig.client()
    asked = start(identifier=200)
    assert is_answer(rig.ask(client, asked + b"padding"), asked, SECRET)
    [row] = rig.rows()
    assert (row.raw, row.source_id, row.peer) == (asked, rig.sources["proxy-1"], pack_peer(*client.getsockname()))


def test_nothing_is_answered_before_the_commit(rig: Rig) -> None:
    client = rig.client()
    with nobody_writes(rig.database) as let_go:
        rig.take(client, start())
        for _ in range(5):
            rig.receiver.step(0.01)
        assert not has_answer(client)
        assert rig.receiver.pending == 1
        let_go()
    assert is_answer(rig.answer(client), start(), SECRET)
    assert rig.raw() == [start()]


def test_a_row_is_there_whenever_an_answer_is(rig: Rig) -> None:
    client = rig.client()
    for number in range(100):
        rig.ask(client, start(number))
        assert len(rig.rows()) == number + 1


def test_many_at_once_are_all_stored_once_and_answered(rig: Rig) -> None:
    clients = [rig.client() for _ in range(5)]
    asked = [start(number, identifier=number) for number in range(200)]
    for client in clients:
        for datagram in asked:
            client.send(datagram)
    for client in clients:
        answers = {(answer := rig.answer(client))[1]: answer for _ in asked}
        assert all(is_answer(answers[datagram[1]], datagram, SECRET) for datagram in asked)
    assert len(rig.raw()) == 1000
    with rig.database.journal_read() as conn:
        assert gaps(conn) == []


def test_a_retransmit_gets_the_same_bytes_and_no_second_row(rig: Rig) -> None:
    client = rig.client()
    asked = request(SECRET, (33, b"state"), (40, 1))
    duplicates = count("duplicates")
    assert rig.ask(client, asked) == rig.ask(client, asked)
    assert count("duplicates") == duplicates + 1
    assert rig.raw() == [asked]


def test_the_same_bytes_from_another_port_are_another_request(rig: Rig) -> None:
    rig.ask(rig.client(), start())
    rig.ask(rig.client(), start())
    assert rig.raw() == [start(), start()]


def test_a_retransmit_of_what_still_waits_is_answered_once(rig: Rig) -> None:
    client = rig.client()
    with nobody_writes(rig.database) as let_go:
        rig.take(client, start(1, identifier=1))
        rig.take(client, start(2, identifier=2))
        for _ in range(3):
            rig.take(client, start(1, identifier=1))
            rig.take(client, start(2, identifier=2))
        let_go()
    assert {rig.answer(client)[1], rig.answer(client)[1]} == {1, 2}
    assert rig.ask(client, start(3, identifier=3))[1] == 3  # and not a second answer to 1 or 2
    assert rig.raw() == [start(number, identifier=number) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (start(secret=b"wrong"), "bad_authenticator"),
        (b"", "malformed"),
        (start()[:-1], "malformed"),
        (request(SECRET, (40, 1), code=1), "not_accounting"),
        (start()[:2] + (5000).to_bytes(2) + start()[4:] + bytes(5000), "oversized"),
        (request(SECRET, (80, bytes(16))), "bad_message_authenticator"),
    ],
)
def test_what_is_not_verified_is_never_answered_nor_stored(small: Rig, datagram: bytes, reason: str) -> None:
    client = small.client()
    before = count("dropped", reason=reason, client="proxy-1")
    client.send(datagram)
    asked = start(identifier=77)
    assert is_answer(small.ask(client, asked), asked, SECRET)
    small.receiver.step(0)
    assert count("dropped", reason=reason, client="proxy-1") == before + 1
    assert not has_answer(client)
    assert small.raw() == [asked]


@pytest.mark.parametrize("status", [1, 2, 3, 7, 8, 15, 99, 4_294_967_295])
def test_every_status_is_stored_and_answered(small: Rig, status: int) -> None:
    asked = request(SECRET, (40, status), (250, b"\x00\xff"), (26, b"junk"))
    assert is_answer(small.ask(small.client(), asked), asked, SECRET)
    assert small.raw() == [asked]


def test_an_unknown_client_is_dropped_and_counted(sqlite_url: str) -> None:
    before = count("dropped", reason="unknown_client", client="")
    with open_database(sqlite_url) as database, receiving(database, [("one", "127.0.0.1", SECRET)]) as rig:
        stranger = rig.client(source="127.0.0.2")
        stranger.send(start())
        rig.ask(rig.client(), start(2))
        rig.receiver.step(0)
        assert not has_answer(stranger)
        assert rig.raw() == [start(2)]
    assert count("dropped", reason="unknown_client", client="") == before + 1


def test_the_longest_match_decides_whose_secret_and_source_it_is(sqlite_url: str) -> None:
    clients = [("all", "0.0.0.0/0", b"all"), ("net", "127.0.0.0/8", b"net"), ("host", "127.0.0.3", b"host")]
    with open_database(sqlite_url) as database, receiving(database, clients) as rig:
        for source, secret in (("127.0.0.2", b"net"), ("127.0.0.3", b"host")):
            client = rig.client(source=source)
            client.send(start(secret=b"all"))
            assert is_answer(rig.ask(client, start(secret=secret)), start(secret=secret), secret)
        assert [row.source_id for row in rig.rows()] == [rig.sources["net"], rig.sources["host"]]


def test_several_addresses_ipv6_and_ipv4_in_one_process(database: Database) -> None:
    clients = [LOOPBACK, ("six", "::1", b"six")]
    with receiving(database, clients, at=("[::1]:0", "127.0.0.1:0", "127.0.0.2:0")) as rig:
        six = rig.client(0)
        assert is_answer(rig.ask(six, start(secret=b"six")), start(secret=b"six"), b"six")
        for place in (1, 2):
            assert is_answer(rig.ask(rig.client(place), start(place)), start(place), SECRET)
        peers = [row.peer for row in rig.rows()]
        assert peers[0] == pack_peer("::1", six.getsockname()[1])
        with database.journal_read() as conn:
            assert len(writers(conn)) == 1


def test_ipv4_through_a_socket_for_both_is_the_ipv4_client(sqlite_url: str) -> None:
    with (
        open_database(sqlite_url) as database,
        receiving(database, at=("[::]:0",)) as rig,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(("127.0.0.1", rig.addresses[0][1]))
        client.setblocking(False)
        assert is_answer(rig.ask(client, start()), start(), SECRET)
        assert [row.peer for row in rig.rows()] == [pack_peer(*client.getsockname())]


@pytest.mark.parametrize("at", ["0.0.0.0:0", "[::]:0"])
def test_the_answer_comes_from_the_address_that_was_asked(sqlite_url: str, at: str) -> None:
    with (
        open_database(sqlite_url) as database,
        receiving(database, [LOOPBACK, ("six", "::1", SECRET)], at=(at,)) as rig,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.bind(("127.0.0.1", 0))
        client.connect(("127.0.0.5", rig.addresses[0][1]))  # takes answers from there only
        client.setblocking(False)
        assert is_answer(rig.ask(client, start()), start(), SECRET)
        assert rig.ask(client, start()) == rig.ask(client, start())


def test_both_wildcards_of_one_port_share_it() -> None:
    first = listen(["0.0.0.0:0"], 65536)[0]
    port = first.name.rpartition(":")[2]
    first.socket.close()
    for listener in listen([f"0.0.0.0:{port}", f"[::]:{port}"], 65536):
        listener.socket.close()


def test_proxy_states_come_back_in_their_order(small: Rig) -> None:
    answer = small.ask(small.client(), request(SECRET, (33, b"b"), (44, "call"), (33, b"a"), (33, b"b")))
    assert answer[20:] == b"\x21\x03b\x21\x03a\x21\x03b"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(datagram=st.binary(max_size=600) | st.builds(lambda tail: start()[:20] + tail, st.binary(max_size=80)))
def test_no_datagram_stops_it(small: Rig, datagram: bytes) -> None:
    client = small.client()
    client.send(datagram)
    assert is_answer(small.ask(client, start()), start(), SECRET)
    client.close()


def test_drops_are_said_once_and_then_summed_up_without_the_secret(small: Rig) -> None:
    with capture_logs() as logs:
        client = small.client()
        for number in range(20):
            small.take(client, start(number, secret=b"hush-hush"))
        small.receiver.drain(1)
    assert [(line["reason"], line["count"]) for line in logs] == [("bad_authenticator", 1), ("bad_authenticator", 19)]
    assert "hush" not in str(logs)
    assert "testing123" not in str(logs)


def test_too_many_that_wait_are_dropped_and_counted_until_there_is_room(database: Database) -> None:
    with receiving(database, pending_max=3) as rig, capture_logs() as logs:
        client = rig.client()
        before = count("dropped", reason="overload", client="proxy-1")
        with nobody_writes(database) as let_go:
            for number in range(5):
                rig.take(client, start(number, identifier=number))
            let_go()
        assert {rig.answer(client)[1] for _ in range(3)} == {0, 1, 2}
        assert rig.ask(client, start(4, identifier=4))[1] == 4
        assert len(rig.raw()) == 4
        assert count("dropped", reason="overload", client="proxy-1") == before + 2
        assert [line["reason"] for line in logs if line["event"] == "datagrams dropped"] == ["overload"]


def test_more_than_one_batch_is_committed_in_parts(database: Database) -> None:
    with receiving(database, batch_max=3) as rig:
        client = rig.client()
        for number in range(10):
            client.send(start(number, identifier=number))
        assert sorted(rig.answer(client)[1] for _ in range(10)) == list(range(10))
        assert [unpack_ref(row.ref)[1] for row in rig.rows()] == list(range(1, 11))


def test_a_signal_lets_what_was_received_be_committed_and_answered(rig: Rig) -> None:
    client = rig.client()
    with nobody_writes(rig.database) as let_go:
        for number in range(5):
            rig.take(client, start(number, identifier=number))
        let_go()
    client.send(start(6, identifier=6))  # not read any more
    assert rig.receiver.drain(20) == 0
    assert sorted(client.recv(4096)[1] for _ in range(5)) == list(range(5))
    assert not has_answer(client)
    assert len(rig.raw()) == 5


def test_the_end_does_not_wait_long_for_a_database_that_is_away(rig: Rig) -> None:
    client = rig.client()
    with nobody_writes(rig.database):
        rig.take(client, start())
        assert rig.receiver.drain(0.2) == 1
        assert not has_answer(client)


def test_a_locked_sqlite_file_is_waited_for_and_said_once(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounting.db.append.LOCK_WAIT_S", 0.01)
    with open_database(sqlite_url) as database, receiving(database) as rig, capture_logs() as logs:
        client = rig.client()
        failures = count("commit_failures")
        with nobody_writes(database) as let_go:
            rig.take(client, start())
            rig.until(lambda: count("commit_failures") >= failures + 2, "it was tried twice")
            assert not has_answer(client)
            let_go()
        assert is_answer(rig.answer(client), start(), SECRET)
        assert rig.raw() == [start()]
        said = [line["event"] for line in logs]
    assert said == ["nothing can be stored: nothing is answered until it can", "requests can be stored again"]


def test_it_goes_on_by_itself_after_mariadb_was_killed_and_started_again() -> None:
    with restartable_server() as server:
        upgrade_database(server.url)
        with open_database(server.url) as database, receiving(database) as rig:
            client = rig.client()
            rig.ask(client, start(1, identifier=1))
            server.kill()
            failures = count("commit_failures")
            rig.take(client, start(2, identifier=2))
            rig.until(lambda: count("commit_failures") > failures, "the loss was noticed")
            rig.take(client, start(3, identifier=3))
            assert not has_answer(client)
            server.start()
            assert {rig.answer(client)[1], rig.answer(client)[1]} == {2, 3}
            assert rig.raw() == [start(number, identifier=number) for number in (1, 2, 3)]
            with database.journal_read() as conn:
                assert gaps(conn) == []


def test_a_new_day_is_a_new_writer(database: Database) -> None:
    times = [20_000 * DAY_US + DAY_US - 1]
    with receiving(database, clock=lambda: times[-1]) as rig:
        client = rig.client()
        rig.ask(client, start(1))
        times.append(times[-1] + 1)
        rig.ask(client, start(2))
        first, second = rig.rows()
        assert [first.received_us, second.received_us] == times
        assert unpack_ref(second.ref) == (unpack_ref(first.ref)[0] + 1, 1)


def test_a_port_in_use_is_one_clear_line() -> None:
    [held] = listen(["127.0.0.1:0"], 65536)
    with pytest.raises(TollbookError, match=rf"cannot listen on {held.name}: the port is in use"):
        listen(["127.0.0.2:0", held.name], 65536)
    held.socket.close()


def test_radclient_gets_its_answer(rig: Rig) -> None:
    program = shutil.which("radclient")
    assert program, "radclient is not installed; run: apt-get install freeradius-utils"
    host, port = rig.addresses[0]
    command = [program, "-x", "-t", "20", f"{host}:{port}", "acct", SECRET.decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write('Acct-Status-Type = Start, Acct-Session-Id = "c", Proxy-State = 0x0102\n')
        process.stdin.close()
        rig.until(lambda: process.poll() is not None, "radclient ended")
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert "Received Accounting-Response" in said
    assert "Proxy-State = 0x0102" in said
    assert len(rig.raw()) == 1
