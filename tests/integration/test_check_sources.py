"""`tollbook check sources` on real databases: which rows it looks at, and what it prints."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounting.db.engine import Database
from accounting.journal import JournalWriter
from cdr.journal_window import rows_of, window_since
from tests.support.lab import FAILED, PEER, T0, Lab, bye, invite

SINCE = ("--since", "2026-11-24T00:00:00Z")
CLIENT = '[[clients]]\nname = "proxy-2"\naddress = "192.0.2.11"\nsecret = "s"\ndialect = "kamailio"\n'
COLLECTOR = (
    '[[collectors]]\nname = "acc-1"\nurl = "mysql://reader@127.0.0.1/opensips"\nflavour = "opensips"\nstart = "all"\n'
)


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(database, tmp_path, CLIENT + COLLECTOR)
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
    assert {("proxy-2", "silent"), ("acc-1", "silent")} <= told.keys()
    assert told["proxy-2", "silent"]["severity"] == "problem"


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
    assert {f["code"] for f in found["findings"]} == {"silent"}


def test_an_empty_journal_has_silent_sources_only(lab: Lab) -> None:
    assert {f["code"] for f in checked(lab)["findings"]} == {"silent"}


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
