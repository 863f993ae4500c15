"""A day of calls as an OpenSIPS proxy in transaction mode would report them: sample traffic for `tollbook demo`.

The same seed gives the same day. Nobody real is called: the numbers are kept free for films, or belong to nobody.
Pure, apart from its seeded dice.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from math import ceil, log
from typing import NamedTuple, TypeVar

DAY_S = 86_400
QUIET_S = 1200  # no call is set up in the last minutes, so that all calls end within the day
TALK_S_MAX = 3600
CALLS_MIN = 50  # fewer would not hold one of each kind

DOMAIN = "sip.example"
PROXY = "192.0.2.1"
STRANGER = "192.0.2.200"
NORTHSEA, TRANSATLANTIC = "198.51.100.20", "198.51.100.70"  # gateways of the two carriers
NUMBERS = "4930231255"  # our own block, all but its last two digits

_BUSY_HOURS = (2, 1, 1, 1, 2, 5, 15, 40, 80, 100, 105, 95, 70, 85, 95, 90, 80, 60, 40, 30, 22, 15, 9, 4)
_RETRANSMITTED, _FAILED_OVER = 0.03, 0.01  # parts of all reports

T = TypeVar("T")


class Copies(StrEnum):
    """How often a report reaches us: by a proxy that does not wait long enough, or has two servers to try."""

    ONCE = "once"
    RETRANSMITTED = "retransmitted"  # the same datagram again
    FAILED_OVER = "failed_over"  # the same report in another request


class Report(NamedTuple):
    """The attributes of one Accounting-Request, and when the proxy sent it (epoch seconds)."""

    at_s: int
    attributes: bytes
    copies: Copies = Copies.ONCE


class Day(NamedTuple):
    """All reports of a day in the order of their times, and how many calls of each kind they tell of."""

    reports: tuple[Report, ...]
    kinds: Mapping[str, int]


class Customer(NamedTuple):
    """Who makes calls: SIP users of ours, or a telephone system that is known by its address."""

    name: str
    weight: int
    users: tuple[str, ...]
    numbers: str  # what the last two digits of their numbers begin with
    destinations: Mapping[str, int]  # number with x for any digit -> weight
    address: str = ""
    is_national: bool = False  # dials as in Germany: 030..., 0044...


class _Call(NamedTuple):
    call_id: str
    from_tag: str
    to_tag: str
    caller: str
    called: str
    sent_to: str
    source_ip: str
    user: str
    answer_s: int
    talk_s: int
    diverted: str = ""


_NEAR = {
    "4930231251xx": 20, "494066969xxx": 14, "492214710xxx": 10, "498999998xxx": 10, "496990009xxx": 8,
    "4917139200xx": 16, "49176040690xx": 12, "491803555xxx": 2, "4980055500xx": 3,
}  # fmt: skip
_EUROPE = {
    "43155500xxx": 8, "43664555xxxx": 4, "41445550xxx": 6, "41795550xxx": 3, "442079460xxx": 10, "447700900xxx": 6,
    "3319900xxxx": 8, "3363998xxxx": 5, "3120555xxxx": 5, "468465004xx": 3, "3902555xxxx": 4, "34915550xxx": 3,
    "346000055xx": 3, "48225550xxx": 5, "485005550xx": 5, "3532091xxxx": 2,
}  # fmt: skip
_WORLD = {"121255501xx": 14, "141555501xx": 6, "141655501xx": 4, "6125550xxxx": 3, "61491570xxx": 2, "8135550xxxx": 2}
_FAR = {
    "905005550xxx": 10,
    "212500550xxx": 3,
    "2126005550xx": 3,
    "919800055xxx": 8,
    "485005550xx": 6,
    "380445550xxx": 4,
}

CUSTOMERS = (
    Customer("acme", 52, ("pbx",), "0", {**_NEAR, **_EUROPE, **_WORLD}, address="203.0.113.17", is_national=True),
    Customer("grand-hotel", 22, ("reception", "room101", "room102", "room201"), "4", {**_NEAR, **_EUROPE, **_WORLD}),
    Customer("bakery", 14, ("anna", "ben"), "6", _NEAR),
    Customer("callshop", 12, ("cabin1", "cabin2", "cabin3"), "8", {**_FAR, "447700900xxx": 4, "121255501xx": 3}),
)
_HOTEL = CUSTOMERS[1]
LOST_BYE, LOST_START = "the BYE got lost", "the answer got lost"
MESSAGE = "a MESSAGE, which is no call"
UNRATED = "88163150xxxx"  # a satellite telephone: in no deck


def day_of_calls(start_s: int, calls: int, seed: int = 1) -> Day:
    """Return a day that begins at start_s, with that many calls (MESSAGEs, of which there are some, are none)."""
    dice = random.Random(seed)  # noqa: S311 - sample traffic, no secret
    kinds = _quotas(max(calls, CALLS_MIN))
    told: list[tuple[int, bytes]] = []
    for number, kind in enumerate(_shuffled(dice, kinds)):
        told += _KINDS[kind].tell(_made(dice, kind, number, start_s))
    told.sort(key=lambda one: one[0])
    copies = [Copies.ONCE] * len(told)
    again = dice.sample(range(len(told)), ceil(_RETRANSMITTED * len(told)) + ceil(_FAILED_OVER * len(told)))
    for order, place in enumerate(again):
        copies[place] = Copies.FAILED_OVER if order < ceil(_FAILED_OVER * len(told)) else Copies.RETRANSMITTED
    return Day(tuple(Report(at, attributes, how) for (at, attributes), how in zip(told, copies, strict=True)), kinds)


def delayed(report: Report, delay_s: int) -> bytes:
    """Return a report's attributes as they are sent to the next server after so many seconds of waiting."""
    return report.attributes.replace(_attribute(_DELAY, 0), _attribute(_DELAY, delay_s))


# ---- who calls whom ---------------------------------------------------------------------------------------------


def _quotas(calls: int) -> dict[str, int]:
    """Return how many calls are of each kind: one of each at least; the first kind gets what is left."""
    kinds = {name: max(1, round(kind.share * calls)) for name, kind in _KINDS.items()}
    first = next(iter(kinds))
    kinds[first] = 0
    kinds[first] = calls - sum(kinds[name] for name in kinds if name != MESSAGE)
    return kinds


def _shuffled(dice: random.Random, kinds: Mapping[str, int]) -> list[str]:
    names = [name for name, count in kinds.items() for _ in range(count)]
    dice.shuffle(names)
    return names


def _made(dice: random.Random, kind: str, number: int, start_s: int) -> _Call:
    """Return who calls whom, and when: the start of a call of that kind."""
    hour = _chosen(dice, range(24), _BUSY_HOURS)
    invited_s = start_s + min(hour * 3600 + dice.randrange(3600), DAY_S - QUIET_S - 60)
    answer_s = invited_s + dice.randint(2, 28)
    left_s = start_s + DAY_S - answer_s - 60
    talk_s = min(max(3, int(dice.lognormvariate(log(105), 1.0))), TALK_S_MAX, left_s)
    customer = _chosen(dice, CUSTOMERS, [one.weight for one in CUSTOMERS])
    call = _KINDS[kind].made(dice, customer)
    return call._replace(
        call_id=f"{dice.getrandbits(48):012x}-{number}@{call.source_ip}",
        from_tag=f"{dice.getrandbits(32):08x}",
        to_tag=f"{dice.getrandbits(32):08x}",
        answer_s=answer_s,
        talk_s=talk_s,
    )


def _outbound(dice: random.Random, customer: Customer, template: str = "") -> _Call:
    """Return a call of a customer's to the world."""
    called = _digits(dice, template or _chosen(dice, list(customer.destinations), list(customer.destinations.values())))
    return _placed(dice, customer, called, _gateway(called))


def _unrated(dice: random.Random, _customer: Customer) -> _Call:
    return _outbound(dice, CUSTOMERS[-1], UNRATED)


def _on_net(dice: random.Random, customer: Customer) -> _Call:
    """Return a call of a customer's to one of the other customers."""
    others = [one for one in CUSTOMERS if one is not customer]
    callee = dice.choice(others)
    return _placed(dice, customer, _own_number(dice, callee), _phone_of(dice, callee))


def _inbound(dice: random.Random, customer: Customer) -> _Call:
    """Return a call that a carrier brings for a customer's number."""
    caller = _digits(dice, _chosen(dice, list(_NEAR)[:7], list(_NEAR.values())[:7]))
    called = f"sip:+{_own_number(dice, customer)}@{DOMAIN}"
    return _call(f"sip:+{caller}@{NORTHSEA}", called, _phone_of(dice, customer), NORTHSEA)


def _forwarded(dice: random.Random, _customer: Customer) -> _Call:
    """Return a call for the hotel that goes on to a mobile telephone."""
    target = f"sip:+{_digits(dice, '4917139200xx')}@{DOMAIN}"
    return _inbound(dice, _HOTEL)._replace(sent_to=target)


def _stranger(dice: random.Random, _customer: Customer) -> _Call:
    """Return a call that the proxy let pass although nobody knows the caller."""
    called = _digits(dice, "442079460xxx")
    caller = f"sip:+{_digits(dice, '492214710xxx')}@{STRANGER}"
    return _call(caller, f"sip:+{called}@{DOMAIN}", f"sip:+{called}@{NORTHSEA}:5060", STRANGER)


def _placed(dice: random.Random, customer: Customer, called: str, sent_to: str) -> _Call:
    dialled = called
    if customer.is_national:
        dialled = f"0{called[2:]}" if called.startswith("49") else f"00{called}"
    uri = f"sip:{'' if customer.is_national else '+'}{dialled}@{DOMAIN}"
    if customer.address:
        return _call(f"sip:+{_own_number(dice, customer)}@{customer.address}", uri, sent_to, customer.address)
    user = f"{dice.choice(customer.users)}@{DOMAIN}"
    return _call(f"sip:{user}", uri, sent_to, f"203.0.113.{dice.randint(130, 250)}", user)


def _call(caller: str, called: str, sent_to: str, source_ip: str, user: str = "") -> _Call:
    return _Call("", "", "", caller, called, sent_to, source_ip, user, 0, 0)


def _gateway(number: str) -> str:
    return f"sip:+{number}@{NORTHSEA if number[0] in '34' else TRANSATLANTIC}:5060"


def _own_number(dice: random.Random, customer: Customer) -> str:
    return f"{NUMBERS}{customer.numbers}{dice.randrange(10)}"


def _phone_of(dice: random.Random, customer: Customer) -> str:
    host = customer.address or f"203.0.113.{dice.randint(130, 250)}"
    return f"sip:{dice.choice(customer.users)}@{host}:5060"


def _digits(dice: random.Random, template: str) -> str:
    return "".join(str(dice.randrange(10)) if sign == "x" else sign for sign in template)


def _chosen(dice: random.Random, things: Sequence[T], weights: Sequence[int]) -> T:
    return dice.choices(things, weights)[0]


# ---- what the proxy reports of it -------------------------------------------------------------------------------

_USER, _NAS_IP, _NAS_PORT, _SERVICE, _CALLED, _CALLING, _NAS = 1, 4, 5, 6, 30, 31, 32
_STATUS, _DELAY, _CALL_ID, _TIME = 40, 41, 44, 55
_SENT_TO, _METHOD, _CODE, _FROM_TAG, _TO_TAG, _SOURCE_IP, _DIALLED, _DIVERTED, _SETUP, _CREATED = (
    107, 204, 205, 206, 207, 214, 216, 219, 228, 229,
)  # fmt: skip
_START, _STOP, _INTERIM, _FAILED, _SIP_SESSION = 1, 2, 3, 15, 15
_INVITE, _BYE, _MESSAGE = 1, 8, 256

Told = list[tuple[int, bytes]]


def _answered(call: _Call) -> Told:
    return [_start(call), _stop(call)]


def _answered_until_callee_ends(call: _Call) -> Told:
    return [_start(call), _stop(call, by_callee=True)]


def _failed(code: int) -> Callable[[_Call], Told]:
    """Return what tells of a failed call: OpenSIPS reports it as missed and as failed, in two equal packets."""

    def tell(call: _Call) -> Told:
        by_proxy = code in (404, 408)  # then there is no To-Tag
        return [_invite(call._replace(to_tag="" if by_proxy else call.to_tag), _FAILED, code)] * 2

    return tell


def _forked(code: int) -> Callable[[_Call], Told]:
    """Return what tells of a call of which one branch fails before another is answered."""

    def tell(call: _Call) -> Told:
        branch = call._replace(to_tag=f"{call.to_tag}x", answer_s=call.answer_s - 1)
        if code == 503:
            branch = branch._replace(sent_to=branch.sent_to.replace(NORTHSEA, TRANSATLANTIC))
        return [_invite(branch, _FAILED, code), _start(call), _stop(call)]

    return tell


def _held(call: _Call) -> Told:
    """Return what tells of a call that was put on hold and taken back."""
    times = (call.answer_s + call.talk_s // 3, call.answer_s + call.talk_s // 2)
    held = [(at, _packet(call, at, _INTERIM, _INVITE, 200)) for at in times]
    return [_start(call), *held, _stop(call)]


def _without_end(call: _Call) -> Told:
    return [_start(call)]


def _without_beginning(call: _Call) -> Told:
    return [_stop(call)]


def _with_late_bye(call: _Call) -> Told:
    """Return what tells of a call whose other side says BYE too, ten seconds late."""
    at = call.answer_s + call.talk_s + 10
    late = call._replace(from_tag=call.to_tag, to_tag=call.from_tag)
    return [_start(call), _stop(call), (at, _packet(late, at, _STOP, _BYE, 481))]


def _twice_through_the_proxy(call: _Call) -> Told:
    """Return what tells of a forwarded call: it passes the proxy a second time, from the proxy's own address."""
    target = call.sent_to.partition("@")[0]
    inner = call._replace(
        called=call.sent_to, sent_to=f"{target}@{NORTHSEA}:5060", source_ip=PROXY, diverted="unconditional"
    )
    return [_start(inner), _start(call), _stop(call), _stop(call)]


def _message(call: _Call) -> Told:
    return [(call.answer_s, _packet(call, call.answer_s, _FAILED, _MESSAGE, 200))]


def _start(call: _Call) -> tuple[int, bytes]:
    return _invite(call, _START, 200)


def _invite(call: _Call, status: int, code: int) -> tuple[int, bytes]:
    extra = [
        (_USER, call.user), (_CALLING, call.caller), (_CALLED, call.called), (_SOURCE_IP, call.source_ip),
        (_DIALLED, call.called), (_SENT_TO, call.sent_to), (_DIVERTED, call.diverted),
    ]  # fmt: skip
    return call.answer_s, _packet(call, call.answer_s, status, _INVITE, code, extra)


def _stop(call: _Call, *, by_callee: bool = False) -> tuple[int, bytes]:
    at = call.answer_s + call.talk_s
    if by_callee:
        call = call._replace(from_tag=call.to_tag, to_tag=call.from_tag)
    return at, _packet(call, at, _STOP, _BYE, 200)


def _packet(
    call: _Call, at_s: int, status: int, method: int, code: int, extra: Sequence[tuple[int, str]] = ()
) -> bytes:
    """Return attributes in the order OpenSIPS sends them, without those that are empty; its setup time is the time."""
    pairs: list[tuple[int, int | str | bytes]] = [
        (_STATUS, status), (_SERVICE, _SIP_SESSION), (_CODE, code), (_METHOD, method), (_TIME, at_s),
        (_FROM_TAG, call.from_tag), (_TO_TAG, call.to_tag), (_CALL_ID, call.call_id), (_SETUP, at_s), (_CREATED, 0),
        *extra,
        (_NAS_PORT, 5060), (_DELAY, 0), (_NAS_IP, bytes(map(int, PROXY.split(".")))), (_NAS, "proxy-1"),
    ]  # fmt: skip
    return b"".join(_attribute(number, value) for number, value in pairs if value != "")


def _attribute(number: int, value: int | str | bytes) -> bytes:
    raw = value.to_bytes(4) if isinstance(value, int) else value.encode() if isinstance(value, str) else value
    return bytes([number, 2 + len(raw)]) + raw


class _Kind(NamedTuple):
    share: float  # of all calls
    made: Callable[[random.Random, Customer], _Call]
    tell: Callable[[_Call], Told]


_KINDS = {  # what is left over is of the first kind
    "answered, the caller hangs up": _Kind(0, _outbound, _answered),
    "answered, the callee hangs up": _Kind(0.20, _outbound, _answered_until_callee_ends),
    "incoming": _Kind(0.13, _inbound, _answered_until_callee_ends),
    "incoming, cancelled": _Kind(0.02, _inbound, _failed(487)),
    "between customers": _Kind(0.04, _on_net, _answered),
    "busy": _Kind(0.07, _outbound, _failed(486)),
    "cancelled": _Kind(0.075, _outbound, _failed(487)),
    "not answered": _Kind(0.06, _outbound, _failed(408)),
    "not found": _Kind(0.025, _outbound, _failed(404)),
    "unavailable": _Kind(0.015, _outbound, _failed(480)),
    "declined": _Kind(0.01, _outbound, _failed(603)),
    "refused by the carrier": _Kind(0.005, _outbound, _failed(503)),
    "busy, then another telephone": _Kind(0.02, _inbound, _forked(486)),
    "two telephones, one unreachable": _Kind(0.02, _inbound, _forked(480)),
    "refused by a carrier, then another": _Kind(0.01, _outbound, _forked(503)),
    "put on hold": _Kind(0.02, _outbound, _held),
    "forwarded": _Kind(0.015, _forwarded, _twice_through_the_proxy),
    "ended twice": _Kind(0.01, _outbound, _with_late_bye),
    "unrated number": _Kind(0.004, _unrated, _answered),
    "unknown caller": _Kind(0.003, _stranger, _answered),
    LOST_BYE: _Kind(0.003, _outbound, _without_end),
    LOST_START: _Kind(0.0015, _outbound, _without_beginning),
    MESSAGE: _Kind(0.02, _on_net, _message),
}
