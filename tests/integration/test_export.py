"""CSV exports on real databases: what is in them, and what happens to the file."""

import csv
import io
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from accounting.base.errors import TollbookError
from accounting.db.engine import Database
from cdr.store.tables import cdr
from reports.export import CDR_COLUMNS, CHARGE_COLUMNS, Choice, export_cdrs, export_charges
from reports.files import replacing
from reports.frames import stream_rows
from tests.support.cdrs import NOON, TELCO, add_accounts, add_cdr, add_charge, add_entry, unanswered
from tests.support.lab import settings
from tollbook import app

CONTRACT = (
    "cdr_id", "revision", "call_id", "from_tag", "to_tag", "source", "direction", "account", "caller", "called",
    "caller_number", "called_number", "source_ip", "destination_ip", "started_at", "answered_at", "ended_at",
    "setup_ms", "duration_ms", "billed_s", "disposition", "sip_code", "stop_cause", "released_by", "forwarded_by",
    "rating", "destination", "prefix", "price", "currency", "carrier", "cost", "cost_currency", "exception",
)  # fmt: skip
MS = timedelta(milliseconds=1)


@pytest.fixture
def filled(database: Database) -> Database:
    with database.write() as conn:
        add_accounts(conn)
    return database


def rows_of(database: Database, export: Any = export_cdrs, **choice: Any) -> list[dict[str, str]]:
    file = io.BytesIO()
    with database.read() as conn:
        count = export(conn, Choice(**choice), file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))
    assert count == len(rows)
    return rows


def ids(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["cdr_id"]) for row in rows]


def test_columns_are_the_contract_and_then_more(filled: Database) -> None:
    assert CDR_COLUMNS[: len(CONTRACT)] == CONTRACT
    file = io.BytesIO()
    with filled.read() as conn:
        assert export_cdrs(conn, Choice(), file) == 0
        assert export_charges(conn, Choice(), file) == 0
    assert file.getvalue().decode() == f"{','.join(CDR_COLUMNS)}\n{','.join(CHARGE_COLUMNS)}\n"


def test_every_cell(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(
            conn, 2**32 + 1, NOON + timedelta(microseconds=475_999), started_at=NOON, answered_at=NOON + 2 * MS,
            cost_micros=70_000, cost_decimals=2, cost_currency="USD", exception="two_sources;x", flags="multi_answer",
            forwarded_by="bob",
        )  # fmt: skip
    assert rows_of(filled) == [
        {
            "cdr_id": "4294967297", "revision": "1", "call_id": "call-4294967297", "from_tag": "a", "to_tag": "b",
            "source": "proxy-1", "direction": "outbound", "account": "acme", "caller": "alice", "called": "+4930123",
            "caller_number": "", "called_number": "+4930123", "source_ip": "192.0.2.1",
            "destination_ip": "198.51.100.1", "started_at": "2026-11-23T12:00:00.000Z",
            "answered_at": "2026-11-23T12:00:00.002Z", "ended_at": "2026-11-23T12:00:00.475Z", "setup_ms": "1500",
            "duration_ms": "60000", "billed_s": "60", "disposition": "answered", "sip_code": "200",
            "stop_cause": "bye", "released_by": "caller", "forwarded_by": "bob", "rating": "rated",
            "destination": "Germany", "prefix": "49", "price": "0.1200", "currency": "EUR", "carrier": "telco",
            "cost": "0.07", "cost_currency": "USD", "exception": "two_sources;x", "flags": "multi_answer",
            "rating_reason": "",
        }
    ]  # fmt: skip


def test_what_is_unknown_is_empty(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, started_at=None, ended_at=None, setup_ms=None, account_id=None, carrier_id=None, **(
            unanswered() | {"sip_code": None}
        ))  # fmt: skip
    [row] = rows_of(filled)
    empty = (
        "started_at", "answered_at", "ended_at", "setup_ms", "account", "carrier", "sip_code", "price", "billed_s",
        "cost",
    )  # fmt: skip
    assert [row[name] for name in empty] == [""] * len(empty)
    assert row["duration_ms"] == "0"


@pytest.mark.parametrize(
    ("micros", "decimals", "text"),
    [(0, 4, "0.0000"), (1, 6, "0.000001"), (1_230_000, 2, "1.23"), (5_000_000, 0, "5"), (999_999_999_999_990_000, 2,
     "999999999999.99"), (120_050, 2, "0.120050"), (10_500, 4, "0.0105")],
)  # fmt: skip
def test_price_has_the_decimals_of_its_deck(filled: Database, micros: int, decimals: int, text: str) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, price_micros=micros, price_decimals=decimals)
    assert rows_of(filled)[0]["price"] == text


def test_latest_revisions_in_the_order_of_their_ends(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, NOON + MS)
        add_cdr(conn, 3, NOON)
        add_cdr(conn, 2, NOON, superseded_at=NOON)
        add_cdr(conn, 2, NOON, revision=2)
        add_cdr(conn, 4, NOON, disposition="void")
    rows = rows_of(filled)
    assert [(row["cdr_id"], row["revision"]) for row in rows] == [("2", "2"), ("3", "1"), ("1", "1")]


def test_ends_are_chosen_half_open(filled: Database) -> None:
    with filled.write() as conn:
        for number in range(3):
            add_cdr(conn, number, NOON + number * MS)
    assert ids(rows_of(filled, closed_from=NOON, closed_to=NOON + 2 * MS)) == [0, 1]
    assert ids(rows_of(filled, closed_from=NOON + 2 * MS)) == [2]


def test_only_what_changed_since(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, made_at=NOON)
        add_cdr(conn, 2, made_at=NOON + MS)
        add_charge(conn, 1)
        add_charge(conn, 2)
    assert ids(rows_of(filled, changed_since=NOON + MS)) == [2]
    assert ids(rows_of(filled, export_charges, changed_since=NOON + MS)) == [2]


def test_only_one_account(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, account_id=2)
        add_cdr(conn, 2)
    assert [(row["cdr_id"], row["account"]) for row in rows_of(filled, account="beta, Ltd")] == [("1", "beta, Ltd")]
    with pytest.raises(TollbookError, match="no account 'nobody'"):
        rows_of(filled, account="nobody")


def test_hostile_text_stays_in_its_cell(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, caller='=HYPERLINK("http://x","y")', called="-1+1", destination="Bosnia, Mobile\x1f2",
                from_tag="-5", to_tag="+49", call_id="ü\U0001f600'%s")  # fmt: skip
    [row] = rows_of(filled)
    assert row["caller"] == '\'=HYPERLINK("http://x","y")'
    assert row["called"] == "'-1+1"
    assert row["destination"] == "Bosnia, Mobile 2"
    assert (row["from_tag"], row["to_tag"], row["call_id"]) == ("-5", "+49", "ü\U0001f600'%s")


def test_charges_and_their_reversals(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 7, superseded_at=NOON)
        add_cdr(conn, 7, revision=2)
        add_entry(conn)
        add_charge(conn, 7)
        add_charge(conn, 7, 2, 1, kind="reversal", reverses_revision=1, reverses_line=1)
        add_charge(conn, 7, 2, 2, party="carrier", account_id=TELCO, amount_micros=0, entry_id=None, currency="USD")
    rows = rows_of(filled, export_charges)
    assert rows[0] == {
        "cdr_id": "7", "revision": "1", "line": "1", "kind": "charge", "party": "account", "account": "acme",
        "number": "+4930123", "destination": "Germany", "prefix": "49", "deck": "retail", "deck_version": "1",
        "billed_s": "60", "amount": "0.1200", "currency": "EUR", "service_at": "2026-11-23T12:00:00.000Z",
        "period": "2026-11", "entry_id": "1", "posted_at": "2026-11-23T12:00:00.000Z", "call_id": "call-7",
        "reverses_revision": "", "reverses_line": "",
    }  # fmt: skip
    shown = ("line", "kind", "account", "amount", "entry_id", "posted_at", "reverses_revision", "reverses_line")
    assert [tuple(row[name] for name in shown) for row in rows[1:]] == [
        ("1", "reversal", "acme", "-0.1200", "1", "2026-11-23T12:00:00.000Z", "1", "1"),
        ("2", "charge", "telco", "0.0000", "", "", "", ""),
    ]
    assert [row["line"] for row in rows_of(filled, export_charges, account="telco")] == ["2"]


def test_charge_and_reversal_lie_in_one_period_of_ends(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, NOON, superseded_at=NOON)
        add_cdr(conn, 1, NOON + 5 * MS, revision=2)
        add_charge(conn, 1)
        add_charge(conn, 1, 2, kind="reversal", reverses_revision=1, reverses_line=1)
    assert len(rows_of(filled, export_charges, closed_from=NOON + 5 * MS)) == 2
    assert not rows_of(filled, export_charges, closed_to=NOON + 5 * MS)


def test_taken_back_call_keeps_its_charges_in_the_export(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1, superseded_at=NOON)
        add_cdr(conn, 1, revision=2, disposition="void")
        add_charge(conn, 1)
        add_charge(conn, 1, 2, kind="reversal", reverses_revision=1, reverses_line=1)
    assert rows_of(filled) == []
    assert [row["amount"] for row in rows_of(filled, export_charges)] == ["0.1200", "-0.1200"]


def test_rows_come_in_parts(filled: Database) -> None:
    with filled.write() as conn:
        for number in range(25):
            add_cdr(conn, number)
    with filled.read() as conn:
        parts = [len(part) for part in stream_rows(conn, cdr.select().order_by(cdr.c.id), 10)]
        assert parts == [10, 10, 5]


def test_failed_export_leaves_the_connection_usable(filled: Database) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell():
                raise OSError(28, "No space left on device")
            return super().write(data)

    with filled.write() as conn:
        for number in range(50):
            add_cdr(conn, number)
    with filled.read() as conn:
        with pytest.raises(OSError, match="No space"):
            export_cdrs(conn, Choice(), Full())
        assert export_cdrs(conn, Choice(), io.BytesIO()) == 50


# ---- the file ------------------------------------------------------------------------------------------------------


def test_file_is_replaced_only_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "cdrs.csv"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        _fail()
    assert (path.read_text(), names_in(tmp_path)) == ("old", ["cdrs.csv"])
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert (path.read_text(), names_in(tmp_path)) == ("new", ["cdrs.csv"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("real.csv")
    with replacing(tmp_path / "link.csv") as file:
        file.write(b"new")
    assert (tmp_path / "real.csv").read_text() == "new"
    assert (tmp_path / "link.csv").is_symlink()


@pytest.mark.parametrize(
    ("out", "words"),
    [("absent/cdrs.csv", "there is no folder"), (".", "is a folder"), ("file/cdrs.csv", "cannot write"),
     ("n" * 300, "cannot write")],
)  # fmt: skip
def test_what_cannot_be_written_is_told_in_one_line(tmp_path: Path, out: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TollbookError, match=words) as caught, replacing(tmp_path / out):
        pass
    assert "\n" not in str(caught.value)


def test_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "cdrs.csv"
    path.write_text("old")
    with pytest.raises(TollbookError, match=r"cannot write .*cdrs.csv: No space left"), replacing(path) as file:
        _fill_the_disk(file)
    assert path.read_text() == "old"


def test_device_is_written_to_and_not_replaced() -> None:
    with replacing(Path("/dev/null")) as file:
        file.write(b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _fail() -> None:
    raise ZeroDivisionError


def _fill_the_disk(file: BinaryIO) -> None:
    file.write(b"half")
    with Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")


# ---- the commands --------------------------------------------------------------------------------------------------


def run(filled: Database, folder: Path, *words: str) -> Any:
    settings(filled, folder)
    return CliRunner().invoke(app, [*words, "--config", str(folder / "tollbook.toml")])


def test_commands_write_files(filled: Database, tmp_path: Path) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1)
        add_charge(conn, 1)
    for words in (("cdrs",), ("charges", "--from", "2026-11-23T00:00:00+01:00", "--account", "acme")):
        out = tmp_path / f"{words[0]}.csv"
        done = run(filled, tmp_path, "export", *words, "--out", str(out))
        assert done.exit_code == 0, done.output
        assert out.read_text().count("\n") == 2
    done = run(filled, tmp_path, "export", "cdrs", "--out", "-")
    assert done.stdout.startswith("cdr_id,revision,")


@pytest.mark.parametrize(
    "words",
    [("--from", "2026-11-23T00:00:00"), ("--account", "nobody"),
     ("--from", "2026-11-23T00:00:00Z", "--to", "2026-11-22T00:00:00Z")],
)  # fmt: skip
def test_commands_refuse_and_leave_the_file(filled: Database, tmp_path: Path, words: tuple[str, ...]) -> None:
    out = tmp_path / "cdrs.csv"
    out.write_text("old")
    done = run(filled, tmp_path, "export", "cdrs", "--out", str(out), *words)
    assert isinstance(done.exception, TollbookError)
    assert out.read_text() == "old"


def test_dismissed_or_not_a_revision_is_exported_once(filled: Database) -> None:
    with filled.write() as conn:
        add_cdr(conn, 1)
        conn.execute(update(cdr).values(superseded_at=NOON))
        add_cdr(conn, 1, revision=2)
    assert ids(rows_of(filled)) == [1]
