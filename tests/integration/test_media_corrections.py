"""What the media tell after a call was charged: a new revision, a reversal and a new charge, on either database."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounting.base.config import MediaSettings
from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from accounting.media_log import MediaLog
from tests.support.lab import PEER, T0, Lab, bye, invite
from tests.support.radius import SECRET, request

DECK = "prefix,destination,rate\n4915,Germany mobile,0.60\n"
RTPENGINE = Source(id=0, name="relay-1", kind="media", dialects=("rtpengine",), rank=2)
MEDIAPROXY = Source(id=0, name="relay-2", dialects=("mediaproxy",), dictionary="opensips", rank=2)
KAMAILIO = Source(id=0, name="proxy-2", dialects=("kamailio",), own_addresses=("127.0.0.1",))
CORPUS = Path(__file__).parents[1] / "data" / "corpus"
HOURS_S = 7_200


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    opened = Lab(database, tmp_path)
    opened.sell(DECK)
    yield opened
    opened.close()


def relay(lab: Lab, source: Source, *raw: bytes, at: int) -> None:
    """Store what a relay reports at T0 + at."""
    number = register_source(lab.database, source)
    writer = JournalWriter(lab.database, "media", source.name)
    writer.append([((T0 + at) * 1_000_000, number, PEER, one) for one in raw])
    writer.close()


def line(call_id: str, last: int, why: str = "TIMEOUT") -> bytes:
    """Return rtpengine's line of a call whose last packet came at T0 + last."""
    leg = (
        "ml{0}_end_time={2}.000000, ml{0}_termination={3}, ml{0}_local_tag={4}, ml{0}_local_tag_type={5}, "
        "ml{0}_remote_tag={6}, ml{0}_midx1_rtp_relayed_packets=9, ml{0}_midx1_rtp_last_packet={1}, "
    )
    caller = leg.format(0, T0 + last, T0 + last + 60, why, "a", "FROM_TAG", "b")
    callee = leg.format(1, T0 + last - 1, T0 + last + 60, why, "b", "TO_TAG", "a")
    return f"rtpengine: ci={call_id}, created_from=127.0.0.1:3829, {caller}{callee}".encode()


def update(call_id: str, lasted: int) -> bytes:
    """Return MediaProxy's report of media that timed out."""
    return request(SECRET, (40, 3), (44, call_id), (46, lasted), (206, "a"), (207, "b"), (234, "timeout"))


def figures(lab: Lab) -> list[tuple[str, int, int]]:
    return [(charge.kind, charge.billed_s, charge.amount_micros) for charge in lab.charges()]


def test_lost_bye_is_charged_once_the_media_tell_the_end(lab: Lab) -> None:
    lab.journal(invite("c1", 0))
    lab.process(after_s=3_600)
    assert lab.cdrs() == []
    relay(lab, RTPENGINE, line("c1", 61), at=130)
    lab.process(after_s=3_600)
    [cdr] = lab.cdrs()
    assert (cdr.revision, cdr.stop_cause, cdr.duration_ms, cdr.released_by) == (1, "media", 61_000, "system")
    assert figures(lab) == [("charge", 61, 610_000)]
    assert not lab.differences()


@pytest.mark.parametrize("source", [RTPENGINE, MEDIAPROXY], ids=lambda source: source.dialects[0])
def test_media_that_were_dead_before_a_charged_bye_correct_the_charge(lab: Lab, source: Source) -> None:
    lab.journal(invite("c1", 0), bye("c1", HOURS_S))
    lab.process(after_s=HOURS_S + 10)
    assert figures(lab) == [("charge", HOURS_S, 72_000_000)]
    relay(lab, source, line("c1", 61) if source is RTPENGINE else update("c1", 61), at=HOURS_S + 20)
    lab.process(after_s=HOURS_S + 30)
    [cdr] = lab.cdrs()
    assert (cdr.revision, cdr.stop_cause, cdr.duration_ms, cdr.released_by) == (2, "media", 61_000, "system")
    assert "media_gap" in cdr.flags
    assert figures(lab) == [("charge", HOURS_S, 72_000_000), ("reversal", HOURS_S, 72_000_000), ("charge", 61, 610_000)]
    assert lab.balance() == "-0.61"
    assert not lab.differences()


def test_bye_that_comes_after_the_media_ended_a_call_corrects_the_charge(lab: Lab) -> None:
    lab.journal(invite("c1", 0))
    relay(lab, RTPENGINE, line("c1", 61), at=130)
    lab.process(after_s=200)
    assert figures(lab) == [("charge", 61, 610_000)]
    lab.journal(bye("c1", 100))
    lab.process(after_s=300)
    [cdr] = lab.cdrs()
    assert (cdr.revision, cdr.stop_cause, cdr.duration_ms) == (2, "bye", 100_000)
    assert [kind for kind, _, _ in figures(lab)] == ["charge", "reversal", "charge"]
    assert not lab.differences()


def test_media_that_confirm_the_bye_change_nothing(lab: Lab) -> None:
    lab.journal(invite("c1", 0), bye("c1", 61))
    lab.process(after_s=3_600)
    relay(lab, RTPENGINE, line("c1", 61, "REGULAR"), at=62)
    relay(lab, MEDIAPROXY, update("c1", 60), at=62)
    lab.process(after_s=7_200)
    [cdr] = lab.cdrs()
    assert (cdr.revision, cdr.stop_cause) == (1, "bye")
    assert figures(lab) == [("charge", 61, 610_000)]
    assert not lab.differences()


def test_setting_turns_the_rule_off(sqlite_url: str, tmp_path: Path) -> None:
    from accounting.db.engine import open_database

    with open_database(sqlite_url) as database:
        lab = Lab(database, tmp_path, "[pairing]\nmedia_gap_s = 0\n")
        lab.sell(DECK)
        lab.journal(invite("c1", 0), bye("c1", HOURS_S))
        relay(lab, RTPENGINE, line("c1", 61), at=130)
        lab.process(after_s=HOURS_S + 10)
        [cdr] = lab.cdrs()
        assert (cdr.stop_cause, cdr.duration_ms) == ("bye", HOURS_S * 1000)
        lab.close()


def test_captured_calls_with_rtpengine_become_the_cdrs_that_took_place(lab: Lab, tmp_path: Path) -> None:
    lines = map(json.loads, (CORPUS / "rtpengine-cdr-syslog.jsonl").read_text().splitlines())
    (tmp_path / "cdr.log").write_text("".join(f"{told['line']}\n" for told in lines if told["kind"] == "syslog"))
    truths = {}
    writer = JournalWriter(lab.database, "receiver", "captured")
    number = register_source(lab.database, KAMAILIO)
    for scenario in sorted((CORPUS / "kamailio-rtpengine").iterdir()):
        [truth] = json.loads((scenario / "truth.json").read_text())["calls"]
        truths[truth["call_id"]] = truth
        packets = [json.loads(line) for line in (scenario / "radius.jsonl").read_text().splitlines()]
        writer.append([(int(p["recv_epoch"] * 1e6), number, PEER, bytes.fromhex(p["hex"])) for p in packets])
    writer.close()
    log = MediaLog(lab.database, MediaSettings(name="relay-1", file=tmp_path / "cdr.log", rank=2))
    while log.step():
        pass
    log.close()
    lab.process()
    lab.tollbook("export", "cdrs", "--out", str(tmp_path / "cdrs.csv"))
    with (tmp_path / "cdrs.csv").open(newline="", encoding="utf-8") as file:
        found = {row["call_id"]: row for row in csv.DictReader(file)}
    assert found.keys() == truths.keys()
    for call_id, row in found.items():
        truth = truths[call_id]
        assert (row["caller"], row["from_tag"], row["to_tag"]) == ("alice", truth["from_tag"], truth["to_tag"])
        lasted = truth["billable_ms"] or 5_000  # of RTP, as the scenario's note says
        assert abs(int(row["duration_ms"]) - lasted) <= 1_100
        ended = ("bye", truth["released_by"]) if truth["bye_codes"] else ("media", "system")
        assert (row["stop_cause"], row["released_by"], row["exception"]) == (*ended, "")
    assert not lab.differences()
