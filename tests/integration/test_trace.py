"""`tollbook trace`: reports as the journal has them, for people."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounting.db.engine import Database
from tests.support.lab import Lab, bye, invite
from tests.support.radius import SECRET, request


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(database, tmp_path)
    yield made
    made.close()


def test_the_newest_are_shown_by_name_and_client(lab: Lab) -> None:
    lab.journal(*(invite(f"c{n}", n) for n in range(30)))
    said = lab.tollbook("trace", "--last", "2")
    assert [line for line in said.splitlines() if "Acct-Session-Id" in line] == [
        "    Acct-Session-Id = c28",
        "    Acct-Session-Id = c29",
    ]
    assert "127.0.0.1:5060 proxy-1 1:30" in said
    assert "Acct-Status-Type = 1 (Start)" in said


def test_filters_choose_by_call_number_and_client(lab: Lab) -> None:
    lab.journal(invite("c1", 0), invite("c2", 0, called="sip:+4930777@lab.example"), bye("c1", 9))
    for words, refs in (
        (("--call-id", "c1"), ["1:1", "1:3"]),
        (("--number", "+4930777"), ["1:2"]),
        (("--client", "proxy-1", "--call-id", "c2"), ["1:2"]),
        (("--client", "another"), []),
    ):
        said = lab.tollbook("trace", "--json", *words)
        assert [json.loads(line)["ref"] for line in said.splitlines()] == refs


def test_all_since_an_instant(lab: Lab) -> None:
    lab.journal(invite("c1", 0), received_s=0)
    lab.journal(bye("c1", 60), received_s=60)
    said = lab.tollbook("trace", "--json", "--since", "2026-11-24T06:00:30Z")
    assert [json.loads(line)["ref"] for line in said.splitlines()] == ["1:2"]


def test_control_characters_do_not_reach_the_terminal(lab: Lab) -> None:
    lab.journal(request(SECRET, (40, 1), (44, "c\x1b[31mred\n")))
    said = lab.tollbook("trace")
    assert r"c\x1b[31mred\x0a" in said
    assert "\x1b" not in said


def test_a_password_is_not_shown(lab: Lab) -> None:
    lab.journal(request(SECRET, (40, 1), (44, "c1"), (2, b"0123456789abcdef")))
    said = lab.tollbook("trace")
    assert "0123456789abcdef" not in said
    assert "********" in said


def test_hex_is_read_with_a_clients_dictionary_and_its_signature_told(lab: Lab) -> None:
    datagram = invite("c1", 0)
    said = lab.tollbook("trace", "--hex", datagram.hex(":"), "--client", "proxy-1")
    assert "Request Authenticator = right" in said
    assert "Acct-Session-Id = c1" in said
    said = lab.tollbook("trace", "--hex", (datagram[:-1] + b"x").hex(), "--client", "proxy-1")
    assert "Request Authenticator = WRONG" in said
    assert "a receiver drops it: malformed" in lab.tollbook("trace", "--hex", "0401", "--client", "proxy-1")
    assert SECRET.decode() not in said


def test_what_comes_is_followed(lab: Lab) -> None:
    command = [sys.executable, "-m", "tollbook", "trace", "--follow", "--json", "--config", str(lab.settings.path)]
    lab.journal(invite("c1", 0))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["ref"] == "1:1"
        lab.journal(bye("c1", 60))
        assert json.loads(process.stdout.readline())["ref"] == "1:2"
        process.kill()
