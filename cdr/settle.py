"""From a call, the decision who pays and the prices: its CDR and what of its charges changes.

Pure. It neither looks anything up nor writes; it does not know ledger entries.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from struct import pack, unpack
from typing import NamedTuple

from cdr.call import Call
from cdr.rating.book import Rated
from cdr.rating.parties import ChargeWish, Decision

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOT_EVIDENCE = ("events", "attempts", "flags", "due_us", "state", "reason", "source_id")


SIP_CODES = range(1000)  # three digits (RFC 3261 section 7.2); what else a source sends is no code
SHOWN_CHARS_MAX = 255  # of a text that ought to be an address
BOOKKEEPING = frozenset(
    ("revision", "batch_id", "made_at", "superseded_at", "source_id", "digest", "attempts", "events", "flags")
)


MATTERS = (
    "direction", "account_id", "carrier_id", "caller", "called", "caller_number", "called_number", "source_ip",
    "disposition", "billed_s", "forwarded_by", "rating", "rating_reason", "destination", "prefix", "price_micros",
    "currency", "cost_micros", "cost_currency", "exception",
)  # fmt: skip
"""What a CDR says of parties, disposition and charges."""
FIRST_WORD = (
    "call_id", "from_tag", "to_tag", "source", "nas", "destination_ip", "started_at", "answered_at", "ended_at",
    "closed_at", "setup_ms", "duration_ms", "sip_code", "stop_cause", "released_by",
)  # fmt: skip
"""What may depend on which source of a call came first: another's word on it alone makes no revision."""
TRIFLE_MS = 2_500  # two reports of one call in whole seconds differ by up to this


class Charge(NamedTuple):
    """What one party pays for one call. Two equal charges are the same charge."""

    party: str  # account | forwarder | carrier
    account_id: int
    number: str
    deck_version_id: int
    rate_id: int
    prefix: str
    destination: str
    billed_s: int
    amount_micros: int
    decimals: int
    currency: str


class LiveCharge(NamedTuple):
    """A stored charge that no reversal has taken back."""

    cdr_id: int
    revision: int
    line: int
    period: str
    service_at: datetime
    charge: Charge


class Verdict(NamedTuple):
    """What a call costs whom: the CDR's rating columns and the charges that it should carry."""

    rating: str  # rated | unrated | not_billable
    reason: str
    charges: tuple[Charge, ...]
    exceptions: tuple[str, ...]


class CdrRow(NamedTuple):
    """A row of the table cdr; the fields are its columns, in order."""

    id: int
    revision: int
    batch_id: int
    made_at: datetime
    superseded_at: datetime | None
    call_hash: int
    call_key: str
    call_id: str
    from_tag: str
    to_tag: str
    source: str
    source_id: int
    nas: str
    direction: str
    account_id: int | None
    carrier_id: int | None
    caller: str
    called: str
    caller_number: str
    called_number: str
    source_ip: str
    destination_ip: str
    started_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    closed_at: datetime
    setup_ms: int | None
    duration_ms: int
    billed_s: int | None
    disposition: str
    sip_code: int | None
    stop_cause: str
    released_by: str
    forwarded_by: str
    rating: str
    rating_reason: str
    destination: str
    prefix: str
    price_micros: int | None
    price_decimals: int | None
    currency: str
    cost_micros: int | None
    cost_decimals: int | None
    cost_currency: str
    exception: str
    flags: str
    digest: int
    attempts: int
    events: bytes


class ChargeRow(NamedTuple):
    """A row of the table charge; the fields are its columns, in order."""

    cdr_id: int
    revision: int
    line: int
    kind: str
    reverses_revision: int | None
    reverses_line: int | None
    party: str
    account_id: int
    number: str
    deck_version_id: int
    rate_id: int
    prefix: str
    destination: str
    billed_s: int
    amount_micros: int
    decimals: int
    currency: str
    service_at: datetime
    period: str
    entry_id: int | None


def pack_refs(refs: Sequence[int]) -> bytes:
    """Return journal positions as 8 big-endian bytes each."""
    return pack(f">{len(refs)}q", *refs)


def unpack_refs(data: bytes) -> tuple[int, ...]:
    """Return the journal positions that pack_refs packed."""
    return unpack(f">{len(data) // 8}q", data)


_EVIDENCE = tuple(i for i, name in enumerate(Call._fields) if name not in NOT_EVIDENCE)


def digest(call: Call) -> int:
    """Return a signed 8-byte digest of all that a CDR shows of the call; equal digests need no new revision.

    The time of its last report is shown only where nothing tells the end.
    """
    shown = call if call.ended_us is None else call._replace(reported_us=0)
    said = repr([shown[i] for i in _EVIDENCE]).encode()
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "big", signed=True)


def judge(decision: Decision, rated: Sequence[Rated]) -> Verdict:
    """Return the rating and charges of a call; rated holds one result for each of decision.wishes, in order.

    A carrier without a deck costs nothing known and is passed over; a carrier whose deck has no rate for the number
    is an exception (cost_unrated), for the margin is wrong until it is mended. On the sell side both make the call
    unrated.
    """
    if decision.not_billable:
        return Verdict("not_billable", decision.not_billable, (), ())
    pairs = [
        (wish, result)
        for wish, result in zip(decision.wishes, rated, strict=True)
        if not (wish.party == "carrier" and result.reason == "no_deck")
    ]
    charges = tuple(_charge(wish, result) for wish, result in pairs if not result.reason)
    missing = [(wish.party, result.reason) for wish, result in pairs if result.reason]
    exceptions = ("cost_unrated",) if any(party == "carrier" for party, _ in missing) else ()
    sell = [reason if party == "account" else f"{party}_{reason}" for party, reason in missing if party != "carrier"]
    if decision.unrated or sell:
        return Verdict("unrated", decision.unrated or sell[0], charges, exceptions)
    if not pairs:
        return Verdict("not_billable", decision.direction or "nobody_pays", (), ())
    if not charges:
        return Verdict("unrated", "cost_unrated", (), exceptions)
    return Verdict("rated", "", charges, exceptions)


def _charge(wish: ChargeWish, rated: Rated) -> Charge:
    return Charge(
        party=wish.party,
        account_id=wish.account_id,
        number=wish.number,
        deck_version_id=rated.deck_version_id,
        rate_id=rated.rate_id,
        prefix=rated.prefix,
        destination=rated.destination,
        billed_s=rated.billed_s,
        amount_micros=rated.amount_micros,
        decimals=rated.decimals,
        currency=rated.currency,
    )


def difference(
    live: Iterable[LiveCharge], wanted: Iterable[Charge], service_at: datetime | None
) -> tuple[list[LiveCharge], list[Charge]]:
    """Return (charges to take back, charges to add) so that just the wanted ones stand, as of service_at."""
    add = list(wanted)
    reverse = []
    for old in live:
        if old.service_at == service_at and old.charge in add:
            add.remove(old.charge)
        else:
            reverse.append(old)
    return reverse, add


def charge_rows(
    place: "Place",
    reverse: Sequence[LiveCharge],
    add: Sequence[Charge],
    service_at: datetime | None,
    period_of: Callable[[int], str],
) -> list[ChargeRow]:
    """Return the rows that take back and add charges with this CDR revision; their ledger entries come later.

    period_of gives the period that an account's corrections and charges of this call are posted to.
    """
    rows = [
        ChargeRow(
            place.cdr_id, place.revision, line, "reversal", old.revision, old.line, *old.charge, old.service_at,
            old.period, None,
        )
        for line, old in enumerate(reverse)
    ]  # fmt: skip
    for line, charge in enumerate(add, start=len(rows)):
        assert service_at is not None, "a charge of a call that was not answered"
        rows.append(
            ChargeRow(
                place.cdr_id, place.revision, line, "charge", None, None, *charge, service_at,
                period_of(charge.account_id), None,
            )
        )  # fmt: skip
    return rows


class Place(NamedTuple):
    """Where a CDR stands in the tables: its id, revision, batch and the group's hash."""

    cdr_id: int
    revision: int
    batch_id: int
    call_hash: int
    made_at: datetime


def cdr_row(place: Place, call: Call, decision: Decision, verdict: Verdict) -> CdrRow:
    """Return the CDR of a closed call."""
    account = [c for c in verdict.charges if c.party == "account"]
    carrier = _cost_shown([c for c in verdict.charges if c.party == "carrier"], decision.carrier_id)
    shown = next(iter(account or carrier), None)
    ended_at = instant(call.ended_us)
    return CdrRow(
        id=place.cdr_id,
        revision=place.revision,
        batch_id=place.batch_id,
        made_at=place.made_at,
        superseded_at=None,
        call_hash=place.call_hash,
        call_key=call.key,
        call_id=call.call_id,
        from_tag=call.from_tag,
        to_tag=call.to_tag,
        source=call.source,
        source_id=call.source_id,
        nas=call.nas,
        direction=decision.direction,
        account_id=decision.account_id,
        carrier_id=decision.carrier_id,
        caller=decision.caller,
        called=decision.called,
        caller_number=decision.caller_number,
        called_number=decision.called_number,
        source_ip=call.source_ip[:SHOWN_CHARS_MAX],
        destination_ip=decision.destination_ip,
        started_at=instant(call.started_us),
        answered_at=instant(call.answered_us),
        ended_at=ended_at,
        closed_at=ended_at or EPOCH + timedelta(microseconds=call.reported_us),
        setup_ms=call.setup_ms,
        duration_ms=call.duration_ms,
        billed_s=account[0].billed_s if account else None,
        disposition=call.disposition,
        sip_code=call.sip_code if call.sip_code in SIP_CODES else None,
        stop_cause=call.stop_cause,
        released_by=call.released_by,
        forwarded_by=decision.forwarded_by,
        rating=verdict.rating,
        rating_reason=verdict.reason,
        destination=shown.destination if shown else "",
        prefix=shown.prefix if shown else "",
        price_micros=sum(c.amount_micros for c in account) if account else None,
        price_decimals=max(c.decimals for c in account) if account else None,
        currency=account[0].currency if account else "",
        cost_micros=sum(c.amount_micros for c in carrier) if carrier else None,
        cost_decimals=max(c.decimals for c in carrier) if carrier else None,
        cost_currency=carrier[0].currency if carrier else "",
        exception=";".join(dict.fromkeys((*call.exceptions, *decision.exceptions, *verdict.exceptions))),
        flags=";".join(call.flags),
        digest=digest(call),
        attempts=call.attempts,
        events=pack_refs(call.events),
    )


def _cost_shown(charges: list[Charge], carrier_id: int | None) -> list[Charge]:
    """Return the carriers' charges that a CDR shows as its cost: those in one currency, that of its carrier.

    A call that comes in from one carrier and is forwarded to another may cost in two; no sum of both has a meaning.
    """
    if not charges:
        return []
    own = next((c for c in charges if c.account_id == carrier_id), charges[0])
    return [c for c in charges if c.currency == own.currency]


def voided(row: CdrRow, place: Place) -> CdrRow:
    """Return the revision that takes a CDR back: what it showed turned out to be part of another call, or no call."""
    return row._replace(
        revision=place.revision,
        batch_id=place.batch_id,
        made_at=place.made_at,
        superseded_at=None,
        disposition="void",
        duration_ms=0,
        billed_s=None,
        rating="not_billable",
        rating_reason="void",
        price_micros=None,
        price_decimals=None,
        currency="",
        cost_micros=None,
        cost_decimals=None,
        cost_currency="",
        exception="",
        digest=0,
        attempts=0,
        events=b"",
    )


def same_figures(old: CdrRow, new: CdrRow) -> bool:
    """Return whether a fresh rating shows what the stored CDR shows, bookkeeping aside."""
    return all(a == b for name, a, b in zip(CdrRow._fields, old, new, strict=True) if name not in BOOKKEEPING)


def same_matter(old: CdrRow, new: CdrRow, live: Iterable[LiveCharge], wanted: Iterable[Charge]) -> bool:
    """Return whether another source's word changes neither charge nor parties nor disposition (design: a revision
    is made only if it does).

    Two sources of one call differ by fractions of a second, and one says `bye` where the other says `complete`. What
    is not charged yet is told anew if the durations differ by more than that.
    """
    if any(getattr(old, name) != getattr(new, name) for name in MATTERS):
        return False
    if _ended_well(old) != _ended_well(new):
        return False
    if new.rating != "rated" and abs(old.duration_ms - new.duration_ms) > TRIFLE_MS:
        return False
    stored = Counter(one.charge._replace(deck_version_id=0, rate_id=0) for one in live)
    return stored == Counter(charge._replace(deck_version_id=0, rate_id=0) for charge in wanted)


def _ended_well(row: CdrRow) -> str:
    return "told" if row.stop_cause in ("bye", "complete") else row.stop_cause


def same_charges(live: Iterable[LiveCharge], wanted: Iterable[Charge], service_at: datetime | None) -> bool:
    """Return whether the stored charges are what a fresh rating asks for, be it from another version of the deck."""
    stored = Counter((old.service_at, old.charge._replace(deck_version_id=0, rate_id=0)) for old in live)
    return stored == Counter((service_at, charge._replace(deck_version_id=0, rate_id=0)) for charge in wanted)


def instant(us: int | None) -> datetime | None:
    """Return epoch microseconds as an aware UTC datetime."""
    return None if us is None else EPOCH + timedelta(microseconds=us)
