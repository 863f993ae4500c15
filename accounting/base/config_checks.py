"""Checks of single settings: each returns the value in canonical form, or raises ValueError without a secret in it."""

import re
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_URL = re.compile(r"(sqlite(\+pysqlite)?:///.+|(mysql|mariadb)(\+mysqldb)?://[^/]*/.+)")
_COUNTRY = re.compile(r"[A-Z]{2}")
_COLUMN = re.compile(r"[A-Za-z0-9_$]{1,64}")
COLUMNS_OF = (
    "caller", "called", "translated", "source_ip", "auth_user", "billing_party", "from_user", "divert_reason",
    "time_s", "time_us",
    "id", "method", "from_tag", "to_tag", "callid", "sip_code", "time",
    "duration", "ms_duration", "setuptime", "created", "start_time", "end_time",
)  # fmt: skip
"""What a collector's `columns` may name: parties, epoch times, and the proxy's own columns where they were renamed."""


def whole_number(value: Any) -> Any:
    """Refuse true and 1.0 where a whole number is meant; text comes from the environment."""
    if isinstance(value, bool | float):
        raise ValueError("is not a whole number")
    return value


def listen_address(value: Any) -> str:
    """Return an address to listen on, like 127.0.0.1:1813 or [::1]:1813."""
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is None or int(match["port"]) > 65535:
            raise ValueError
        host = ip_address(match["v6"] or match["v4"])
        if (host.version == 6) != (match["v6"] is not None):
            raise ValueError
    except ValueError:
        raise ValueError(f"{value!r} is not an address and port like 127.0.0.1:1813 or [::1]:1813") from None
    return f"[{host}]:{int(match['port'])}" if host.version == 6 else f"{host}:{int(match['port'])}"


def network(value: Any) -> str:
    """Return a host's address or a network in CIDR form."""
    if not isinstance(value, str):
        raise ValueError("is not an address or network like 192.0.2.1 or 192.0.2.0/24")
    try:
        return str(ip_network(value))
    except ValueError:
        pass
    try:
        wider = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not an address or network like 192.0.2.1 or 192.0.2.0/24") from None
    raise ValueError(f"{value!r} is not the first address of its network; write {wider} or {value.split('/')[0]}")


def address(value: Any) -> str:
    """Return an IP address."""
    try:
        if isinstance(value, str):
            return str(ip_address(value))
    except ValueError:
        pass
    raise ValueError(f"{value!r} is not an IP address")


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def timezone(value: Any) -> str:
    """Return the name of a time zone that this machine knows."""
    try:
        if isinstance(value, str) and value in _zones():
            return ZoneInfo(value).key
    except (ValueError, OSError):
        pass
    raise ValueError(f"{value!r} is not a time zone like UTC or Europe/Berlin")


def country(value: Any) -> str:
    """Return a country's ISO 3166 code that the numbering plans know, or ''."""
    if value == "":
        return ""
    if isinstance(value, str) and _COUNTRY.fullmatch(value):
        from phonenumbers import SUPPORTED_REGIONS

        if value in SUPPORTED_REGIONS:
            return value
    raise ValueError(f"{value!r} is not a country code of two capital letters like DE")


def start(value: Any) -> str:
    """Return where a collector begins: all, now, or an instant with its offset."""
    if value in ("all", "now"):
        return str(value)
    try:
        # TOML has instants of its own
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if instant.tzinfo is not None:
            return instant.isoformat()
    except (TypeError, ValueError):
        pass
    raise ValueError("is not all, now, or an instant with its offset like 2026-11-24T07:07:43Z")


def database_url(value: Any) -> str:
    """Return a database URL of a kind that Tollbook uses; its text may hold a password and is not shown."""
    if isinstance(value, str) and _URL.fullmatch(value):
        return value
    raise ValueError("is not a database URL like sqlite:///FILE or mysql://USER@HOST/DATABASE")


def certificate_name(value: Any) -> str:
    """Return the name in a certificate in small letters: a DNS name, or a common name without white space around."""
    if isinstance(value, str) and value and value == value.strip() and len(value) <= 255 and "*" not in value:
        return value.lower()
    raise ValueError("is not a name in a certificate like proxy-1.example.net")


def column_name(value: Any) -> str:
    """Return the name of an SQL column."""
    if isinstance(value, str) and _COLUMN.fullmatch(value):
        return value
    raise ValueError(f"{value!r} is not the name of a column")


def column_of(value: Any) -> str:
    """Return one of the names that a collector's columns may stand for."""
    if value in COLUMNS_OF:
        return str(value)
    raise ValueError(f"{value!r} is not one of {', '.join(COLUMNS_OF)}")
