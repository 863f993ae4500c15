"""Several processes as one: their sockets, their metrics and health, and the supervisor that keeps them running."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from accounting.base.config import Settings
from accounting.base.log import get_logger
from accounting.base.sockets import Handed
from accounting.radius.udp import Listener, listen
from accounting.status_page import metrics_folder, status_page
from accounting.supervisor import Child, Supervisor, tollbook_command

log = get_logger(__name__)


@contextmanager
def receive_children(settings: Settings) -> Iterator[list[Child]]:
    """Give the receivers to run, each with bound sockets of its own, which stay open until the block ends."""
    number = settings.receiver.processes
    with ExitStack() as opened:
        children: list[Child] = []
        addresses: Sequence[str] = settings.receiver.listen
        for place in range(number):
            listeners = listen(addresses, settings.receiver.receive_buffer_bytes, number, place)
            for listener in listeners:
                opened.callback(listener.socket.close)
            addresses = [listener.name for listener in listeners]  # port 0 has become one
            name = f"receive-{place + 1}" if number > 1 else "receive"
            children.append(Child(name, command("receive", settings), _handed(settings, listeners), reloads=True))
            if number > 1 and settings.database.url.startswith("sqlite"):
                log.warning("several receivers on SQLite wait for each other: one alone is faster", processes=number)
        yield children


def command(word: str, settings: Settings) -> tuple[str, ...]:
    """Return the words of a tollbook command with these settings."""
    return tollbook_command(word, *(("--config", str(settings.path)) if settings.path else ()))


def supervise(children: Sequence[Child], settings: Settings) -> int:
    """Run children until a signal asks to stop, and serve their metrics and health if the settings say where."""
    if settings.metrics.listen is None:
        return Supervisor(children).run()
    with metrics_folder() as folder:
        supervisor = Supervisor(children, folder)
        with status_page(settings.metrics.listen, folder, supervisor.health) as page:
            log.info("serving metrics and health", address=page)
            return supervisor.run()


def _handed(settings: Settings, listeners: Sequence[Listener]) -> tuple[Handed, ...]:
    asked = zip(settings.receiver.listen, listeners, strict=True)
    return tuple(Handed("udp", address, listener.socket.fileno()) for address, listener in asked)
