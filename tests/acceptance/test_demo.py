"""`tollbook demo` as a newcomer runs it: what it leaves behind, that its figures agree, and that it may be repeated."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from accounting.base.clock import parse_instant, to_us
from accounting.sample import LOST_BYE, LOST_START, UNRATED, day_of_calls
from reports.demo import SEED, TOPUPS

CALLS = 150


def tollbook(folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tollbook", *words],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip


def said(folder: Path, *words: str) -> Any:
    """Return what a command on the demo's settings prints as JSON."""
    done = tollbook(folder, *words, "--json", "--config", "demo-output/tollbook.toml")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def count(text: str, name: str) -> int:
    """Return the figure behind a name in the summary."""
    [found] = re.findall(rf" {name} +([\d,]+)(?= )", text)
    return int(str(found).replace(",", ""))


def figures(text: str, name: str) -> list[str]:
    """Return the words behind a name at the beginning of a line of the summary."""
    [line] = [line for line in text.splitlines() if line.strip().startswith(f"{name} ")]
    return line.strip().removeprefix(name).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a demo has been run, its output in shown.txt."""
    place = tmp_path_factory.mktemp("demo")
    elsewhere = f"sqlite:///{place}/elsewhere.db"
    done = tollbook(place, "demo", "--calls", str(CALLS), TOLLBOOK_DATABASE__URL=elsewhere, COLUMNS="100")
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "shown.txt").write_text(done.stdout)
    return place


def test_leaves_settings_database_csv_and_report(folder: Path) -> None:
    names = {path.name for path in (folder / "demo-output").iterdir()}
    assert {"tollbook.toml", "tollbook.db", "tollbook-journal.db", "cdrs.csv", "charges.csv", "retail.csv"} <= names
    [page] = (folder / "demo-output" / "reports").glob("*/index.html")
    assert f"demo-output/reports/{page.parent.name}/index.html" in (folder / "shown.txt").read_text()


def test_touches_no_other_database(folder: Path) -> None:
    assert not (folder / "elsewhere.db").exists()


def test_every_sent_call_is_a_cdr_once(folder: Path) -> None:
    cdrs = rows(folder / "demo-output" / "cdrs.csv")
    [page] = (folder / "demo-output" / "reports").glob("*/index.html")
    start_s = to_us(parse_instant(f"{page.parent.name}T00:00:00Z")) // 10**6
    kinds = day_of_calls(start_s, CALLS, SEED).kinds
    assert len(cdrs) == len({row["call_id"] for row in cdrs}) == CALLS - kinds[LOST_START]
    assert {row["ended_at"][:10] for row in cdrs} <= {page.parent.name, ""}
    dispositions = Counter(row["disposition"] for row in cdrs)
    assert dispositions["busy"] == kinds["busy"]
    assert dispositions["cancelled"] == kinds["cancelled"] + kinds["incoming, cancelled"]
    assert dispositions["no_answer"] == kinds["not answered"]
    assert sum("no_stop" in row["exception"] for row in cdrs) == kinds[LOST_BYE]
    assert sum(bool(row["forwarded_by"]) for row in cdrs) == kinds["forwarded"]
    assert Counter(row["direction"] for row in cdrs)["on_net"] == kinds["between customers"]
    unrated = [row["called_number"] for row in cdrs if row["rating"] == "unrated" and row["account"]]
    assert len(unrated) == kinds["unrated number"]
    assert all(number.startswith(f"+{UNRATED[:8]}") for number in unrated)
    assert sum(not row["account"] for row in cdrs) == kinds["unknown caller"]


def test_summary_says_what_csv_and_balances_say(folder: Path) -> None:
    text = (folder / "shown.txt").read_text()
    cdrs, charges = rows(folder / "demo-output" / "cdrs.csv"), rows(folder / "demo-output" / "charges.csv")
    assert count(text, "CDRs") == len(cdrs)
    assert count(text, "rated") == sum(row["rating"] == "rated" for row in cdrs)
    assert count(text, "busy") == sum(row["disposition"] == "busy" for row in cdrs)
    for account in said(folder, "account", "list"):
        name = account["name"]
        own = [Decimal(row["amount"]) for row in charges if row["account"] == name]
        assert all(row["party"] in ("account", "forwarder") for row in charges if row["account"] == name)
        assert Decimal(account["balance"]) == Decimal(TOPUPS.get(name, "0")) - sum(own)
        calls, _, charged, balance, available, currency = figures(text, f"{name}, {account['payment']}")
        assert calls == str(sum(row["account"] == name for row in cdrs))
        assert Decimal(charged) == sum(own)
        assert (Decimal(balance), Decimal(available)) == (Decimal(account["balance"]), Decimal(account["available"]))
        assert currency == "EUR"
    for carrier in said(folder, "carrier", "list"):
        cost = sum(Decimal(row["amount"]) for row in charges if row["account"] == carrier["name"])
        assert Decimal(carrier["balance"]) == cost > 0


def test_requests_are_counted_through(folder: Path) -> None:
    text = (folder / "shown.txt").read_text()
    requests = count(text, "requests sent")
    assert requests == count(text, "reports of the proxy") + count(text, r"the same once more \(failover\)")
    assert requests == count(text, "stored and processed")
    verified = said(folder, "verify")
    assert (verified["events"], verified["differences"]) == (requests, [])


def test_what_it_proposes_next_works(tmp_path: Path) -> None:
    steps = tollbook(tmp_path, "demo", "--calls", str(CALLS)).stdout.partition("What to try next")[2]
    commands = [line.partition("tollbook ")[2] for line in steps.splitlines() if "--config" in line]
    assert len(commands) == 7
    for command in commands:
        if not command.startswith("serve "):
            done = subprocess.run(
                f"{sys.executable} -m tollbook {command}",
                cwd=tmp_path, shell=True, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}: {done.stderr}"
    assert {one["reason"] for one in said(tmp_path, "exceptions", "list")} <= {
        "stop_without_start",
        "no_stop",
        "unrated:account_unknown",
    }
    assert said(tmp_path, "verify")["differences"] == []


def test_a_later_run_leaves_files_of_others_alone(folder: Path) -> None:
    output = folder / "demo-output"
    mine, stale = output / "my-notes.txt", output / "reports" / "2020-01-01" / "index.html"
    mine.write_text("mine")
    stale.parent.mkdir()
    stale.write_text("made by an earlier run")
    marker = output / ".made-by-tollbook-demo"
    marker.write_text(json.dumps([*json.loads(marker.read_text()), "reports/2020-01-01/index.html"]))
    before = rows(output / "cdrs.csv")
    done = tollbook(folder, "demo", "--calls", str(CALLS))
    assert done.returncode == 0, done.stderr
    assert mine.read_text() == "mine"
    assert not stale.parent.exists()
    assert [row["call_id"] for row in rows(output / "cdrs.csv")] == [row["call_id"] for row in before]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo-output").mkdir()
    (tmp_path / "demo-output" / "tollbook.db").write_text("mine")
    done = tollbook(tmp_path, "demo")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == (
        "tollbook: demo-output is there and was not made by a demo; rename it, or choose another with --out"
    )
    assert (tmp_path / "demo-output" / "tollbook.db").read_text() == "mine"


def test_an_interrupt_stops_what_was_started(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "tollbook", "demo"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert demo.stdout is not None
    for line in demo.stdout:
        if "it logs to" in line:  # serve listens
            break
    demo.send_signal(signal.SIGINT)
    _, complaints = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "Traceback" not in complaints
    settings = tomllib.loads((tmp_path / "demo-output" / "tollbook.toml").read_text())
    host, _, port = settings["receiver"]["listen"][0].rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, int(port)))  # the receiver is gone
