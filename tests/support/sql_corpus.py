"""Captured calls as their proxies wrote them into SQL: loaded into MariaDB, collected, and held against what was true.

`python -m tests.support.sql_corpus CORPUS_DIR` does so for any corpus of PROXY/SCENARIO/{sql.json,truth.json}.
"""

import csv
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from json import loads
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from accounting.db.engine import upgrade_database
from accounting.sources.uri import user_part
from cdr.pairing import disposition_of
from tests.support.mariadb import Server, server
from tests.support.proxy_tables import create_tables, extras_of, load_rows, read_sql
from tollbook import app

ZONES = ("UTC", "Asia/Kolkata")
TABLES = ("acc", "missed_calls")
Rows = Sequence[Mapping[str, Any]]


class Scenario(NamedTuple):
    """One scenario of one proxy."""

    proxy: str
    name: str
    tables: dict[str, list[dict[str, Any]]]
    calls: tuple[dict[str, Any], ...]

    @property
    def flavour(self) -> str:
        return self.proxy.partition("-")[0]

    def rows_of(self, call_id: str) -> list[dict[str, Any]]:
        return [row for table in TABLES for row in self.tables.get(table, ()) if row["callid"] == call_id]


def scenarios(corpus: Path) -> dict[str, list[Scenario]]:
    """Return the scenarios of each proxy that wrote SQL."""
    found: dict[str, list[Scenario]] = {}
    for path in sorted(corpus.glob("*/*/sql.json")):
        truth = loads((path.parent / "truth.json").read_text("utf-8"))
        scenario = Scenario(path.parent.parent.name, path.parent.name, read_sql(path), tuple(truth["calls"]))
        found.setdefault(scenario.proxy, []).append(scenario)
    return found


def zone_of(some: Sequence[Scenario]) -> str:
    """Return the zone in which a proxy's local times come closest to the truth."""
    offsets = []
    for scenario in some:
        for call in scenario.calls:
            for row in scenario.rows_of(call["call_id"])[:1]:
                local = datetime.fromisoformat(row["time"])
                offsets.append(local.replace(tzinfo=UTC) - datetime.fromtimestamp(call["start_epoch"], UTC))
    usual = sorted(offsets)[len(offsets) // 2]
    when = datetime.fromtimestamp(some[0].calls[0]["start_epoch"], UTC)
    return min(ZONES, key=lambda zone: abs((when.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()) - usual))


def load_proxy(mariadb: Server, some: Sequence[Scenario]) -> str:
    """Return the URL of a new database with a proxy's own tables and all rows of its scenarios."""
    url = mariadb.create()
    engine = create_engine(make_url(url).set(drivername="mysql+mysqldb"))
    flavour = some[0].flavour
    with engine.begin() as conn:
        create_tables(conn, flavour, extras_of(flavour, [scenario.tables for scenario in some]))
        for scenario in some:
            for table, rows in scenario.tables.items():
                load_rows(conn, table, rows)
    engine.dispose()
    return url


def collector(name: str, url: str, flavour: str, zone: str, more: str = "") -> str:
    """Return a collector's settings as TOML."""
    return (
        f'[[collectors]]\nname = "{name}"\nurl = "{url}"\nflavour = "{flavour}"\nstart = "all"\ntimezone = "{zone}"\n'
        'own_addresses = ["127.0.0.1"]\n'
        'columns = { caller = "from_uri", called = "orig_ruri", translated = "ruri", source_ip = "src_ip" }\n' + more
    )


def tollbook(config: Path, *words: str) -> str:
    """Run a command in this process; return its output."""
    result = CliRunner().invoke(app, [*words, "--config", str(config)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, f"tollbook {' '.join(words)}: {result.output}"
    return result.output


def cdrs_of(config: Path, now: datetime) -> list[dict[str, str]]:
    """Process, verify and export; return the CDRs."""
    tollbook(config, "process", "--now", now.isoformat())
    tollbook(config, "verify")
    out = config.parent / "cdrs.csv"
    tollbook(config, "export", "cdrs", "--out", str(out))
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def latest(some: Sequence[Scenario]) -> datetime:
    """Return two days after the last call."""
    start = max(call["start_epoch"] for scenario in some for call in scenario.calls)
    return datetime.fromtimestamp(start + 2 * 86_400, UTC)


def problems(some: Sequence[Scenario], rows: Sequence[dict[str, str]]) -> list[str]:
    """Return what is wrong with one proxy's CDRs, with the strictness of the check of RADIUS captures."""
    by_call: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_call.setdefault(row["call_id"], []).append(row)
    found = []
    for scenario in some:
        for call in scenario.calls:
            mine = by_call.pop(call["call_id"], [])
            said = scenario.rows_of(call["call_id"])
            wrong = _count(call, mine, said) or (_wrong(scenario, call, mine[0], said) if mine else [])
            found += [f"{scenario.proxy}/{scenario.name} {call['call_id'][:40]}: {text}" for text in wrong]
    return found + [f"{some[0].proxy}: a CDR of a call that nobody made: {call_id}" for call_id in by_call]


def _count(call: dict[str, Any], mine: Sequence[dict[str, str]], said: Rows) -> list[str]:
    wanted = 1 if said and call["method"] == "INVITE" else 0
    return [f"{len(mine)} CDRs, expected {wanted}"] if len(mine) != wanted else []


def _wrong(scenario: Scenario, call: dict[str, Any], row: dict[str, str], said: Rows) -> list[str]:
    found = []

    def expect(name: str, allowed: Sequence[str]) -> None:
        if row[name] not in allowed:
            found.append(f"{name} is {row[name]!r}, expected {' or '.join(allowed)}")

    expect("caller", [user_part(call["caller"])])
    expect("called", [user_part(call["callee"]), user_part(call["request_uri"])])
    if not call["answered"]:
        codes = {str(call["final_code"])} | {str(leg.get("final_code")) for leg in call.get("leg_list", [])}
        expect("disposition", [disposition_of(call["final_code"])])
        expect("sip_code", sorted(codes))
        expect("duration_ms", ["0"])
        return found
    expect("disposition", ["answered"])
    is_complete = any(line.get("ms_duration") for line in said)
    if call["billable_ms"] is None or not (is_complete or any(line["method"] == "BYE" for line in said)):
        expect("stop_cause", ["max_age"])
        expect("exception", ["no_stop"])
        return found
    expect("stop_cause", ["complete"] if is_complete else ["bye"])
    exact = is_complete or any(line.get("time_attr") for line in said)
    tolerance = (60 if exact else 1_100) + (3_500 if 408 in call["bye_codes"] else 0)
    if abs(int(row["duration_ms"]) - call["billable_ms"]) > tolerance:
        found.append(f"duration_ms is {row['duration_ms']}, the call lasted {call['billable_ms']}")
    swapped = not scenario.proxy.endswith("-dd1")
    by = call["released_by"]
    if by in ("caller", "callee") and call["byes_on_the_wire_to_proxy"] == 1 and swapped and not is_complete:
        expect("released_by", [by])
    answered = datetime.fromisoformat(row["answered_at"]).timestamp()
    if abs(answered - call["answer_epoch"]) > 1.5:
        found.append(f"answered_at is {row['answered_at']}, truth {call['answer']}")
    return found


def check_proxy(mariadb: Server, some: Sequence[Scenario], folder: Path, database: str, *, twice: bool) -> list[str]:
    """Return what is wrong with one proxy's calls; `twice`: the rows are collected a second time, as after TRUNCATE."""
    config = folder / "tollbook.toml"
    proxy = some[0].proxy
    url = load_proxy(mariadb, some)
    text = f'[database]\nurl = "{database}"\n' + collector(proxy, url, some[0].flavour, zone_of(some))
    config.write_text(text + (collector(f"{proxy}-again", url, some[0].flavour, zone_of(some)) if twice else ""))
    tollbook(config, "collect", "--once")
    found = problems(some, cdrs_of(config, latest(some)))
    mariadb.drop(url)
    return found


def main(corpus: Path) -> int:
    """Check a whole corpus; print what is wrong and return how many scenarios' proxies failed."""
    failed = 0
    with server() as mariadb:
        for proxy, some in scenarios(corpus).items():
            with tempfile.TemporaryDirectory() as name:
                database = f"sqlite:///{name}/tollbook.db"
                upgrade_database(database)
                found = check_proxy(mariadb, some, Path(name), database, twice=False)
            sys.stdout.write("".join(f"FAIL {line}\n" for line in found) + f"{proxy}: {len(some)} scenarios\n")
            failed += bool(found)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
