"""RADIUS over TLS, RadSec (RFC 6614): the server's certificate, whose certificates it trusts, and their names.

Knows nothing of sockets or clients.
"""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from accounting.base.errors import SettingsError

_RECORD_BYTES = 16384


class ServerContext(ssl.SSLContext):
    """How handshakes are done; trusted: the octets of the files that say whose certificates are good."""

    trusted = b""


class Session:
    """The server's side of one connection, in memory: it takes and gives octets of the wire.

    What it does is bounded by the octets that it is given. A socket of its own would go on for as long as a peer sends
    records that hold no data (RFC 8446 section 4.6.3). names: the certificate's, once the handshake is over.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.is_shaking = True
        self.has_ended = False
        self.names: tuple[str, ...] = ()

    def receive(self, octets: bytes) -> bytes:
        """Take octets off the wire and return the data in them, none before the handshake is over; or ssl.SSLError."""
        self._incoming.write(octets)
        data = b""
        try:
            if self.is_shaking:
                self._tls.do_handshake()
                self.is_shaking = False
                self.names = names_of(self._tls.getpeercert())
            while found := self._tls.read(_RECORD_BYTES):
                data += found
            self.has_ended = True  # the peer has said goodbye
        except ssl.SSLWantReadError:
            pass
        return data

    def send(self, data: bytes) -> None:
        """Make octets for the wire of data; after the handshake."""
        while data:
            data = data[self._tls.write(data) :]

    def end(self) -> None:
        """Say goodbye, and do not wait for an answer."""
        if not self.is_shaking:
            with suppress(ssl.SSLError):
                self._tls.unwrap()

    def outgoing(self) -> bytes:
        """Return the octets that are to be sent, once."""
        return self._outgoing.read()


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
    context.num_tickets = 0  # connections last: nothing is resumed, by TLS 1.3 or, the next line, 1.2
    context.options |= ssl.OP_NO_TICKET
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except ValueError:  # of _refuse_passphrase
        mend = "openssl pkey -in KEY -out NEW"
        raise SettingsError([f"[receiver] tls_key {key}: has a passphrase; take it away with: {mend}"]) from None
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
    raise ValueError


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", str(error))
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    is_other = reason in ("NO_START_LINE", "PEM_LIB", "NO_CERTIFICATE_OR_CRL_FOUND", None)
    return "is not PEM, or not of this kind" if is_other else str(reason)
