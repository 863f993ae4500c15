"""A real Kamailio, configured as docs/howto/kamailio.md shows, reports SIPp's calls; each CDR is what SIPp did.

All calls run at once, against one proxy and one Tollbook. Each calls a number of its own, by which the proxy finds
the called parties.
"""

import csv
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copy
from typing import NamedTuple

import pytest

from accounting.base.clock import parse_instant
from tests.support import sipp
from tests.support.daemon import listens, running
from tests.support.howto import block
from tests.support.kamailio import kamailio, to
from tests.support.load import free_port
from tests.support.sipp import Truth

PROXY, CALLERS, CALLED = "127.0.2.1", "127.0.2.2", "127.0.2.3"
DECK = "prefix,destination,rate\n49,Germany,0.06\n"
PRICE_PER_S = 0.001
DURATION_MS_MAX = 1_100  # Kamailio tells times in whole seconds

PARTIES = {
    "answers": ("uas_answers", "-d", "500"),
    "hangs_up": ("uas_hangs_up", "-d", "2000"),
    "busy": ("uas_busy",),
    "absent": ("uas_absent",),
    "rings": ("uas_rings",),
}

NOT_ANSWERED = {"answered_at": "", "duration_ms": "0", "stop_cause": "", "released_by": "unknown"}


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
    "bye_is_lost": Call("uac_vanishes", (), ("answers",), {"stop_cause": "max_age", "released_by": "system"}),
}
NUMBERS = {name: f"+49301234560{number:02}" for number, name in enumerate(CALLS)}
FORWARDED_TO = "+4930999999"


class Outcome(NamedTuple):
    """What SIPp saw of a call, and Tollbook's rows of it."""

    truth: Truth
    rows: list[dict[str, str]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> dict[str, Outcome]:
    """Run all calls; return what became of each."""
    folder = tmp_path_factory.mktemp("kamailio")
    config = _configure(folder, sqlite_template, port := free_port())
    with _receiving(config, folder, port):
        _run_calls(folder, port)
    tollbook("process", *config, "--now", "2038-01-01T00:00:00Z")
    tollbook("verify", *config)
    tollbook("export", "cdrs", *config, "--out", str(folder / "cdrs.csv"))
    with (folder / "cdrs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    result = {}
    for name in CALLS:
        [truth] = sipp.truths(sipp.messages(folder, name))
        result[name] = Outcome(truth, [row for row in rows if row["call_id"] == truth.call_id])
    assert sum(len(outcome.rows) for outcome in result.values()) == len(rows), "CDRs of calls that nobody made"
    return result


@pytest.mark.parametrize("name", CALLS)
def test_a_call_becomes_the_cdr_of_what_happened(outcomes: dict[str, Outcome], name: str) -> None:
    truth, rows = outcomes[name]
    [row] = rows
    wanted = {
        "source": "proxy-2",
        "source_ip": CALLERS,
        "caller": name,
        "called": NUMBERS[name],
        "called_number": NUMBERS[name],
        "from_tag": truth.from_tag,
        "sip_code": str(truth.code),
        **(_answered(truth) if truth.answered_s else NOT_ANSWERED),
        **CALLS[name].cdr,
    }
    assert {key: row[key] for key in wanted} == wanted
    if truth.answered_s:
        assert abs(parse_instant(row["answered_at"]).timestamp() - truth.answered_s) <= 1.1
    if truth.duration_ms is not None:
        assert abs(int(row["duration_ms"]) - truth.duration_ms) <= DURATION_MS_MAX
        assert row["rating"] == "rated"
        if row["direction"] == "outbound":
            assert float(row["price"]) == int(row["duration_ms"]) / 1_000 * PRICE_PER_S


def _answered(truth: Truth) -> dict[str, str]:
    ended = truth.duration_ms is not None
    return {
        "disposition": "answered",
        "to_tag": truth.to_tag,
        "stop_cause": "bye" if ended else "max_age",
        "released_by": truth.released_by,
        "exception": "" if ended else "no_stop",
    }


@contextmanager
def _receiving(config: tuple[str, str], folder: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tollbook", "receive", *config]
    with running(command, folder / "receive.log", lambda: listens(("127.0.0.1", port))):
        yield


def _configure(folder: Path, template: Path, port: int) -> tuple[str, str]:
    for name in ("tollbook.db", "tollbook-journal.db"):
        copy(template / name, folder / name)
    client = block("kamailio", "[[clients]]", {"192.0.2.11": PROXY})
    path = folder / "tollbook.toml"
    path.write_text(f'[database]\nurl = "sqlite:///tollbook.db"\n[receiver]\nlisten = ["127.0.0.1:{port}"]\n{client}')
    config = ("--config", str(path))
    (folder / "deck.csv").write_text(DECK)
    tollbook("rates", "load", str(folder / "deck.csv"), "--deck", "retail", "--currency", "EUR", *config)
    tollbook("account", "add", "acme", "--currency", "EUR", "--deck", "retail", *config)
    tollbook("account", "identify", "acme", "--ip", CALLERS, *config)
    tollbook("account", "add", "chief", "--currency", "EUR", "--deck", "retail", *config)
    tollbook("account", "identify", "chief", "--did", NUMBERS["forwarded"], *config)
    return config


def _run_calls(folder: Path, port: int) -> None:
    parties = {name: (CALLED, free_port()) for name in PARTIES}
    proxy = (PROXY, free_port())
    places = {NUMBERS[name]: _place(call, parties) for name, call in CALLS.items() if call.reaches}
    places[FORWARDED_TO] = to(parties["answers"])
    with ExitStack() as stack:
        stack.enter_context(kamailio(folder / "proxy", proxy, ("127.0.0.1", port), places))
        for name, (scenario, *options) in PARTIES.items():
            stack.enter_context(sipp.answering(scenario, folder, parties[name], *options))
        running_calls = {
            name: sipp.calling(
                call.scenario, folder, name, proxy, CALLERS, "-s", NUMBERS[name], "-key", "caller", name, *call.options
            )
            for name, call in CALLS.items()
        }
        for name, process in running_calls.items():
            sipp.done(process, folder, name)


def _place(call: Call, parties: dict[str, tuple[str, int]]) -> str:
    if call.reaches == ("forward",):
        return f'$avp(forward) = "{FORWARDED_TO}"; route(FORWARD);'
    addresses = [parties[name.lstrip("&")] for name in call.reaches]
    return to(*addresses, forked=any(name.startswith("&") for name in call.reaches))


def tollbook(*words: str) -> None:
    """Run a command; fail if it fails."""
    done = subprocess.run([sys.executable, "-m", "tollbook", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
