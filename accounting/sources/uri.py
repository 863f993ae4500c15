"""SIP and tel URIs, name-addr forms and bare names -> user part and host part, as the source said them.

Does not unescape, normalise or judge: a strange user part stays strange. Pure, and takes any text.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

PARTS_CACHED = 8192

_SCHEME = re.compile(r"(sips?|tel|h323|im|pres):", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\[\s\S])*"')
_PLAIN_USER = re.compile(r"\+?[A-Za-z0-9]+")
_AFTER_USER = re.compile(r"[;?>]")
_AFTER_HOST = re.compile(r"[;?>/,\s]")


class _Parts(NamedTuple):
    user: str
    host: str


def user_part(uri: str) -> str:
    """Return the user part or number: all up to the @ without a password, a tel URI's number without its parameters.

    sip:o'brien;--%20x@h gives o'brien;--%20x, "Alice" <sip:alice@h>;tag=1 gives alice, 34600123123 itself;
    sip:127.0.0.3:5060 has none and gives "".
    """
    return _parts(addr_spec(uri)).user


def host_part(uri: str) -> str:
    """Return the host in lower case without port and parameters, an IPv6 literal without its brackets; "" if none."""
    return _parts(addr_spec(uri)).host


def address_of(uri: str) -> str:
    """Return user@host, or the user part alone where there is no host."""
    user, host = _parts(addr_spec(uri))
    return f"{user}@{host}" if user and host else user


def addr_spec(text: str) -> str:
    """Return what stands between < and > of a name-addr (RFC 3261 section 20.10), else the text itself."""
    text = text.strip()
    if text[:1] == '"':
        quoted = _QUOTED.match(text)
        if quoted is not None:
            text = text[quoted.end() :].strip()
    start = text.find("<")
    if start < 0:
        return text
    end = text.find(">", start)
    return text[start + 1 : end if end >= 0 else None].strip()


@lru_cache(maxsize=PARTS_CACHED)
def _parts(spec: str) -> _Parts:
    scheme = _SCHEME.match(spec)
    rest = spec if scheme is None else spec[scheme.end() :]
    if scheme is not None and scheme[1].lower() == "tel":
        return _Parts(_AFTER_USER.split(rest.partition("@")[0], maxsplit=1)[0].strip(), "")
    user, at, host = rest.partition("@")
    if at:
        return _Parts(user.partition(":")[0], _host(host))
    bare = _AFTER_USER.split(rest, maxsplit=1)[0].strip()
    if scheme is None:
        return _Parts(bare, "")
    if _PLAIN_USER.fullmatch(bare):  # sip:34600123123, as some gateways write it
        return _Parts(bare, "")
    return _Parts("", _host(rest))


def _host(text: str) -> str:
    text = text.strip()
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    host = _AFTER_HOST.split(text, maxsplit=1)[0]
    if host.count(":") > 1 and _is_ipv6(host):
        return host.lower()
    return host.partition(":")[0].rstrip(".").lower()


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
