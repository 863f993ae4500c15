"""Two real Kamailios in a chain, and a Call-ID used twice: each call is charged once, and bought where it went out.

The inner proxies report by RADIUS to one Tollbook and by SQL to another; the outer one the other way round. One inner
proxy hides the Call-ID from the outer one (topoh), as a B2BUA does.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import URL, make_url

from tests.support import sipp
from tests.support.howto import block
from tests.support.kamailio import ZONE, kamailio, make_tables, to
from tests.support.load import free_port
from tests.support.mariadb import Server
from tests.support.operator import PRICE_PER_S, Operator
from tests.support.sipp import Truth

PLAIN, HIDING, OUTER, CALLERS, CALLED = (f"127.0.6.{number}" for number in range(1, 6))
HIDES = 'loadmodule "topoh.so"\nmodparam("topoh", "mask_key", "k")\nmodparam("topoh", "mask_callid", 1)\n'
HIDES += f'modparam("topoh", "mask_ip", "{HIDING}")\n'
NUMBERS = {"plain": "+4930123458000", "hidden": "+4930123458001", "reused": "+4930123458002"}
BETWEEN_MS = 8_000
"""From one call with the Call-ID to the next; each lasts some two seconds."""


class Made(NamedTuple):
    """The calls were made: what SIPp saw, and what each Tollbook makes of them."""

    truths: dict[str, list[Truth]]
    both_access: list[dict[str, str]]
    outer_egress: list[dict[str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, mariadb_server: Server) -> Made:
    """Make all calls."""
    folder = tmp_path_factory.mktemp("chain")
    inner, hiding, outer = (make_url(mariadb_server.create()) for _ in range(3))
    for database in (inner, hiding, outer):
        make_tables(database)
    access = Operator(
        folder / "access", sqlite_template,
        "[pairing]\nreuse_gap_s = 3\n" + _client("plain", PLAIN) + _client("hiding", HIDING)
        + _collector("outer", OUTER, outer, "rank = 2"),
    )  # fmt: skip
    egress = Operator(
        folder / "egress", sqlite_template,
        _client("outer", OUTER, 'role = "egress"') + _collector("plain", PLAIN, inner)
        + _collector("hiding", HIDING, hiding),
    )  # fmt: skip
    with access.receiving(), egress.receiving():
        _call(folder, access, egress, (inner, hiding, outer))
    truths = {name: sipp.truths(sipp.messages(folder, name)) for name in NUMBERS}
    for operator in (access, egress):
        operator.sell(to={"acme": ("--ip", CALLERS)}, buy_of=("--ip", CALLED))
        operator.run("collect", "--once")
    return Made(truths, access.cdrs(), egress.cdrs())


def test_radius_of_the_first_and_sql_of_the_second_are_one_cdr(made: Made) -> None:
    [truth] = made.truths["plain"]
    [row] = [row for row in made.both_access if row["call_id"] == truth.call_id]
    assert (row["source"], row["stop_cause"], row["released_by"]) == ("plain", "bye", "caller")
    _check(row, truth, 1_100)


def test_an_outer_leg_of_the_same_call_id_charges_no_account_again(made: Made) -> None:
    [truth] = made.truths["plain"]
    [row] = [row for row in made.outer_egress if row["call_id"] == truth.call_id]
    assert row["source"] == "plain"
    _check(row, truth, 250)


def test_an_outer_leg_of_another_call_id_only_buys(made: Made) -> None:
    [truth] = made.truths["hidden"]
    [sold] = [row for row in made.outer_egress if row["call_id"] == truth.call_id]
    [bought] = [
        row for row in made.outer_egress if row["from_tag"] == truth.from_tag and row["call_id"] != truth.call_id
    ]
    _check(sold, truth, 250)
    assert (sold["source"], sold["carrier"]) == ("hiding", "")
    assert (bought["source"], bought["account"], bought["price"], bought["carrier"]) == ("outer", "", "", "trunk")
    assert float(bought["cost"]) == pytest.approx(-(-int(bought["duration_ms"]) // 1_000) * PRICE_PER_S)


def test_a_call_id_used_again_after_the_gap_is_another_call(made: Made) -> None:
    first, second = made.truths["reused"]
    rows = [row for row in made.both_access if row["call_id"] == first.call_id]
    assert (first.call_id, first.from_tag) == (second.call_id, second.from_tag)
    assert [row["to_tag"] for row in sorted(rows, key=lambda row: row["answered_at"])] == [first.to_tag, second.to_tag]
    for row, truth in zip(sorted(rows, key=lambda row: row["answered_at"]), (first, second), strict=True):
        _check(row, truth, 1_100)


def test_a_call_id_used_again_within_the_gap_is_the_same_call_and_the_longest_counts(made: Made) -> None:
    truths = made.truths["reused"]
    [row] = [row for row in made.outer_egress if row["call_id"] == truths[0].call_id]
    [truth] = [truth for truth in truths if truth.to_tag == row["to_tag"]]
    _check(row, truth, 250)


def _check(row: dict[str, str], truth: Truth, within_ms: int) -> None:
    assert (row["account"], row["exception"], row["to_tag"]) == ("acme", "", truth.to_tag)
    assert truth.duration_ms is not None
    assert abs(int(row["duration_ms"]) - truth.duration_ms) <= within_ms
    assert float(row["price"]) == pytest.approx(-(-int(row["duration_ms"]) // 1_000) * PRICE_PER_S)


def _call(folder: Path, access: Operator, egress: Operator, databases: tuple[URL, URL, URL]) -> None:
    plain, hiding, outer = ((host, free_port()) for host in (PLAIN, HIDING, OUTER))
    called = (CALLED, free_port())
    with ExitStack() as stack:
        for name, at, reports_to, place, database, modules in (
            ("plain-proxy", plain, access, outer, databases[0], ""),
            ("hiding-proxy", hiding, access, outer, databases[1], HIDES),
            ("outer-proxy", outer, egress, called, databases[2], ""),
        ):
            places = {number: to(place) for number in NUMBERS.values()}
            if at == plain:
                places[NUMBERS["reused"]] = to(called)
            stack.enter_context(kamailio(folder / name, at, reports_to.address, places, database, modules=modules))
        stack.enter_context(sipp.answering("uas_answers", folder, called, "-d", "500", "-deadcall_wait", "0"))
        again = ("-cid_str", "again@lab.example", "-l", "1", "-r", "1", "-rp", str(BETWEEN_MS), "-deadcall_wait", "0")
        processes = {}
        for name, proxy, options in (("plain", plain, ()), ("hidden", hiding, ()), ("reused", plain, again)):
            processes[name] = sipp.calling(
                "uac_hangs_up", folder, name, proxy, CALLERS, "-s", NUMBERS[name], "-key", "caller", name, "-d", "2000",
                *options, calls=2 if name == "reused" else 1,
            )  # fmt: skip
            stack.callback(processes[name].wait)
            stack.callback(processes[name].kill)
        for name, process in processes.items():
            sipp.done(process, folder, name)


def _client(name: str, address: str, more: str = "") -> str:
    changes = {"192.0.2.11": address, "proxy-2": name, "country": f"{more}\ncountry"}
    return block("kamailio", "[[clients]]", changes)


def _collector(name: str, address: str, database: URL, more: str = "") -> str:
    changes = {
        "192.0.2.11": address,
        "mysql://tollbook:secret@192.0.2.30/kamailio": database.render_as_string(hide_password=False),
        "proxy-2-acc": name,
        "Europe/Berlin": ZONE,
        "country": f"{more}\ncountry",
    }
    return block("kamailio", 'name = "proxy-2-acc"', changes)
