"""CDRs and charges written straight into the tables, for tests of what is told about them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert

from cdr.store.tables import account, cdr, charge, deck, deck_version, ledger_entry

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ACME, BETA, TELCO = 1, 2, 3


def add_accounts(conn: Connection) -> None:
    """Add customers acme and beta, carrier telco, and deck retail in version 1."""
    common = {
        "payment": "postpaid", "credit_limit_micros": 0, "timezone": "UTC", "balance_micros": 0, "created_at": NOON,
    }  # fmt: skip
    for number, role, name, currency in (
        (ACME, "customer", "acme", "EUR"),
        (BETA, "customer", "beta, Ltd", "EUR"),
        (TELCO, "carrier", "telco", "USD"),
    ):
        conn.execute(insert(account).values(id=number, role=role, name=name, currency=currency, **common))
    conn.execute(insert(deck).values(id=1, name="retail", side="sell", currency="EUR", created_at=NOON))
    conn.execute(
        insert(deck_version).values(
            id=1, deck_id=1, version=1, effective_from=None, decimals=4, rounding="half-up", timezone="UTC",
            file_name="retail.csv", digest="x", loaded_at=NOON, loaded_by="me",
        )
    )  # fmt: skip


def add_cdr(conn: Connection, number: int, closed_at: datetime = NOON, **changes: Any) -> None:
    """Add a CDR with cdr_values."""
    conn.execute(insert(cdr).values(cdr_values(number, closed_at, **changes)))


def cdr_values(number: int, closed_at: datetime = NOON, **changes: Any) -> dict[str, Any]:
    """Return a CDR's columns: answered, one minute, rated, unless changes say otherwise."""
    values: dict[str, Any] = {
        "id": number, "revision": 1, "batch_id": 1, "made_at": closed_at, "superseded_at": None, "call_hash": number,
        "call_key": f"call-{number}", "call_id": f"call-{number}", "from_tag": "a", "to_tag": "b", "source": "proxy-1",
        "source_id": 1, "nas": "", "direction": "outbound", "account_id": ACME, "carrier_id": TELCO, "caller": "alice",
        "called": "+4930123", "caller_number": "", "called_number": "+4930123", "source_ip": "192.0.2.1",
        "destination_ip": "198.51.100.1", "started_at": closed_at, "answered_at": closed_at, "ended_at": closed_at,
        "closed_at": closed_at, "setup_ms": 1500, "duration_ms": 60_000, "billed_s": 60, "disposition": "answered",
        "sip_code": 200, "stop_cause": "bye", "released_by": "caller", "forwarded_by": "", "rating": "rated",
        "rating_reason": "", "destination": "Germany", "prefix": "49", "price_micros": 120_000, "price_decimals": 4,
        "currency": "EUR", "cost_micros": None, "cost_decimals": None, "cost_currency": "", "exception": "",
        "flags": "", "digest": 0, "attempts": 0, "events": b"",
    }  # fmt: skip
    return values | changes


def unanswered(disposition: str = "busy", sip_code: int = 486) -> dict[str, Any]:
    """Return the changes of a call that failed."""
    return {
        "disposition": disposition, "sip_code": sip_code, "answered_at": None, "duration_ms": 0, "billed_s": None,
        "stop_cause": "", "rating": "not_billable", "rating_reason": "not_answered", "destination": "", "prefix": "",
        "price_micros": None, "price_decimals": None, "currency": "",
    }  # fmt: skip


def add_charge(conn: Connection, cdr_id: int, revision: int = 1, line: int = 1, **changes: Any) -> None:
    """Add a charge of acme's: 0.12 EUR, posted by entry 1, unless changes say otherwise."""
    values: dict[str, Any] = {
        "cdr_id": cdr_id, "revision": revision, "line": line, "kind": "charge", "reverses_revision": None,
        "reverses_line": None, "party": "account", "account_id": ACME, "number": "+4930123", "deck_version_id": 1,
        "rate_id": 1, "prefix": "49", "destination": "Germany", "billed_s": 60, "amount_micros": 120_000,
        "decimals": 4, "currency": "EUR", "service_at": NOON, "period": "2026-11", "entry_id": 1,
    }  # fmt: skip
    conn.execute(insert(charge).values(values | changes))


def add_entry(conn: Connection, number: int = 1, posted_at: datetime = NOON) -> None:
    """Add a ledger entry for charges to name."""
    conn.execute(
        insert(ledger_entry).values(
            id=number, kind="charge", debit_id=ACME, credit_id=BETA, amount_micros=120_000, currency="EUR",
            period="2026-11", batch_id=1, reference=None, owner_id=None, actor="worker", posted_at=posted_at,
        )
    )  # fmt: skip
