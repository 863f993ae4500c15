"""Who pays for a call: caller, called, direction, carrier, and who is to be charged for which number.

Pure. It prices nothing, and it charges nobody for a call that was not answered or whose end is not known.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from accounting.event import Source
from accounting.sources.uri import host_part, user_part
from cdr.call import Call
from cdr.rating.directory import (
    Account,
    Directory,
    Identity,
    build_directory,
    find_did,
    find_host,
    find_network,
    find_number,
    find_user,
)
from cdr.rating.numbers import to_e164

__all__ = [
    "Account", "ChargeWish", "Decision", "Directions", "Directory", "Identity", "build_directory", "decide",
]  # fmt: skip

OUTBOUND, INBOUND, ON_NET, TRANSIT, UNKNOWN = (
    "outbound",
    "inbound",
    "on_net",
    "transit",
    "",
)
ACCOUNT, FORWARDER, CARRIER = "account", "forwarder", "carrier"
EGRESS = "egress"
HOST_CHARS_MAX = 255  # of a DNS name (RFC 1035 section 2.3.4), and of the table; what is longer is no host


class Directions(Protocol):
    """Who is charged in each direction: any of `account` and `carrier`."""

    @property
    def outbound(self) -> Sequence[str]: ...
    @property
    def inbound(self) -> Sequence[str]: ...
    @property
    def on_net(self) -> Sequence[str]: ...
    @property
    def transit(self) -> Sequence[str]: ...


class ChargeWish(NamedTuple):
    """A charge that rating shall price: account_id's decks say what `number` costs."""

    party: str  # account | forwarder | carrier
    account_id: int  # a carrier's too
    number: str  # E.164 with +; '' where what was called is no number


class Decision(NamedTuple):
    """What is known of a call's two ends, and who is to be charged."""

    direction: str  # outbound | inbound | on_net | transit | '' unknown
    account_id: int | None
    carrier_id: int | None
    caller: str
    called: str
    caller_number: str
    called_number: str
    destination_ip: str
    forwarded_by: str
    wishes: tuple[ChargeWish, ...]
    not_billable: str  # why nobody is charged; '' if somebody is, or ought to be
    unrated: str  # why it cannot be told who is charged: an alarm
    exceptions: tuple[str, ...]


class _Place(NamedTuple):
    """What a URI says."""

    user: str = ""
    host: str = ""
    number: str = ""  # E.164


class _Ends(NamedTuple):
    """Both ends of a call as the directory knows them."""

    customer: int | None  # who calls
    callee: int | None  # the customer who is called
    from_carrier: int | None
    to_carrier: int | None  # of the forwarded leg, if the call was forwarded
    called_number: str
    buy_number: str


NOWHERE = _Place()


def decide(call: Call, source: Source, directory: Directory, directions: Directions) -> Decision:
    """Return who pays for a call.

    Identities count as they were when it was answered; if it was not, when it was reported.
    """
    at_us = call.reported_us if call.answered_us is None else call.answered_us
    is_forwarded = bool(call.forwarder_uri or call.forwarded_to_uri)
    caller, called = _place(call.caller_uri, source), _place(call.called_uri, source)
    leg = _place(call.forwarded_via_uri if is_forwarded else call.translated_uri, source)
    target = _place(call.forwarded_to_uri, source) if is_forwarded else called
    forwarder_uri = call.forwarder_uri
    if not is_forwarded and _is_sent_on(directory, called, leg, at_us):
        is_forwarded, forwarder_uri, target = True, call.called_uri, leg
    customer, from_carrier = _who_calls(call, source, directory, caller.number, at_us)
    ends = _Ends(
        customer=customer,
        callee=_customer_at(directory, called, at_us),
        from_carrier=from_carrier,
        to_carrier=find_host(directory.carriers, leg.host or target.host, at_us),
        called_number=called.number,
        buy_number=leg.number or target.number,
    )
    forwarder = _customer_at(directory, _place(forwarder_uri, source), at_us) if is_forwarded else None
    direction, account_id, carrier_id = _direction(ends, call.role)
    wishes: tuple[ChargeWish, ...] = ()
    exceptions: tuple[str, ...] = ()
    if _charge_is_due(call):
        wishes = _dialled(direction, account_id, ends, directions, is_forwarded and call.role != EGRESS)
        if is_forwarded and call.role != EGRESS:
            stays = _customer_at(directory, target, at_us) is not None
            forwarded, exceptions = _forwarded(forwarder, target.number, stays, ends, directions)
            wishes += forwarded
    not_billable, unrated = _without_charge(call, direction, carrier_id, wishes)
    forwarded_by = ""
    if is_forwarded:
        forwarded_by = user_part(forwarder_uri) if forwarder is None else directory.accounts[forwarder].name
    return Decision(
        direction, account_id, carrier_id, caller.user, called.user, caller.number, called.number,
        leg.host[:HOST_CHARS_MAX], forwarded_by, wishes, not_billable, unrated, exceptions,
    )  # fmt: skip


def _place(uri: str, source: Source) -> _Place:
    if not uri:
        return NOWHERE
    user = user_part(uri)
    return _Place(user, host_part(uri), to_e164(user, source) if user else "")


def _is_sent_on(directory: Directory, called: _Place, leg: _Place, at_us: int) -> bool:
    """Return whether a customer was dialled, but the call left through a carrier to another number.

    So a proxy that forwards by rewriting the Request-URI, without a second pass through itself, shows it.
    """
    return (
        leg.number not in ("", called.number)
        and find_host(directory.carriers, leg.host, at_us) is not None
        and _customer_at(directory, called, at_us) is not None
        and _customer_at(directory, leg, at_us) is None
    )


def _who_calls(
    call: Call, source: Source, directory: Directory, caller_number: str, at_us: int
) -> tuple[int | None, int | None]:
    """Return (customer, carrier), one of them at most: the first of the source's identify_by that tells.

    A carrier's address is proof of where a call came from. It counts where `source_ip` stands in identify_by; where
    that is not listed, right after what the proxy set itself: `$Au` of a call nobody authenticated is only its From.
    """
    by_address, by_carrier = _by_address(directory, call.source_ip, at_us)
    carrier_is_due = "source_ip" not in source.identify_by
    for step in source.identify_by:
        found: int | None = None
        if step == "billing_party":
            found = _named(directory, call.billing_party, at_us)
        elif step == "source_ip":
            found, carrier_is_due = by_address, True
        if found is None and carrier_is_due and by_carrier is not None and step != "billing_party":
            return None, by_carrier
        if step == "auth_user":
            found = _user(directory, call.auth_user, at_us)
        elif step == "from_user":
            found = _user(directory, call.from_user, at_us)
        elif step == "caller_number" and caller_number:
            found = find_number(directory.customers, caller_number, at_us)
        if found is not None:
            return found, None
    return None, by_carrier


def _by_address(directory: Directory, source_ip: str, at_us: int) -> tuple[int | None, int | None]:
    """Return (customer, carrier) of a source address: whose network is longer; the customer, if they are the same."""
    customer = find_network(directory.customers, source_ip, at_us)
    carrier = find_network(directory.carriers, source_ip, at_us)
    if customer is not None and (carrier is None or customer[0] >= carrier[0]):
        return customer[1], None
    return None, None if carrier is None else carrier[1]


def _named(directory: Directory, text: str, at_us: int) -> int | None:
    """Return the customer a Billing-Party names: a SIP user of his, or the account itself."""
    if not text:
        return None
    found = _user(directory, text, at_us)
    return directory.names.get(text.strip()) if found is None else found


def _user(directory: Directory, text: str, at_us: int) -> int | None:
    """Return whose SIP user `user`, `user@domain` or a URI of it is."""
    return find_user(directory.customers, user_part(text), host_part(text), at_us) if text else None


def _customer_at(directory: Directory, place: _Place, at_us: int) -> int | None:
    """Return the customer who is reached at a place: by his DID, else by his SIP user."""
    if place.number:
        found = find_did(directory.customers, place.number, at_us)
        if found is not None:
            return found
    return find_user(directory.customers, place.user, place.host, at_us)


def _direction(ends: _Ends, role: str) -> tuple[str, int | None, int | None]:
    """Return (direction, account, carrier). The account is who the CDR belongs to, charged or not."""
    if role == EGRESS:  # the account was charged on the access side; this leg only tells what was bought
        return OUTBOUND, None, ends.to_carrier
    if ends.customer is not None:
        return (OUTBOUND if ends.callee is None else ON_NET), ends.customer, ends.to_carrier
    if ends.callee is not None:
        return INBOUND, ends.callee, ends.from_carrier
    if ends.from_carrier is not None and ends.to_carrier is not None:
        return TRANSIT, None, ends.to_carrier
    return UNKNOWN, None, ends.from_carrier if ends.to_carrier is None else ends.to_carrier


def _charge_is_due(call: Call) -> bool:
    return call.disposition == "answered" and "no_stop" not in call.exceptions


def _charged(directions: Directions, direction: str) -> Sequence[str]:
    match direction:
        case "outbound":
            return directions.outbound
        case "inbound":
            return directions.inbound
        case "on_net":
            return directions.on_net
        case "transit":
            return directions.transit
    return ()


def _dialled(
    direction: str, account_id: int | None, ends: _Ends, directions: Directions, goes_on: bool
) -> tuple[ChargeWish, ...]:
    """Return the charges for what the caller dialled; if it goes on (was forwarded), not those of the further leg."""
    charged = _charged(directions, direction)
    wishes: tuple[ChargeWish, ...] = ()
    if ACCOUNT in charged and account_id is not None:
        wishes = (ChargeWish(ACCOUNT, account_id, ends.called_number),)
    if CARRIER in charged:
        if direction == INBOUND:
            if ends.from_carrier is not None:
                wishes += (ChargeWish(CARRIER, ends.from_carrier, ends.called_number),)
        elif ends.to_carrier is not None and not goes_on:
            wishes += (ChargeWish(CARRIER, ends.to_carrier, ends.buy_number),)
    return wishes


def _forwarded(
    forwarder: int | None, number: str, stays: bool, ends: _Ends, directions: Directions
) -> tuple[tuple[ChargeWish, ...], tuple[str, ...]]:
    """Return (charges, exceptions) of a forwarded leg: an outbound call of the forwarder's, unless it stays with us.

    It leaves us if it goes to no customer, and to a number or to a carrier (a mailbox is neither).
    """
    if stays or not (number or ends.to_carrier is not None):
        return (), ()
    wishes: tuple[ChargeWish, ...] = ()
    if ACCOUNT in directions.outbound and forwarder is not None:
        wishes = (ChargeWish(FORWARDER, forwarder, number),)
    if CARRIER in directions.outbound and ends.to_carrier is not None:
        wishes += (ChargeWish(CARRIER, ends.to_carrier, ends.buy_number),)
    return wishes, ("forwarder_unknown",) if forwarder is None else ()


def _without_charge(
    call: Call, direction: str, carrier_id: int | None, wishes: tuple[ChargeWish, ...]
) -> tuple[str, str]:
    """Return (not_billable, unrated): why nobody is charged, or why it cannot be told who is."""
    if call.disposition != "answered":
        return "not_answered", ""
    if "no_stop" in call.exceptions:
        return "no_stop", ""
    if direction == UNKNOWN:
        return "", "account_unknown"
    if wishes:
        return "", ""
    return "carrier_unknown" if call.role == EGRESS and carrier_id is None else direction, ""
