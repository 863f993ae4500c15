"""Several processes as one: their sockets, their metrics and health, and the supervisor that keeps them running."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from accounting.base.config import Settings
from accounting.base.log import get_logger
from accounting.ports import Sockets, open_sockets
from accounting.status_page import metrics_folder, status_page
from accounting.supervisor import Child, Supervisor, tollbook_command

log = get_logger(__name__)


@contextmanager
def receive_children(settings: Settings) -> Iterator[list[Child]]:
    """Give the receivers to run, each with bound sockets of its own, which stay open until the block ends."""
    number = settings.receiver.processes
    with ExitStack() as opened:
        children: list[Child] = []
        first: Sockets | None = None
        for place in range(number):
            sockets = opened.enter_context(open_sockets(settings.receiver, place, first))
            first = first or sockets
            name = f"receive-{place + 1}" if number > 1 else "receive"
            handed = sockets.handed(settings.receiver)
            children.append(Child(name, command("receive", settings), handed, reloads=True))
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
