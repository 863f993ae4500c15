"""`tollbook check sources` on real databases: which rows it looks at, and what it prints."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounting.base.config import source_of
from accounting.db.engine import Database
from accounting.journal import JournalWriter, register_source
from accounting.journal_window import rows_of, window_since
from accounting.media_log import media_source
from tests.support.lab import FAILED, PEER, T0, Lab, bye, invite

SINCE = ("--since", "2026-11-24T00:00:00Z")
CLIENT = '[[clients]]\nname = "proxy-2"\naddress = "192.0.2.11"\nsecret = "s"\ndialect = "kamailio"\n'
COLLECTOR = (
    '[[collectors]]\nname = "acc-1"\nurl = "mysql://reader@127.0.0.1/opensips"\nflavour = "opensips"\nstart = "all"\n'
)


MEDIA = '[[media]]\nname = "relay-1"\nlisten = "127.0.0.1:5514"\n'


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(database, tmp_path, CLIENT + COLLECTOR + MEDIA)
    yield made
    made.close()


def checked(lab: Lab, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.tollbook("check", "sources", "--json", *(words or SINCE)))
    return found


def test_findings_name_source_code_and_mend(lab: Lab) -> None:
    lab.journal(*(invite(f"c{n}", 0, status=FAILED, code=183) for n in range(4)))
    lab.journal(invite("c9", 5), bye("c9", 9), b"no packet", received_s=9)
    found = checked(lab)
    assert (found["reports"], found["looked_at"]) == (7, 7)
    told = {(f["source"], f["code"]): f for f in found["findings"]}
    assert told["proxy-1", "early_media"]["count"] == 4
    assert told["proxy-1", "early_media"]["mend"] == 'modparam("acc", "early_media", 0)'
    assert told["proxy-1", "quarantined"]["words"].startswith("reports are in quarantine (bad_packet)")
    assert {("proxy-2", "never_seen"), ("acc-1", "never_seen"), ("relay-1", "never_seen")} <= told.keys()


def test_sources_that_the_journal_knows_are_silent(lab: Lab, database: Database) -> None:
    for source in (
        *map(source_of, (*lab.settings.clients, *lab.settings.collectors)),
        *map(media_source, lab.settings.media),
    ):
        register_source(database, source)
    lab.journal(invite("c1", 5), bye("c1", 9))
    told = {f["source"]: f for f in checked(lab)["findings"] if f["code"] == "silent"}
    assert {name: f["severity"] for name, f in told.items()} == dict.fromkeys(
        ("acc-1", "proxy-2", "relay-1"), "problem"
    )
    assert "while 2 reports came from others" in told["relay-1"]["words"]


def test_a_list_for_people_indents_the_lines_that_mend(lab: Lab) -> None:
    lab.journal(invite("c1", 0, status=FAILED, code=183))
    told = lab.tollbook("check", "sources", *SINCE)
    assert told.startswith("1 report since 2026-11-24T00:00:00.000Z: ")
    assert "\nproxy-1: problem early_media (1)\n  provisional answers" in told
    assert '\n    modparam("acc", "early_media", 0)\n' in told


def test_older_reports_are_not_looked_at(lab: Lab) -> None:
    lab.journal(invite("c1", 0, status=FAILED, code=183))
    found = checked(lab, "--since", "2026-11-24T06:00:01Z")
    assert found["reports"] == 0
    assert {f["code"] for f in found["findings"]} == {"silent", "never_seen"}


def test_an_empty_journal_has_silent_sources_only(lab: Lab) -> None:
    found = {(f["source"], f["code"]) for f in checked(lab)["findings"]}
    unseen = {(name, "never_seen") for name in ("acc-1", "proxy-2", "relay-1")}
    assert found == {("proxy-1", "silent"), *unseen}


def test_of_too_many_rows_the_newest_of_each_writer_are_taken(database: Database) -> None:
    busy, quiet = (JournalWriter(database, "receiver", name) for name in ("busy", "quiet"))
    for second in range(40):
        busy.append([((T0 + second) * 1_000_000, 1, PEER, str(second).encode())])
    quiet.append([(T0 * 1_000_000, 1, PEER, b"a"), ((T0 + 39) * 1_000_000, 1, PEER, b"b")])
    for writer in (busy, quiet):
        writer.close()
    window = window_since(database, (T0 + 10) * 1_000_000, 12)
    assert (window.rows, window.looked_at) == (31, 12)
    raws = [row.raw for rows in rows_of(database, window) for row in rows]
    assert sorted(raws) == sorted([b"b", *(str(second).encode() for second in range(29, 40))])
    assert window_since(database, (T0 + 10) * 1_000_000, 100).looked_at == 31
    assert window_since(database, 0, 100).rows == 42
    assert window_since(database, (T0 + 40) * 1_000_000, 100).rows == 0
