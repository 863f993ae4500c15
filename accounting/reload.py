"""What SIGHUP does to a receiver: the clients of the settings file, as it is now, in the place of those before.

A file with a mistake is refused as a whole, and said. What else has changed in it needs a restart: that is said too.
"""

from collections.abc import Sequence

from accounting.base.config import ClientSettings, Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import get_logger
from accounting.radius.clients import Client, ClientTable, network_of
from accounting.radius.source_version import source_version
from accounting.spool import SourceList

NEED_RESTART = ("database", "receiver", "spool", "metrics", "log")
"""Settings that a receiver reads at its start only."""

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
        )
        for client in clients
    ]


def reload(settings: Settings, sources: SourceList) -> ClientTable | None:
    """Return who may send by the settings as they are now, None if they have a mistake; `settings` are in force."""
    try:
        new = load_settings(settings.path)
        table = client_table(new.clients, sources)
    except TollbookError as error:
        log.error("the settings have mistakes; the clients stay as they were", mistakes=str(error).splitlines())
        return None
    changed = [name for name in NEED_RESTART if getattr(new, name) != getattr(settings, name)]
    if changed:
        log.warning("these settings have changed and need a restart", sections=changed)
    log.info("clients loaded again", clients=len(new.clients))
    return table
