"""RADIUS over TLS, RadSec (RFC 6614): the server's certificate, whose certificates it trusts, and their names.

Knows nothing of sockets or clients.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accounting.base.errors import SettingsError


class ServerContext(ssl.SSLContext):
    """How handshakes are done; trusted: the octets of the files that say whose certificates are good."""

    trusted = b""


def server_context(certificate: Path, key: Path, ca: Path, crl: Path | None = None) -> ServerContext:
    """Return a context that demands a certificate signed by one of `ca`; TLS 1.2 or later.

    All are PEM files. certificate: the server's own and those between it and its root. key: without a passphrase. crl:
    lists of certificates withdrawn, one of each issuer. SettingsError says which file is wrong.
    """
    files = {"certificate": certificate, "key": key, "ca": ca, "crl": crl}
    octets = {name: _read(f"[receiver] tls_{name}", path) for name, path in files.items()}
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.trusted = octets["ca"] + octets["crl"]
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # connections last: nothing is resumed
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except ssl.SSLError as error:
        raise SettingsError([f"[receiver] tls_certificate {certificate} with tls_key {key}: {_words(error)}"]) from None
    _trust(context, "ca", ca)
    if crl is not None:
        _trust(context, "crl", crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def names_of(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return a verified certificate's DNS names, or where it has none its common name, in small letters.

    certificate: as SSLSocket.getpeercert() gives it. RFC 6614 section 2.3, RFC 6125 section 6.4.4.
    """
    found = certificate or {}
    names = [value for kind, value in found.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        names = [value for part in found.get("subject", ()) for kind, value in part if kind == "commonName"]
    return tuple(name.lower() for name in names)


def _trust(context: ssl.SSLContext, name: str, path: Path) -> None:
    before = context.cert_store_stats()
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise SettingsError([f"[receiver] tls_{name} {path}: {_words(error)}"]) from None
    kind = "x509_ca" if name == "ca" else "crl"
    if context.cert_store_stats()[kind] == before[kind]:
        what = "certificate that may sign others (CA:TRUE)" if name == "ca" else "list of withdrawn certificates"
        raise SettingsError([f"[receiver] tls_{name} {path}: holds no {what}"])


def _read(setting: str, path: Path | None) -> bytes:
    """Return what is in a file, if there is one; the messages of OpenSSL name none."""
    try:
        return path.read_bytes() if path is not None else b""
    except OSError as error:
        raise SettingsError([f"{setting}: {path} cannot be read: {error.strerror}"]) from None


def _refuse_passphrase() -> str:
    raise ValueError("the key has a passphrase; take it away with: openssl pkey -in KEY -out NEW")


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", str(error))
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    is_other = reason in ("NO_START_LINE", "PEM_LIB", "NO_CERTIFICATE_OR_CRL_FOUND", None)
    return "is not PEM, or not of this kind" if is_other else str(reason)
