"""A real rtpengine relays the sound of SIPp's calls and tells, by way of an rsyslog, when it ended.

A real Kamailio uses it, as docs/howto/rtpengine.md shows, and reports the calls by RADIUS and in its table acc_cdrs.
One Tollbook hears RADIUS and gets rtpengine's lines over UDP; the other reads acc_cdrs, and a file with the same lines.
"""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import URL, create_engine, make_url

from accounting.base.clock import parse_instant
from tests.support import sipp
from tests.support.daemon import wait_until
from tests.support.howto import block
from tests.support.kamailio import ZONE, kamailio, make_tables, to
from tests.support.load import free_port
from tests.support.mariadb import Server
from tests.support.operator import PRICE_PER_S, Operator
from tests.support.rtpengine import SILENCE_S, rtpengine
from tests.support.sipp import Truth

PROXY, CALLERS, CALLED = "127.0.5.1", "127.0.5.2", "127.0.5.3"
SOUND_S = 2
PACKET_S = 0.02
DIALOG_TIMEOUT_S = 14
LINES_S = SILENCE_S + 20
"""How long the last CDR line may take."""
PAIRING = "[pairing]\nmedia_gap_s = 5\n"
LATE_S = 3
"""SIPp may be late with the sound; rtpengine dates where its last packet begins, in whole seconds, so up to 1 early."""
CALLS = {
    "hangs_up": ("uac_hangs_up", "-d", "1000"),
    "bye_is_lost": ("uac_vanishes",),
    "died_long_before_the_bye": ("uac_hears_bye",),
}
DEAD = ("bye_is_lost", "died_long_before_the_bye")
NUMBERS = {name: f"+49301234570{number:02}" for number, name in enumerate(CALLS)}


class Made(NamedTuple):
    """The calls were made: what SIPp saw, and the two Tollbooks, of which the second has read nothing yet."""

    truths: dict[str, Truth]
    radius: Operator
    tables: Operator


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, mariadb_server: Server) -> Made:
    """Make all calls."""
    folder = tmp_path_factory.mktemp("rtpengine")
    database = make_url(mariadb_server.create())
    make_tables(database)
    with ExitStack() as stack:
        relay = stack.enter_context(rtpengine(folder / "relay"))
        udp = f"{relay.udp[0]}:{relay.udp[1]}"
        listener = block("rtpengine", 'listen = "192', {"192.0.2.20:5514": udp, "192.0.2.30": "127.0.0.1"})
        follower = block("rtpengine", 'file = "/var', {"/var/log/rtpengine-cdr.log": str(relay.file)})
        radius = Operator(folder / "radius", sqlite_template, PAIRING + _client() + listener)
        tables = Operator(folder / "tables", sqlite_template, PAIRING + _collector(database) + follower)
        stack.enter_context(radius.receiving())
        stack.enter_context(radius.following_media())
        called, proxy = (CALLED, free_port()), (PROXY, free_port())
        places = {number: to(called) for number in NUMBERS.values()}
        modules = f'{relay.modules}modparam("dialog", "default_timeout", {DIALOG_TIMEOUT_S})\n'
        stack.enter_context(
            kamailio(folder / "proxy", proxy, radius.address, places, database, modules=modules, media=relay.media)
        )
        stack.enter_context(sipp.answering("uas_answers", folder, called, "-d", "500", "-rtp_echo"))
        _call(stack, folder, proxy)
        wait_until(lambda: _written(database) == len(CALLS), "the proxy has written acc_cdrs", LINES_S)
        wait_until(lambda: radius.stored(" ci=") == len(CALLS), "rtpengine's lines are stored", LINES_S)
    truths = {name: sipp.truths(sipp.messages(folder, name))[0] for name in CALLS}
    for operator in (radius, tables):
        operator.sell(to={"acme": ("--ip", CALLERS)}, buy_of=("--ip", CALLED))
    return Made(truths, radius, tables)


@pytest.fixture(scope="module")
def by_radius(made: Made) -> dict[str, dict[str, str]]:
    """Return what RADIUS and the lines make of the calls."""
    return _rows(made.radius, made.truths)


def test_a_bye_ends_the_call_that_the_relay_saw_too(made: Made, by_radius: dict[str, dict[str, str]]) -> None:
    row, truth = by_radius["hangs_up"], made.truths["hangs_up"]
    assert (row["stop_cause"], row["released_by"], row["exception"]) == ("bye", "caller", "")
    assert truth.duration_ms is not None
    assert abs(int(row["duration_ms"]) - truth.duration_ms) <= 1_100
    _check_price(row)


@pytest.mark.parametrize("name", DEAD)
def test_a_call_without_bye_ends_with_its_last_packet(
    made: Made, by_radius: dict[str, dict[str, str]], name: str
) -> None:
    """Of the second one too RADIUS brings no BYE: Kamailio does not report those that it sends itself."""
    row = by_radius[name]
    assert (row["stop_cause"], row["released_by"], row["exception"]) == ("media", "system", "")
    _check_end(row, made.truths[name])
    _check_price(row)


def test_dead_hours_are_taken_back_when_the_relay_tells_of_them(made: Made) -> None:
    """Both calls reached the dialog's timeout, and were charged by the proxy's BYE, before the lines are read."""
    operator = made.tables
    operator.run("collect", "--once")
    before = _rows(operator, made.truths)
    assert before.keys() == CALLS.keys()
    for name in DEAD:
        assert before[name]["stop_cause"] == "complete"
        assert int(before[name]["duration_ms"]) == pytest.approx(DIALOG_TIMEOUT_S * 1_000, abs=LATE_S * 1_000)
        _check_price(before[name])

    with operator.following_media():
        wait_until(lambda: operator.stored(" ci=") == len(CALLS), "rtpengine's lines are stored", LINES_S)
    after = _rows(operator, made.truths)
    assert after["hangs_up"] == before["hangs_up"]
    for name in DEAD:
        row = after[name]
        assert (row["stop_cause"], row["released_by"], row["revision"]) == ("media", "system", "2")
        _check_end(row, made.truths[name])
        _check_price(row)
    left = json.loads(operator.run("account", "show", "acme", "--json"))["balance"]
    assert float(left) == pytest.approx(-sum(float(row["price"]) for row in after.values()))


def _check_end(row: dict[str, str], truth: Truth) -> None:
    """See that a call ended with its sound, not with rtpengine's timeout."""
    assert truth.answered_s is not None
    sounded_s = parse_instant(row["ended_at"]).timestamp() - truth.answered_s
    assert -1 - PACKET_S <= sounded_s - SOUND_S <= LATE_S < SILENCE_S
    lasted_ms = 1_000 * (parse_instant(row["ended_at"]).timestamp() - parse_instant(row["answered_at"]).timestamp())
    assert int(row["duration_ms"]) == pytest.approx(lasted_ms)


def _check_price(row: dict[str, str]) -> None:
    price = -(-int(row["duration_ms"]) // 1_000) * PRICE_PER_S
    assert (float(row["price"]), float(row["cost"])) == pytest.approx((price, price))


def _rows(operator: Operator, truths: dict[str, Truth]) -> dict[str, dict[str, str]]:
    names = {(truth.call_id, truth.from_tag): name for name, truth in truths.items()}
    rows = operator.cdrs()
    found = {names[row["call_id"], row["from_tag"]]: row for row in rows}
    assert len(found) == len(rows), "two CDRs of one call"
    return found


def _written(database: URL) -> int:
    """Return how many rows the proxy has written at the end of a call."""
    engine = create_engine(database.set(drivername="mysql+mysqldb"))
    with engine.connect() as conn:
        count = conn.exec_driver_sql("SELECT count(*) FROM acc_cdrs").scalar_one()
    engine.dispose()
    return int(count)


def _call(stack: ExitStack, folder: Path, proxy: tuple[str, int]) -> None:
    calls: dict[str, subprocess.Popen[bytes]] = {}
    for name, (scenario, *options) in CALLS.items():
        heard = sipp.with_sound(scenario, folder, SOUND_S)
        calls[name] = sipp.calling(
            heard, folder, name, proxy, CALLERS, "-s", NUMBERS[name], "-key", "caller", name, *options
        )
        stack.callback(calls[name].wait)
        stack.callback(calls[name].kill)
    for name, process in calls.items():
        sipp.done(process, folder, name)


def _client() -> str:
    return block("kamailio", "[[clients]]", {"192.0.2.11": PROXY})


def _collector(database: URL) -> str:
    changes = {
        "192.0.2.11": PROXY,
        "mysql://tollbook:secret@192.0.2.30/kamailio": database.render_as_string(hide_password=False),
        "Europe/Berlin": ZONE,
    }
    return block("kamailio", 'name = "proxy-2-cdrs"', changes)
