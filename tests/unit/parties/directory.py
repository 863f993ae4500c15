"""A small provider for the tests: customers acme, bob's firm and a pbx, carriers alpha and beta."""

from typing import Any

from accounting.event import Source
from cdr.call import Call, CallState
from cdr.rating.directory import ALWAYS_US, FOREVER_US
from cdr.rating.identities import canonical
from cdr.rating.parties import Account, Decision, Directions, Directory, Identity, build_directory, decide

ACME, BOBS, PBX, ALPHA, BETA, REVENUE = 1, 2, 3, 11, 12, 20
DAY_US = 86_400_000_000
NOON_US = 20_000 * DAY_US

ACCOUNTS = (
    Account(ACME, "customer", "acme", "EUR", "UTC"),
    Account(BOBS, "customer", "bobs", "EUR", "UTC"),
    Account(PBX, "customer", "pbx", "EUR", "UTC"),
    Account(ALPHA, "carrier", "alpha", "EUR", "UTC"),
    Account(BETA, "carrier", "beta", "USD", "UTC"),
    Account(REVENUE, "house", "revenue-EUR", "EUR", "UTC"),
)
IDENTITIES = (
    (ACME, "user", "alice@lab.example"),
    (BOBS, "user", "bob"),
    (BOBS, "did", "+4930111"),
    (PBX, "ip", "192.0.2.0/24"),
    (PBX, "did", "+493022"),
    (ALPHA, "ip", "198.51.100.0/24"),
    (BETA, "host", "gw.beta.example"),
)


class Charged:
    """Who is charged, as the settings' defaults say."""

    outbound: tuple[str, ...] = ("account", "carrier")
    inbound: tuple[str, ...] = ("carrier",)
    on_net: tuple[str, ...] = ()
    transit: tuple[str, ...] = ("carrier",)

    def __init__(self, **changed: tuple[str, ...]) -> None:
        for name, parties in changed.items():
            setattr(self, name, parties)


def directory(*more: Identity, without: tuple[str, ...] = ()) -> Directory:
    identities = [identity(*row) for row in IDENTITIES if row[2] not in without]
    return build_directory(ACCOUNTS, [*identities, *more])


def identity(
    account_id: int, kind: str, text: str, valid_from_us: int = ALWAYS_US, valid_to_us: int = FOREVER_US
) -> Identity:
    return Identity(account_id, kind, canonical(kind, text), valid_from_us, valid_to_us)


def answered(**changes: Any) -> Call:
    """Return an answered call from alice to a number, sent to beta's gateway."""
    call = Call(
        state=CallState.CLOSED,
        key="c1",
        call_id="c1",
        from_tag="a",
        to_tag="b",
        source_id=1,
        source="proxy",
        role="access",
        nas="proxy",
        events=(1, 2),
        caller_uri="sip:alice@lab.example",
        called_uri="sip:+442071234567@lab.example",
        translated_uri="sip:+442071234567@gw.beta.example:5060",
        auth_user="alice@lab.example",
        source_ip="203.0.113.9",
        answered_us=NOON_US,
        ended_us=NOON_US + 60_000_000,
        reported_us=NOON_US + 60_000_000,
        duration_ms=60_000,
        disposition="answered",
        stop_cause="bye",
    )
    return call._replace(**changes)


def failed(**changes: Any) -> Call:
    return answered(disposition="busy", sip_code=486, answered_us=None, ended_us=None, duration_ms=0)._replace(
        **changes
    )


def decided(
    call: Call,
    known: Directory | None = None,
    directions: Directions | None = None,
    **source: Any,
) -> Decision:
    return decide(
        call, Source(1, "proxy")._replace(**source), directory() if known is None else known, directions or Charged()
    )
