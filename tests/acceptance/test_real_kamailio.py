"""A real Kamailio, configured as docs/howto/kamailio.md shows, reports SIPp's calls; each CDR is what SIPp did.

All calls run at once, against one proxy, which reports by RADIUS and writes its tables. Each calls a number of its own,
by which the proxy finds the called parties. One Tollbook sees RADIUS only, one `acc`, one `acc_cdrs`, one all of it.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import URL, make_url

from accounting.base.clock import parse_instant
from tests.support import sipp
from tests.support.daemon import wait_until
from tests.support.howto import block
from tests.support.kamailio import ZONE, kamailio, make_tables, to
from tests.support.load import free_port
from tests.support.mariadb import Server
from tests.support.operator import PRICE_PER_S, Operator
from tests.support.sipp import Truth

PROXY, CALLERS, CALLED, OUTER = "127.0.2.1", "127.0.2.2", "127.0.2.3", "127.0.2.4"
FORWARDED_TO, TRANSFERRED_TO, HANDED_OVER_TO = "+4930999991", "+4930999992", "+4930999993"
NOT_ANSWERED = {"answered_at": "", "duration_ms": "0", "stop_cause": "", "released_by": "unknown"}
PARTIES = {
    "answers": ("uas_answers", "-d", "500"),
    "hangs_up": ("uas_hangs_up", "-d", "6000", "-callid_slash_ign"),
    "busy": ("uas_busy",),
    "absent": ("uas_absent",),
    "rings": ("uas_rings",),
    "answers_cancelled": ("uas_answers_cancelled",),
    "hands_over": ("uas_hands_over", "-d", "800", "-key", "third", HANDED_OVER_TO),
    "transfers": ("uas_transfers", "-d", "1000", "-key", "third", TRANSFERRED_TO),
}


class Call(NamedTuple):
    """One call: SIPp's scenario and its options, whom it reaches, and what the CDR says beside what SIPp saw."""

    scenario: str
    options: tuple[str, ...]
    reaches: tuple[str, ...]
    cdr: dict[str, str]


CALLS = {
    "caller_hangs_up": Call("uac_hangs_up", ("-d", "3000"), ("answers",), {}),
    "callee_hangs_up": Call("uac_hears_bye", (), ("hangs_up",), {}),
    "busy": Call("uac_fails", (), ("busy",), {"disposition": "busy"}),
    "cancelled": Call("uac_cancels", ("-d", "1500"), ("rings",), {"disposition": "cancelled"}),
    "nobody_answers": Call("uac_fails", (), ("rings",), {"disposition": "no_answer"}),
    "number_unknown": Call("uac_fails", (), (), {"disposition": "not_found"}),
    "second_in_turn_answers": Call("uac_hangs_up", ("-d", "2000"), ("busy", "answers"), {}),
    "second_in_turn_is_busy": Call("uac_fails", (), ("absent", "busy"), {"disposition": "busy"}),
    "one_of_two_answers": Call("uac_hangs_up", ("-d", "2500"), ("rings", "&answers"), {}),
    "neither_of_two_answers": Call("uac_fails", (), ("rings", "&busy"), {}),
    "forwarded": Call("uac_hangs_up", ("-d", "2000"), ("forward",), {"forwarded_by": "chief", "direction": "on_net"}),
    "held": Call("uac_holds", ("-d", "1500"), ("answers",), {}),
    "answered_as_it_is_cancelled": Call("uac_cancels_too_late", (), ("answers_cancelled",), {}),
    # Kamailio reports the first answer only, and both BYEs.
    "two_answer": Call("uac_gets_two_answers", ("-d", "2000"), ("answers", "&answers_cancelled"), {}),
    "blind_transfer": Call("uac_is_transferred", ("-d", "1500"), ("transfers",), {}),
    "attended_transfer": Call("uac_is_handed_over", ("-d", "1200"), ("hands_over",), {}),
    "call_id_taken": Call("uac_hangs_up", ("-d", "2000", "-cid_str", "taken@lab.example"), ("answers",), {}),
    "call_id_taken_again": Call("uac_hears_bye", ("-cid_str", "taken@lab.example"), ("hangs_up",), {}),
    "through_two_proxies": Call("uac_hangs_up", ("-d", "2000"), ("outer",), {"destination_ip": OUTER, "carrier": ""}),
    "bye_is_lost": Call("uac_vanishes", (), ("answers",), {"stop_cause": "max_age", "released_by": "system"}),
}
LED_TO = {
    "blind_transfer/0": ("blind_transfer", TRANSFERRED_TO),
    "attended_transfer/0": ("attended_transfer", HANDED_OVER_TO),
    "consultation": ("consultant", HANDED_OVER_TO),
}
"""Calls that another call led to: its caller, and the number called."""
NUMBERS = {name: f"+49301234560{number:02}" for number, name in enumerate(CALLS)}


class Outcome(NamedTuple):
    """What SIPp saw of a call, and Tollbook's rows of it."""

    truth: Truth
    rows: list[dict[str, str]]


class Made(NamedTuple):
    """All calls were made: what SIPp saw, the Tollbook that heard of them by RADIUS, the proxy's database."""

    truths: dict[str, Truth]
    radius: Operator
    database: URL


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, mariadb_server: Server) -> Made:
    """Make all calls."""
    folder = tmp_path_factory.mktemp("kamailio")
    database, outer = (make_url(mariadb_server.create()) for _ in range(2))
    make_tables(database)
    make_tables(outer)
    clients = block("kamailio", "[[clients]]", {"192.0.2.11": PROXY})
    clients += block(
        "kamailio", "[[clients]]", {"192.0.2.11": OUTER, "proxy-2": "outer", "country": "rank = 2\ncountry"}
    )
    radius = Operator(folder / "radius", sqlite_template, clients)
    with radius.receiving():
        truths = _run_calls(folder, radius, database, outer)
    return Made(truths, radius, database)


@pytest.fixture(scope="module")
def by_radius(made: Made) -> dict[str, Outcome]:
    """Return what RADIUS makes of the calls."""
    _sell(made.radius)
    return _outcomes(made, made.radius.cdrs())


@pytest.fixture(scope="module")
def by_acc(made: Made, sqlite_template: Path) -> dict[str, Outcome]:
    """Return what the rows of acc and missed_calls make of the calls."""
    operator = Operator(made.radius.folder.parent / "acc", sqlite_template, _collector(made, "proxy-2-acc"))
    _sell(operator)
    operator.run("collect", "--once")
    return _outcomes(made, operator.cdrs())


@pytest.fixture(scope="module")
def by_cdrs(made: Made, sqlite_template: Path) -> dict[str, Outcome]:
    """Return what the rows of acc_cdrs make of the calls."""
    operator = Operator(made.radius.folder.parent / "cdrs", sqlite_template, _collector(made, "proxy-2-cdrs"))
    _sell(operator)
    operator.run("collect", "--once")
    return _outcomes(made, operator.cdrs())


@pytest.mark.parametrize("name", [*CALLS, *LED_TO])
def test_radius_becomes_the_cdr_of_what_happened(by_radius: dict[str, Outcome], name: str) -> None:
    [row] = by_radius[name].rows
    _check(name, by_radius[name].truth, row, within_ms=1_100)
    assert row["source"] == "proxy-2"


@pytest.mark.parametrize("name", [*CALLS, *LED_TO])
def test_rows_of_acc_become_the_cdr_of_what_happened(by_acc: dict[str, Outcome], name: str) -> None:
    [row] = by_acc[name].rows
    _check(name, by_acc[name].truth, row, within_ms=250)
    assert row["source"] == "proxy-2-acc"


@pytest.mark.parametrize("name", [*CALLS, *LED_TO])
def test_rows_of_acc_cdrs_become_the_cdr_of_what_happened(by_cdrs: dict[str, Outcome], name: str) -> None:
    truth, rows = by_cdrs[name]
    if truth.duration_ms is None:
        assert rows == [], "the proxy writes a row when an answered call ends"
        return
    [row] = rows
    _check(name, truth, row, within_ms=250, but={"stop_cause": "complete", "released_by": "unknown"})


def test_all_of_it_is_one_cdr_a_call_and_charges_the_same(made: Made, by_radius: dict[str, Outcome]) -> None:
    settings = made.radius.folder / "tollbook.toml"
    settings.write_text(
        settings.read_text() + _collector(made, "proxy-2-acc", rank=2) + _collector(made, "proxy-2-cdrs", rank=3)
    )
    made.radius.run("collect", "--once")
    after = _outcomes(made, made.radius.cdrs())
    for name, outcome in by_radius.items():
        assert after[name].rows == outcome.rows


def _check(name: str, truth: Truth, row: dict[str, str], within_ms: int, but: dict[str, str] | None = None) -> None:
    caller, number = LED_TO[name] if name in LED_TO else (name, NUMBERS[name])
    is_ours = caller != "consultant"
    wanted = {
        "source_ip": CALLERS if is_ours else CALLED,
        "caller": caller,
        "called": number,
        "called_number": number,
        "account": "acme" if is_ours else "",
        "from_tag": truth.from_tag,
        "sip_code": str(truth.code),
        **(_answered(truth) if truth.answered_s else NOT_ANSWERED),
        **(CALLS[name].cdr if name in CALLS else {}),
        **(but or {}),
    }
    assert {key: row[key] for key in wanted} == wanted
    if truth.answered_s:
        assert abs(parse_instant(row["answered_at"]).timestamp() - truth.answered_s) <= 1.1
    if truth.duration_ms is not None:
        assert abs(int(row["duration_ms"]) - truth.duration_ms) <= within_ms
    if truth.duration_ms is not None and is_ours:
        assert row["rating"] == "rated"
        price = -(-int(row["duration_ms"]) // 1_000) * PRICE_PER_S
        if row["carrier"]:
            assert float(row["cost"]) == pytest.approx(price)
        if row["direction"] == "outbound":
            assert float(row["price"]) == pytest.approx(price)


def _answered(truth: Truth) -> dict[str, str]:
    ended = truth.duration_ms is not None
    return {
        "disposition": "answered",
        "to_tag": truth.to_tag,
        "stop_cause": "bye" if ended else "max_age",
        "released_by": truth.released_by,
        "exception": "" if ended else "no_stop",
    }


def _sell(operator: Operator) -> None:
    accounts = {"acme": ("--ip", CALLERS), "chief": ("--did", NUMBERS["forwarded"])}
    operator.sell(to=accounts, buy_of=("--ip", CALLED))


def _collector(made: Made, name: str, rank: int = 1) -> str:
    url = made.database.render_as_string(hide_password=False)
    changes = {
        "192.0.2.11": PROXY,
        "mysql://tollbook:secret@192.0.2.30/kamailio": url,
        "Europe/Berlin": ZONE,
        'start = "all"': f'start = "all"\nrank = {rank}',
    }
    return block("kamailio", f'name = "{name}"', changes)


def _outcomes(made: Made, rows: list[dict[str, str]]) -> dict[str, Outcome]:
    result = {
        name: Outcome(truth, [row for row in rows if (row["call_id"], row["from_tag"]) == truth[:2]])
        for name, truth in made.truths.items()
    }
    assert sum(len(outcome.rows) for outcome in result.values()) == len(rows), "CDRs of calls that nobody made"
    return result


def _truths(folder: Path) -> dict[str, Truth]:
    """Return what was seen of each call, and of the calls that others led to."""
    truths = {}
    for name in CALLS:
        truths[name], *more = sipp.truths(sipp.messages(folder, name))
        truths |= {f"{name}/{number}": truth for number, truth in enumerate(more)}
    [log] = folder.glob("uas_hands_over-*.messages")
    [truths["consultation"]] = sipp.truths(sipp.messages(folder, log.stem))
    assert truths.keys() == CALLS.keys() | LED_TO.keys()
    return truths


def _run_calls(folder: Path, radius: Operator, database: URL, outer: URL) -> dict[str, Truth]:
    parties = {name: (CALLED, free_port()) for name in PARTIES}
    proxy = (PROXY, free_port())
    parties["outer"] = (OUTER, free_port())
    beyond = {NUMBERS["through_two_proxies"]: to(parties["answers"])}
    places = {NUMBERS[name]: _place(call, parties) for name, call in CALLS.items() if call.reaches}
    places[HANDED_OVER_TO] = to(parties["hangs_up"])
    places |= {number: to(parties["answers"]) for number in (FORWARDED_TO, TRANSFERRED_TO)}
    with ExitStack() as stack:
        stack.enter_context(kamailio(folder / "proxy", proxy, radius.address, places, database))
        stack.enter_context(kamailio(folder / "outer", parties["outer"], radius.address, beyond, outer))
        for name, (scenario, *options) in PARTIES.items():
            stack.enter_context(sipp.answering(scenario, folder, parties[name], *options))
        calls = {
            name: sipp.calling(
                call.scenario, folder, name, proxy, CALLERS, "-s", NUMBERS[name], "-key", "caller", name, *call.options
            )
            for name, call in CALLS.items()
        }
        for process in calls.values():
            stack.callback(process.wait)
            stack.callback(process.kill)
        for name, process in calls.items():
            sipp.done(process, folder, name)
        truths = _truths(folder)
        ended = {truth.call_id: truth.ended_s is not None for truth in truths.values()}
        wait_until(
            lambda: all(radius.stored(call_id) > has_end for call_id, has_end in ended.items()), "all is reported"
        )
    return truths


def _place(call: Call, parties: dict[str, tuple[str, int]]) -> str:
    if call.reaches == ("forward",):
        return f'$avp(forward) = "{FORWARDED_TO}"; route(FORWARD);'
    addresses = [parties[name.lstrip("&")] for name in call.reaches]
    return to(*addresses, forked=any(name.startswith("&") for name in call.reaches))
