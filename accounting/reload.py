"""What SIGHUP does to a receiver: the clients and certificates of the settings file, as it is now, instead of before's.

A file with a mistake is refused as a whole, and said. What else has changed in it needs a restart: that is said too.
"""

from collections.abc import Sequence
from typing import NamedTuple

from accounting.base.config import ClientSettings, Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.ports import tls_context
from accounting.radius.clients import Client, ClientTable, network_of
from accounting.radius.source_version import source_version
from accounting.radius.tls import ServerContext
from accounting.spool import SourceList

RENEWED = frozenset(("tls_certificate", "tls_key", "tls_ca", "tls_crl"))
"""Settings of the receiver that come into force too."""

log = get_logger("receiver")


def client_table(clients: Sequence[ClientSettings], sources: SourceList) -> ClientTable:
    """Return who may send, each client's settings as one of the sources."""
    return ClientTable(clients_of(clients, sources))


def clients_of(clients: Sequence[ClientSettings], sources: SourceList) -> list[Client]:
    """Return the clients of the settings in their order, each client's settings as one of the sources."""
    return [
        Client(
            client.name,
            network_of(client.address),
            client.secret.get_secret_value().encode(),
            sources.add(source_version(client)),
            client.secret_next.get_secret_value().encode() if client.secret_next else b"",
            client.require_message_authenticator,
            client.certificate,
            client.requests_per_s_max,
        )
        for client in clients
    ]


class Reloaded(NamedTuple):
    """What has come into force: who may send, and by which certificates, None if nothing listens for TLS."""

    clients: ClientTable
    tls: ServerContext | None


def reload(settings: Settings, sources: SourceList) -> Reloaded | None:
    """Return what the settings say now, None if they have a mistake; `settings` were read at the start."""
    try:
        new = load_settings(settings.path)
        made = Reloaded(client_table(new.clients, sources), tls_context(new.receiver))
    except TollbookError as error:
        log.error("the settings have mistakes; the clients stay as they were", mistakes=str(error).splitlines())
        return None
    if changed := _need_restart(settings, new):
        log.warning("these settings have changed and need a restart", sections=changed)
    log.info("clients loaded again", clients=len(new.clients))
    return made


def _need_restart(old: Settings, new: Settings) -> list[str]:
    """Return the sections that have changed and are read at the start only, by receivers or by others."""
    held = {"receiver": new.receiver.model_copy(update={name: getattr(old.receiver, name) for name in RENEWED})}
    return [
        name
        for name in Settings.model_fields
        if name != "clients" and held.get(name, getattr(new, name)) != getattr(old, name)
    ]
