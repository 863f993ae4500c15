"""`tollbook trace` of captures, of all kinds of sources and over times; that it shows no secret and ends quietly."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from accounting.base.errors import TollbookError
from accounting.db.engine import Database
from accounting.event import Source, unpack_ref
from accounting.journal import JournalWriter, register_source
from tests.support.capture import AT_US, CLIENT, framed, packet, pcap_file
from tests.support.daemon import wait_until
from tests.support.lab import T0, Lab, bye, invite
from tests.support.radius import SECRET, request, sign
from tollbook import app

INVITE = invite("call-1", 0)


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(database, tmp_path)
    yield lab
    lab.close()


def run(lab: Lab, *words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["trace", *words, "--config", str(lab.settings.path)], input=stdin)


def problem(lab: Lab, *words: str) -> str:
    """Return the sentence that a command ends with, which cannot do what it was asked for."""
    result = run(lab, *words)
    assert isinstance(result.exception, TollbookError)
    return str(result.exception)


def shown(lab: Lab, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lab.tollbook("trace", "--json", *words).splitlines()]


def signature(told: dict[str, Any]) -> str:
    return str(dict(told["says"]).get("Request Authenticator", ""))


def capture(folder: Path, *payloads: bytes, port: int = 1813) -> str:
    frames = [framed(1, bytes(packet(payload, CLIENT, ("127.0.0.1", port)))) for payload in payloads]
    path = folder / "some.pcap"
    path.write_bytes(pcap_file([(AT_US, frame) for frame in frames]))
    return str(path)


def test_stored_rows_by_time_and_by_ref(lab: Lab) -> None:
    refs = lab.journal(INVITE) + lab.journal(bye("call-1", 60), received_s=60)
    said = lab.tollbook("trace", "--since", "2026-11-24T06:00:00Z", "--until", "2026-11-24T06:00:30Z")
    writer, seq = unpack_ref(refs[0])
    head, *lines = said.splitlines()
    assert head.startswith(
        f"2026-11-24T06:00:00.000Z 127.0.0.1:5060 proxy-1 {writer}:{seq} Accounting-Request Start id 1"
    )
    assert "    Acct-Session-Id = call-1" in lines
    assert "    Sip-Method = 1 (Invite)" in lines
    assert "    Event-Timestamp = 1795500000 (2026-11-24T06:00:00.000Z)" in lines
    assert "BYE" not in said
    [told] = shown(lab, "--ref", "/".join(map(str, unpack_ref(refs[1]))))
    assert str(told["what"]).startswith("Accounting-Request Stop")
    assert problem(lab, "--ref", "1/99") == "the journal has no row 1/99"
    assert "is no row of the journal" in problem(lab, "--ref", "x")


@pytest.mark.parametrize("since", ["2026-11-24T05:00:00Z", "1970-01-01T00:00:00Z"])
def test_rows_of_several_writers_come_in_the_order_of_arrival(lab: Lab, database: Database, since: str) -> None:
    other = JournalWriter(database, "receiver", "other")
    source = register_source(database, Source(0, "proxy-2"))
    other.append([((T0 + at) * 1_000_000, source, b"", invite(f"b{at}", at)) for at in (1, 3, 5)])
    other.close()
    for at in (0, 2, 4):
        lab.journal(invite(f"a{at}", at), received_s=at)
    told = shown(lab, "--since", since)
    assert [one["source"] for one in told] == ["proxy-1", "proxy-2"] * 3
    assert [one["at"] for one in told] == sorted(str(one["at"]) for one in told)
    assert [one["source"] for one in shown(lab, "--since", since, "--client", "proxy-2")] == ["proxy-2"] * 3


def test_filters_by_call_id_and_number(lab: Lab) -> None:
    lab.journal(INVITE, bye("call-1", 60), invite("call-2", 5, called="sip:+3312345@lab.example", via="sip:b@b"))
    since = ("--since", "2026-11-24T00:00:00Z")
    assert len(shown(lab, *since, "--call-id", "call-1")) == 2
    assert len(shown(lab, *since, "--number", "+49 151-12345678")) == 1
    assert len(shown(lab, *since, "--number", "0033 12345")) == 1
    assert not shown(lab, *since, "--number", "1795500000")  # a time, not a party
    assert "has no digits" in problem(lab, *since, "--number", "none")


def test_rows_of_collectors_media_logs_and_operators(lab: Lab, database: Database) -> None:
    writer = JournalWriter(database, "collector", "test")
    row = {"table": "acc", "row": {"callid": "c1", "method": "INVITE", "note": "\x1b[31m"}, "full": []}
    line = b"<29>rtpengine[1]: [call] ci=c1, created_from=x, \x1b[0m"
    for kind, raw in (
        ("sql", json.dumps(row).encode()), ("media", line), ("operator", b'{"call_id": "c1", "ended_us": 1}'),
        ("sql", b"no row"),
    ):  # fmt: skip
        writer.append([(T0 * 1_000_000, register_source(database, Source(0, kind, kind=kind)), b"", raw)])
    writer.close()
    said = lab.tollbook("trace", "--since", "2026-11-24T00:00:00Z")
    assert "row of acc" in said
    assert "    callid = c1" in said
    assert r"    note = \x1b[31m" in said
    assert "ci=c1, created_from=x" in said
    assert "    ended_us = 1" in said
    assert "not translated = bad_row: not a collector's row: JSONDecodeError" in said
    assert "\x1b" not in said
    assert len(shown(lab, "--since", "2026-11-24T00:00:00Z", "--call-id", "c1")) == 3


@pytest.mark.parametrize("words", [["--follow", "--hex", "04"], ["--ref", "1/1", "--since", "2026-11-24T00:00:00Z"]])
def test_one_kind_of_input_can_be_named(lab: Lab, words: list[str]) -> None:
    assert run(lab, *words).exit_code == 2


def test_hexadecimal_text_and_whose_it_is(lab: Lab) -> None:
    [told] = shown(lab, "--hex", INVITE.hex(":"))
    assert signature(told) == "not checked: no client of the settings"
    [told] = shown(lab, "--hex", "0x" + INVITE.hex(), "--client", "proxy-1")
    assert (told["source"], signature(told)) == ("proxy-1", "right")
    wrong = sign(INVITE[20:], b"another")
    [told] = shown(lab, "--hex", wrong.hex(), "--client", "proxy-1")
    assert signature(told).startswith("WRONG")
    [told] = shown(lab, "--hex", INVITE.hex(), "--dictionary", "classic")
    assert ["Attr-204", "0x00000001"] in told["says"]
    assert "no client 'x' in the settings" in problem(lab, "--hex", "04", "--client", "x")
    assert "'q' is no hexadecimal digit" in problem(lab, "--hex", "0q")
    assert "3 hexadecimal digits are no whole octets" in problem(lab, "--hex", "040")


def test_hexadecimal_text_on_stdin_holds_several_packets(lab: Lab) -> None:
    first, second = INVITE.hex("\n", 20), bye("call-2", 9).hex()
    said = run(lab, "--hex", "-", "--json", stdin=f"{first}\n\n{second}\n".encode())
    assert said.exit_code == 0
    assert ["Start" in line for line in said.output.splitlines()] == [True, False]


def test_capture_shows_requests_and_replies_of_its_port(lab: Lab, tmp_path: Path) -> None:
    path = capture(tmp_path, INVITE, sign(INVITE[20:], b"another"), b"\x05\x01\x00\x14" + bytes(16), b"rubbish")
    told = shown(lab, "--pcap", path)
    assert [signature(one)[:5] for one in told] == ["right", "WRONG", "", ""]
    assert told[0]["at"] == "2026-11-24T07:07:43.475Z"
    assert told[0]["peer"] == "127.0.0.1:40000 > 127.0.0.1:1813"
    assert str(told[2]["what"]).startswith("Accounting-Response")
    assert told[3]["what"] == "no packet"
    assert not shown(lab, "--pcap", path, "--port", "1646")
    assert len(shown(lab, "--pcap", path, "--call-id", "call-1", "--number", "15112345678")) == 2


def test_capture_that_is_none_or_cut_is_told(lab: Lab, tmp_path: Path) -> None:
    path = Path(capture(tmp_path, INVITE))
    path.write_bytes(path.read_bytes()[:-1])
    result = run(lab, "--pcap", str(path))
    assert (result.exit_code, result.stderr) == (0, "tollbook: 1 of the files ended within a packet\n")
    path.write_bytes(b"GIF89a")
    assert problem(lab, "--pcap", str(path)).startswith(f"{path}: is neither a pcap nor a pcapng file")
    assert (
        problem(lab, "--pcap", str(tmp_path / "none")) == f"{tmp_path}/none: cannot be read: No such file or directory"
    )


def test_no_secret_is_ever_shown(lab: Lab, tmp_path: Path) -> None:
    hush = b"hush-hush-hush-1"
    secret = request(
        SECRET, (40, 1), (44, "c1"), (2, hush), (3, hush), (60, hush), (80, hush), (26, b"\0\0\x017" + hush)
    )
    lab.journal(secret)
    for words in (
        ("--since", "2026-11-24T00:00:00Z"), ("--hex", secret.hex()), ("--pcap", capture(tmp_path, secret)),
    ):  # fmt: skip
        for json_ in ((), ("--json",)):
            said = lab.tollbook("trace", *words, *json_)
            assert "******** (16 octets, hidden)" in said
            for form in (hush.decode(), hush.hex(), SECRET.decode(), SECRET.hex()):
                assert form not in said


def test_follow_shows_new_writers_too_and_ends_quietly(lab: Lab, database: Database, tmp_path: Path) -> None:
    lab.journal(invite("old", 0))
    log = tmp_path / "trace.log"
    command = [sys.executable, "-m", "tollbook", "trace", "--follow", "--json", "--config", str(lab.settings.path)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            wait_until(lambda: "old" in log.read_text(), "the newest are shown")
            other = JournalWriter(database, "collector", "new")
            other.append([(T0, register_source(database, Source(0, "later")), b"", invite("call-9", 9))])
            other.close()
            wait_until(lambda: "call-9" in log.read_text(), "a new writer's row is shown")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


def test_a_reader_that_has_enough_is_no_problem(lab: Lab) -> None:
    lab.journal(*(invite(f"call-{number}", 0) for number in range(2000)))
    command = [sys.executable, "-m", "tollbook", "trace", "--since", "2026-11-24T00:00:00Z"]
    shell = f"{' '.join(command)} --config '{lab.settings.path}' | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Accounting-Request" in done.stdout
