"""Packets as Asterisk, FreeSWITCH and Cisco gateways send them, made after their sources and manuals."""

from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address

from tests.support.radius import SECRET, Attribute, request, vsa

START, STOP = 1, 2
GATEWAY = IPv4Address("198.51.100.9")


def asterisk(
    call_id: str, start: float, answer: float | None, end: float, *, disposition: str = "ANSWERED", **more: str
) -> bytes:
    """Return cdr_radius's Stop; times are epoch seconds. `more`: acc_code, src, dst, clid, chan, dst_chan."""
    said = {"acc_code": "acme", "src": "alice", "dst": "4915112345678", "clid": '"Alice" <alice>',
            "chan": "PJSIP/alice-0000002a", "dst_chan": "PJSIP/trunk-0000002b"} | more  # fmt: skip
    texts = ((101, said["acc_code"]), (102, said["src"]), (103, said["dst"]), (104, "from-inside"),
             (105, said["clid"]), (106, said["chan"]), (107, said["dst_chan"]), (108, "Dial"),
             (109, "PJSIP/4915112345678@trunk,60"), (110, _asterisk_time(start)),
             (111, _asterisk_time(answer or 0)), (112, _asterisk_time(end)))  # fmt: skip
    return request(
        SECRET, (40, STOP), *(vsa(22736, number, text) for number, text in texts if text),
        vsa(22736, 113, int(end) - int(start)), vsa(22736, 114, int(end - answer) if answer else 0),
        vsa(22736, 115, disposition), vsa(22736, 116, "DOCUMENTATION"), vsa(22736, 117, call_id),
        (1, said["chan"]), (44, call_id), (5, 0), (41, 0), (4, GATEWAY),
    )  # fmt: skip


def freeswitch(
    call_id: str, start: float, answer: float | None, end: float, *, cause: int = 16, direction: str = "inbound",
    offset: timedelta = timedelta(0),
) -> bytes:  # fmt: skip
    """Return mod_radius_cdr's Stop of a leg; times are epoch seconds, written in the host's zone."""
    bill_us = round((end - answer) * 1e6) if answer else 0
    dates = [(20, start), *([(21, answer)] if answer else []), (23, end)]
    return request(
        SECRET, (40, STOP), (44, call_id), vsa(27880, 13, cause), *_freeswitch_parties(),
        vsa(27880, 10, "bridge"), vsa(27880, 15, bill_us % 2**32),
        *(vsa(27880, number, freeswitch_date(at, offset)) for number, at in dates),
        (46, bill_us // 10**6), vsa(27880, 24, direction), (5, 0), (41, 0), (4, GATEWAY),
    )  # fmt: skip


def freeswitch_routing(call_id: str, start: float) -> bytes:
    """Return mod_radius_cdr's Start, which it sends before any answer."""
    return request(
        SECRET, (40, START), (44, call_id), *_freeswitch_parties(),
        vsa(27880, 20, freeswitch_date(start, timedelta(0))), (5, 0), (41, 0), (4, GATEWAY),
    )  # fmt: skip


def freeswitch_date(at: float, offset: timedelta) -> str:
    """Return a date as the module writes it: what is left of the offset's hour in seconds, all cut at 31 signs."""
    moment = datetime.fromtimestamp(round(at * 1e6) // 10**6, timezone(offset))
    seconds = int(offset.total_seconds())
    hours, rest = int(seconds / 3600), seconds - int(seconds / 3600) * 3600  # as C divides
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{round(at * 1e6) % 10**6:06d}{hours:+03d}{rest:02d}"[:31]


def cisco(
    status: int, origin: str, call_type: str, setup: float, connect: float | None = None, end: float | None = None,
    *, conf_id: str = "16000000 0 0 1234ABCD", cause: str = "10", remote: str = "", nas: str = "198.51.100.9",
    zone: str = "UTC", session_s: int | None = None, clock: str = "", vendor: int = 9, called: str = "4915112345678",
) -> bytes:  # fmt: skip
    """Return a gateway's report of one leg; times are epoch seconds."""
    told = [("h323-setup-time", 25, cisco_time(setup, zone, clock)), ("h323-gw-id", 33, "gw1")]
    told += [("h323-conf-id", 24, conf_id), ("h323-call-origin", 26, origin), ("h323-call-type", 27, call_type)]
    if connect is not None:
        told.append(("h323-connect-time", 28, cisco_time(connect, zone, clock)))
    if end is not None:
        told.append(("h323-disconnect-time", 29, cisco_time(end, zone, clock)))
        told.append(("h323-disconnect-cause", 30, cause))
    if remote:
        told.append(("h323-remote-address", 23, remote))
    attributes: list[Attribute] = [vsa(vendor, number, f"{name}={value}") for name, number, value in told]
    if status == STOP and session_s is None and connect is not None and end is not None:
        session_s = int(end - connect)
    if session_s is not None:
        attributes.append((46, session_s))
    return request(
        SECRET, (40, status), (44, f"{origin}-{nas}-{setup}"[:32]), (1, "34600123123"), (31, "34600123123"),
        (30, called), (4, IPv4Address(nas)), (41, 0), *attributes,
    )  # fmt: skip


def cisco_time(at: float, zone: str = "UTC", clock: str = "") -> str:
    """Return a time as Cisco writes it, of a clock that shows `at` in UTC."""
    moment = datetime.fromtimestamp(round(at * 1000) // 1000, UTC)
    return f"{clock}{moment:%H:%M:%S}.{round(at * 1000) % 1000:03d} {zone} {moment:%a %b %d %Y}".replace("  ", " ")


def _asterisk_time(at: float) -> str:
    return f"{datetime.fromtimestamp(int(at), UTC):%Y-%m-%d %H:%M:%S} +0000"


def _freeswitch_parties() -> list[Attribute]:
    return [
        (1, "alice"), vsa(27880, 4, "alice"), vsa(27880, 2, "Alice"), vsa(27880, 5, "4915112345678"),
        vsa(27880, 3, "XML"), (8, IPv4Address("192.0.2.10")), vsa(27880, 18, "default"), vsa(27880, 8, "alice"),
        vsa(27880, 19, "mod_sofia"),
    ]  # fmt: skip
