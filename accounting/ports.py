"""The sockets that a receiver's settings ask for, bound, and what it reads them with."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from accounting.base.config import ReceiverSettings
from accounting.base.sockets import Handed, bind_all, name_of
from accounting.radius.stream import StreamPort
from accounting.radius.tls import ServerContext, server_context
from accounting.radius.udp import Listener, UdpPort, listen


class Sockets(NamedTuple):
    """Bound sockets of one receiver, in the order of the settings."""

    udp: list[Listener]
    tcp: list[socket.socket]
    tls: list[socket.socket]

    def __str__(self) -> str:
        tcp, tls = ([f"{name_of(one)} ({kind})" for one in of] for kind, of in (("TCP", self.tcp), ("TLS", self.tls)))
        return ", ".join([*(listener.name for listener in self.udp), *tcp, *tls])

    def handed(self, settings: ReceiverSettings) -> tuple[Handed, ...]:
        """Return the sockets as a child process takes them, by the addresses that its settings name."""
        udp = [listener.socket.fileno() for listener in self.udp]
        streams = [one.fileno() for one in (*self.tcp, *self.tls)]
        asked = zip((*settings.listen_tcp, *settings.listen_tls), streams, strict=True)
        return (
            *(Handed("udp", address, fd) for address, fd in zip(settings.listen, udp, strict=True)),
            *(Handed("tcp", address, fd) for address, fd in asked),
        )

    def ports(self, settings: ReceiverSettings) -> tuple[list[UdpPort], StreamPort | None]:
        """Return what reads them; SettingsError if a file of TLS cannot be used."""
        udp = [UdpPort(listener.socket) for listener in self.udp]
        if not self.tcp and not self.tls:
            return udp, None
        return udp, StreamPort(self.tcp, self.tls, tls_context(settings))


@contextmanager
def open_sockets(settings: ReceiverSettings, place: int = 0, like: Sockets | None = None) -> Iterator[Sockets]:
    """Give the bound sockets and close them at the end. place: for which of several processes, the first is 0.

    like: those of the first process, whose port 0 has become one.
    """
    if like is not None:
        settings = settings.model_copy(
            update={
                "listen": [listener.name for listener in like.udp],
                "listen_tcp": [name_of(one) for one in like.tcp],
                "listen_tls": [name_of(one) for one in like.tls],
            }
        )
    made = Sockets([], [], [])
    try:
        made.udp.extend(listen(settings.listen, settings.receive_buffer_bytes, settings.processes, place))
        made.tcp.extend(bind_all("tcp", settings.listen_tcp, "[receiver] listen_tcp", settings.processes, place))
        made.tls.extend(bind_all("tcp", settings.listen_tls, "[receiver] listen_tls", settings.processes, place))
        yield made
    finally:
        for listener in made.udp:
            listener.socket.close()
        for one in (*made.tcp, *made.tls):
            one.close()


def tls_context(settings: ReceiverSettings) -> ServerContext | None:
    """Return the context of the settings' files, None if nothing listens for TLS; SettingsError names a bad file."""
    if not settings.listen_tls:
        return None
    certificate, key, ca = settings.tls_certificate, settings.tls_key, settings.tls_ca
    assert certificate is not None is not key
    assert ca is not None
    return server_context(certificate, key, ca, settings.tls_crl)
