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


class _Ends(NamedTuple):
    """Both ends of a call as the directory knows them."""

    customer: int | None  # who calls
    callee: int | None  # the customer who is called
    from_carrier: int | None
    to_carrier: int | None  # of the forwarded leg, if the call was forwarded
    called_number: str
    buy_number: str


def decide(call: Call, source: Source, directory: Directory, directions: Directions) -> Decision:
    """Return who pays for a call. Identities count as they were when it was answered; if it was not, when it was reported."""
    at_us = call.reported_us if call.answered_us is None else call.answered_us
    caller, called = user_part(call.caller_uri), user_part(call.called_uri)
    caller_number, called_number = to_e164(caller, source), to_e164(called, source)
    ends = _ends(call, source, directory, caller_number, called_number, at_us)
    forwarder = _called_customer(directory, call.forwarder_uri, source, at_us) if call.forwarder_uri else None
    egress = call.role == "egress"
    direction, account_id, carrier_id = _direction(ends, egress)
    wishes: tuple[ChargeWish, ...] = ()
    exceptions: tuple[str, ...] = ()
    not_billable, unrated = "", ""
    if call.disposition != "answered":
        not_billable = "not_answered"
    elif "no_stop" in call.exceptions:
        not_billable = "no_stop"
    else:
        charged = _charged(directions, direction)
        if egress:
            wishes = _bought(ends, charged)
        else:
            forwarded, exceptions = _forwarded(call, source, directory, directions, ends, forwarder, at_us)
            wishes = _sold_and_bought(call, direction, account_id, ends, charged) + forwarded
        if direction == UNKNOWN:
            unrated = "account_unknown"
        elif not wishes:
            not_billable = "carrier_unknown" if egress and carrier_id is None else direction
    return Decision(
        direction, account_id, carrier_id, caller, called, caller_number, called_number,
        host_part(_leg_uri(call)), _forwarded_by(call, directory, forwarder), wishes, not_billable, unrated, exceptions,
    )  # fmt: skip


def _ends(
    call: Call,
    source: Source,
    directory: Directory,
    caller_number: str,
    called_number: str,
    at_us: int,
) -> _Ends:
    customer, from_carrier = _who_calls(call, source, directory, caller_number, at_us)
    leg = _leg_uri(call)
    dialled = call.forwarded_to_uri if _is_forwarded(call) else call.called_uri
    buy_number = to_e164(user_part(leg), source) or to_e164(user_part(dialled), source)
    return _Ends(
        customer=customer,
        callee=_called_customer(directory, call.called_uri, source, at_us),
        from_carrier=from_carrier,
        to_carrier=find_host(directory.carriers, host_part(leg or dialled), at_us),
        called_number=called_number,
        buy_number=buy_number,
    )


def _who_calls(
    call: Call, source: Source, directory: Directory, caller_number: str, at_us: int
) -> tuple[int | None, int | None]:
    """Return (customer, carrier), one of them at most: the first of the source's identify_by that tells.

    A carrier's address is proof of where a call came from. It counts where `source_ip` stands in identify_by; where that
    is not listed, right after what the proxy set itself, for `$Au` of a call nobody authenticated is only its From.
    """
    customers = directory.customers
    address_listed = "source_ip" in source.identify_by
    for step in source.identify_by:
        found: int | None = None
        if step == "billing_party":
            found = _named(directory, call.billing_party, at_us)
        elif step == "source_ip":
            found, carrier = _by_address(directory, call.source_ip, at_us)
            if carrier is not None:
                return None, carrier
        else:
            if not address_listed:
                network = find_network(directory.carriers, call.source_ip, at_us)
                if network is not None:
                    return None, network[1]
            if step == "auth_user":
                found = _user(directory, call.auth_user, at_us)
            elif step == "from_user":
                found = _user(directory, call.from_user, at_us)
            elif step == "caller_number" and caller_number:
                found = find_number(customers, caller_number, at_us)
        if found is not None:
            return found, None
    network = find_network(directory.carriers, call.source_ip, at_us)
    return None, None if network is None else network[1]


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


def _called_customer(directory: Directory, uri: str, source: Source, at_us: int) -> int | None:
    """Return the customer who is reached under a URI: by his DID, else by his SIP user."""
    user = user_part(uri)
    number = to_e164(user, source)
    found = find_did(directory.customers, number, at_us) if number else None
    return find_user(directory.customers, user, host_part(uri), at_us) if found is None else found


def _direction(ends: _Ends, egress: bool) -> tuple[str, int | None, int | None]:
    """Return (direction, account, carrier). The account is who the CDR belongs to, charged or not."""
    if egress:  # the account was charged on the access side; this leg only tells what was bought
        return OUTBOUND, None, ends.to_carrier
    if ends.customer is not None:
        return (
            (OUTBOUND if ends.callee is None else ON_NET),
            ends.customer,
            ends.to_carrier,
        )
    if ends.callee is not None:
        return INBOUND, ends.callee, ends.from_carrier
    if ends.from_carrier is not None and ends.to_carrier is not None:
        return TRANSIT, None, ends.to_carrier
    return (
        UNKNOWN,
        None,
        ends.from_carrier if ends.to_carrier is None else ends.to_carrier,
    )


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


def _sold_and_bought(
    call: Call,
    direction: str,
    account_id: int | None,
    ends: _Ends,
    charged: Sequence[str],
) -> tuple[ChargeWish, ...]:
    """Return the charges for what the caller dialled; what a forwarded leg costs is not among them."""
    wishes: tuple[ChargeWish, ...] = ()
    if ACCOUNT in charged and account_id is not None:
        wishes += (ChargeWish(ACCOUNT, account_id, ends.called_number),)
    if direction == INBOUND:
        if CARRIER in charged and ends.from_carrier is not None:
            wishes += (ChargeWish(CARRIER, ends.from_carrier, ends.called_number),)
    elif not _is_forwarded(call):
        wishes += _bought(ends, charged)
    return wishes


def _bought(ends: _Ends, charged: Sequence[str]) -> tuple[ChargeWish, ...]:
    if CARRIER in charged and ends.to_carrier is not None:
        return (ChargeWish(CARRIER, ends.to_carrier, ends.buy_number),)
    return ()


def _forwarded(
    call: Call,
    source: Source,
    directory: Directory,
    directions: Directions,
    ends: _Ends,
    forwarder: int | None,
    at_us: int,
) -> tuple[tuple[ChargeWish, ...], tuple[str, ...]]:
    """Return (charges, exceptions) of a forwarded leg: an outbound call of the forwarder's, unless it stays in the house.

    It leaves the house if it goes to no customer, and to a number or to a carrier (a mailbox is neither).
    """
    if not _is_forwarded(call):
        return (), ()
    number = to_e164(user_part(call.forwarded_to_uri), source)
    stays = _called_customer(directory, call.forwarded_to_uri, source, at_us) is not None
    if stays or not (number or ends.to_carrier is not None):
        return (), ()
    bought = _bought(ends, directions.outbound)
    if forwarder is None:
        return bought, ("forwarder_unknown",)
    if ACCOUNT not in directions.outbound:
        return bought, ()
    return (ChargeWish(FORWARDER, forwarder, number), *bought), ()


def _is_forwarded(call: Call) -> bool:
    return bool(call.forwarder_uri or call.forwarded_to_uri)


def _leg_uri(call: Call) -> str:
    """Return where the proxy sent the call: of a forwarded one, where the forwarded leg went."""
    return call.forwarded_via_uri if _is_forwarded(call) else call.translated_uri


def _forwarded_by(call: Call, directory: Directory, forwarder: int | None) -> str:
    return user_part(call.forwarder_uri) if forwarder is None else directory.accounts[forwarder].name
