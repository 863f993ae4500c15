"""Asterisk, FreeSWITCH and Cisco gateways from the journal to the charge, on real databases."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from tests.support.lab import PEER, PROXY, T0, Lab
from tests.support.switches import START, STOP, asterisk, cisco, freeswitch, freeswitch_routing

DECK = "prefix,destination,rate\n4915,Germany mobile,0.12\n"
BUY = "prefix,destination,rate\n49,Germany,0.06\n"


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(database, tmp_path)
    yield lab
    assert lab.differences() == ()
    lab.close()


def journal(
    lab: Lab, dialects: tuple[str, ...], *packets: bytes, name: str = "switch", received_s: int = T0 + 7_200
) -> None:
    """Append the packets of a client of these dialects; they arrive two hours after T0 if nothing else is said."""
    client: Source = PROXY._replace(name=name, dialects=dialects, own_addresses=())
    writer = JournalWriter(lab.database, "receiver", name)
    source_id = register_source(lab.database, client)
    writer.append([(received_s * 1_000_000, source_id, PEER, packet) for packet in packets])
    writer.close()


def buy(lab: Lab, tmp_path: Path, *identity: str) -> None:
    """Load a buy deck for a carrier that is known by this."""
    (tmp_path / "buy.csv").write_text(BUY)
    lab.tollbook("rates", "load", str(tmp_path / "buy.csv"), "--deck", "buy", "--currency", "EUR", "--side", "buy")
    lab.tollbook("carrier", "add", "transit", "--currency", "EUR", "--deck", "buy")
    lab.tollbook("carrier", "identify", "transit", *identity)


def test_asterisk_call_is_charged_to_its_account_code(lab: Lab, tmp_path: Path) -> None:
    lab.sell(DECK)
    buy(lab, tmp_path, "--host", "trunk")
    answered = asterisk("1.42", T0 - 5, T0, T0 + 90)
    journal(lab, ("asterisk",), answered, asterisk("1.43", T0, None, T0 + 9, disposition="BUSY"), answered)
    lab.process()
    call, busy = lab.cdrs()
    assert (call.duration_ms, call.disposition, call.stop_cause) == (90_000, "answered", "complete")
    assert (call.called_number, call.destination_ip, call.setup_ms) == ("+4915112345678", "trunk", 5_000)
    assert (call.price_micros, call.cost_micros) == (180_000, 90_000)
    assert (busy.disposition, busy.sip_code, busy.rating_reason) == ("busy", 486, "not_answered")
    assert lab.balance() == "-0.18"


def test_asterisk_transfer_is_charged_part_by_part(lab: Lab) -> None:
    lab.sell(DECK)
    parts = [asterisk("1.42", T0, T0, T0 + 30), asterisk("1.42", T0 + 30, T0 + 30, T0 + 90)]
    for part in reversed(parts):
        journal(lab, ("asterisk",), part)
        lab.process()
    assert sorted(row.duration_ms for row in lab.cdrs()) == [30_000, 60_000]
    assert lab.balance() == "-0.18"


def test_freeswitch_call_is_charged_once_for_its_two_legs(lab: Lab) -> None:
    lab.sell(DECK)
    journal(lab, ("freeswitch",), freeswitch_routing("u1", T0 - 10), freeswitch_routing("u2", T0 - 9))
    lab.process()
    assert lab.cdrs() == []
    inner = freeswitch("u1", T0 - 10, T0, T0 + 90.5)
    outer = freeswitch("u2", T0 - 9, T0, T0 + 90.5, direction="outbound")
    unanswered = freeswitch("u3", T0, None, T0 + 30, cause=19)
    journal(lab, ("freeswitch",), outer, unanswered, inner)
    lab.process()
    rows = {row.call_id: row for row in lab.cdrs()}
    assert (rows["u1"].duration_ms, rows["u1"].billed_s, rows["u1"].price_micros) == (90_500, 91, 182_000)
    assert (rows["u2"].rating, rows["u2"].rating_reason) == ("not_billable", "carrier_unknown")
    assert (rows["u3"].disposition, rows["u3"].sip_code) == ("unavailable", 480)
    assert lab.balance() == "-0.182"


LEGS = {
    "in": cisco(STOP, "answer", "VoIP", T0 - 9, T0 + 0.02, T0 + 90.02, remote="192.0.2.10"),
    "out": cisco(STOP, "originate", "VoIP", T0 - 8, T0 + 0.01, T0 + 90.01, remote="203.0.113.1"),
    "far in": cisco(STOP, "answer", "VoIP", T0 - 7, T0, T0 + 90, remote="198.51.100.9", nas="203.0.113.1"),
    "far out": cisco(STOP, "originate", "Telephony", T0 - 6, T0, T0 + 90, nas="203.0.113.1"),
}


@pytest.mark.parametrize("order", [("in", "out", "far in", "far out"), ("far out", "far in", "out", "in")])
def test_cisco_call_of_four_legs_is_charged_once(lab: Lab, order: tuple[str, ...]) -> None:
    lab.sell(DECK)
    journal(lab, ("cisco",), cisco(START, "answer", "VoIP", T0 - 9), cisco(START, "originate", "VoIP", T0 - 8))
    lab.process()
    assert lab.cdrs() == []
    journal(lab, ("cisco",), *(LEGS[name] for name in order), LEGS["in"])
    lab.process()
    [row] = lab.cdrs()
    assert (row.duration_ms, row.disposition, row.source_ip) == (90_000, "answered", "192.0.2.10")
    assert (row.call_id, row.rating, row.price_micros) == ("16000000 0 0 1234ABCD", "rated", 180_000)
    assert lab.balance() == "-0.18"


def test_cisco_legs_that_come_one_by_one_settle_on_one_charge(lab: Lab, tmp_path: Path) -> None:
    lab.sell(DECK)
    buy(lab, tmp_path, "--ip", "203.0.113.1")
    for name in ("in", "out"):
        journal(lab, ("generic", "cisco"), LEGS[name])
        lab.process()
    [row] = lab.cdrs()
    assert (row.destination_ip, row.duration_ms) == ("203.0.113.1", 90_000)
    assert (row.price_micros, row.cost_micros) == (180_000, 90_000)
    assert lab.balance() == "-0.18"


def test_cisco_call_that_hangs_is_closed_by_hand(lab: Lab) -> None:
    now = int(time.time())
    legs = [
        cisco(START, "answer", "VoIP", now - 602, now - 600),
        cisco(START, "originate", "VoIP", now - 601, now - 600),
    ]
    journal(lab, ("cisco",), *legs, received_s=now - 600)
    lab.tollbook("process")
    [call] = json.loads(lab.tollbook("cdr", "open", "--json"))
    ended_at = datetime.fromtimestamp(now - 510, UTC).isoformat()
    lab.tollbook("cdr", "close", str(call["id"]), "--ended-at", ended_at, "--reason", "seen on the gateway")
    assert [(row.id, row.stop_cause, row.duration_ms) for row in lab.cdrs()] == [(call["id"], "operator", 90_000)]


def test_cisco_call_that_nobody_answered_failed(lab: Lab) -> None:
    lab.sell(DECK)
    busy = [cisco(STOP, "answer", "VoIP", T0 - 9, None, T0, cause="11", remote="192.0.2.10"),
            cisco(STOP, "originate", "Telephony", T0 - 8, T0, T0, cause="11")]  # fmt: skip
    journal(lab, ("cisco",), *busy)
    lab.process()
    [row] = lab.cdrs()
    assert (row.disposition, row.sip_code, row.duration_ms, row.price_micros) == ("busy", 486, 0, None)
