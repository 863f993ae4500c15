"""A database with accounts, decks and journalled packets, for tests of the pipeline: real rows, no sockets."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from typer.testing import CliRunner

from accounting.base.config import Settings, load_settings
from accounting.db.engine import Database
from accounting.event import Source
from accounting.journal import JournalWriter, register_source
from cdr.pipeline import Pipeline
from cdr.store.tables import cdr, charge, ledger_entry
from cdr.verify import verify
from tests.support.radius import SECRET, request
from tollbook import app

START, STOP, FAILED = 1, 2, 15
INVITE, BYE = 1, 8
T0 = 1_795_500_000  # 2026-11-24T06:00:00Z
PROXY = Source(id=0, name="proxy-1", dialects=("opensips",), own_addresses=("127.0.0.1",))
PEER = bytes(10) + b"\xff\xff\x7f\x00\x00\x01" + (5060).to_bytes(2)


def invite(
    call_id: str,
    at: int,
    *,
    status: int = START,
    code: int = 200,
    caller: str = "sip:alice@lab.example",
    called: str = "sip:+4915112345678@lab.example",
    to_tag: str = "b",
    source_ip: str = "192.0.2.10",
    via: str = "sip:+4915112345678@198.51.100.7",
    user: str = "alice@lab.example",
) -> bytes:
    """Return the report of an answered (or failed) INVITE, as OpenSIPS in transaction mode sends it."""
    return request(
        SECRET, (40, status), (204, INVITE), (205, code), (55, T0 + at), (206, "a"), (207, to_tag), (44, call_id),
        (1, user), (31, caller), (30, called), (216, called), (107, via), (214, source_ip),
    )  # fmt: skip


def bye(call_id: str, at: int, *, by_callee: bool = False, to_tag: str = "b", code: int = 200) -> bytes:
    """Return the report of a BYE; a callee's carries the tags the other way round."""
    tags = (to_tag, "a") if by_callee else ("a", to_tag)
    return request(
        SECRET, (40, STOP), (204, BYE), (205, code), (55, T0 + at), (206, tags[0]), (207, tags[1]), (44, call_id),
    )  # fmt: skip


def settings(database: Database, folder: Path, more: str = "") -> Settings:
    """Return settings for this database with one client, proxy-1."""
    path = folder / "tollbook.toml"
    url = database.url.render_as_string(hide_password=False)
    path.write_text(
        f'[database]\nurl = "{url}"\n[[clients]]\nname = "proxy-1"\naddress = "127.0.0.0/8"\n'
        f'secret = "testing123"\ndialect = "opensips"\nown_addresses = ["127.0.0.1"]\n{more}'
    )
    return load_settings(path)


class Lab:
    """One database under test."""

    def __init__(self, database: Database, folder: Path, more: str = "") -> None:
        self.database = database
        self.settings = settings(database, folder, more)
        self.pipeline = Pipeline(database, self.settings)
        self._writer = JournalWriter(database, "receiver", "test")
        self._source = register_source(database, PROXY)

    def close(self) -> None:
        """Close what is open."""
        self._writer.close()

    def tollbook(self, *words: str) -> str:
        """Run a command of the real command line in this process; return what it prints, fail if it fails."""
        result = CliRunner().invoke(app, [*words, "--config", str(self.settings.path)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, f"tollbook {' '.join(words)}: {result.output}"
        return result.stdout

    def sell(self, deck: str, *, account: str = "acme", ip: str = "192.0.2.0/24") -> None:
        """Load a deck (CSV text) and give it to an account that is known by its IP addresses."""
        self.load(deck, account)
        self.tollbook("account", "add", account, "--currency", "EUR", "--deck", f"{account}-deck")
        self.tollbook("account", "identify", account, "--ip", ip)

    def load(self, deck: str, account: str = "acme") -> None:
        """Load a deck (CSV text) under the name of an account's deck."""
        path = Path(str(self.settings.path)).parent / f"{account}.csv"
        path.write_text(deck)
        self.tollbook("rates", "load", str(path), "--deck", f"{account}-deck", "--currency", "EUR")

    def balance(self, account: str = "acme") -> str:
        """Return an account's balance as the command line tells it."""
        return str(json.loads(self.tollbook("account", "show", account, "--json"))["balance"])

    def journal(self, *packets: bytes, received_s: int | None = None) -> list[int]:
        """Append packets to the journal; they arrive when they say they happened, or at T0 + received_s."""
        return self._writer.append(
            [((T0 + (received_s if received_s is not None else 0)) * 1_000_000, self._source, PEER, p) for p in packets]
        )

    def process(self, after_s: int = 2 * 86_400) -> None:
        """Run the pipeline as of T0 + after_s."""
        self.pipeline.run(lambda: (T0 + after_s) * 1_000_000)

    def cdrs(self) -> list[Any]:
        """Return the latest CDRs, by Call-ID and answer time."""
        with self.database.read() as conn:
            latest = select(cdr).where(cdr.c.superseded_at.is_(None), cdr.c.disposition != "void")
            return list(conn.execute(latest.order_by(cdr.c.call_id, cdr.c.answered_at)))

    def charges(self) -> list[Any]:
        """Return all charges in the order they were made."""
        with self.database.read() as conn:
            return list(conn.execute(select(charge).order_by(charge.c.cdr_id, charge.c.revision, charge.c.line)))

    def entries(self) -> list[Any]:
        """Return all ledger entries in order."""
        with self.database.read() as conn:
            return list(conn.execute(select(ledger_entry).order_by(ledger_entry.c.id)))

    def differences(self) -> Sequence[str]:
        """Return what verify finds."""
        return verify(self.database).differences


def shown(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Return CDRs without ids, revisions, and bookkeeping: what must not depend on order or split."""
    aside = {
        "id",
        "revision",
        "batch_id",
        "made_at",
        "superseded_at",
        "events",
        "attempts",
        "digest",
        "source_id",
        "flags",
    }
    return [{key: value for key, value in row._mapping.items() if key not in aside} for row in rows]
