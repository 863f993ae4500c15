"""`tollbook media`: one process that follows all `[[media]]` of the settings."""

import os
import selectors
import signal
from collections.abc import Sequence
from types import FrameType

import typer

from accounting.base.cli import ConfigOption
from accounting.base.config import load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import configure, get_logger
from accounting.base.watch import Watch
from accounting.db.engine import open_database
from accounting.media_log import MediaLog, UdpInbox

POLL_S = 1.0

app = typer.Typer()
log = get_logger("media")


@app.command()
def media(config: ConfigOption = None) -> None:
    """Store the CDR lines of rtpengine, from syslog over UDP or from a file, until SIGTERM or Ctrl-C.

    Example: tollbook media --config /etc/tollbook/tollbook.toml
    """
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    if not settings.media:
        raise TollbookError("no [[media]] in the settings; see docs/howto/rtpengine.md")
    with open_database(settings.database.url) as database:
        logs: list[MediaLog] = []
        try:
            for one in settings.media:
                logs.append(MediaLog(database, one))
                logs[-1].open()
            greeting = "following " + ", ".join(str(one.listen or one.file) for one in settings.media)
            log.info(greeting)
            _follow(logs)
        finally:
            for opened in logs:
                opened.close()
    log.info("stopped")


def _follow(logs: Sequence[MediaLog]) -> None:
    """Store what comes until a signal asks to stop; then what the sockets hold, for a file is read again."""
    wake, asked = _asked_to_stop()
    watch = Watch()
    watch.ready()
    with selectors.DefaultSelector() as selector:
        selector.register(wake, selectors.EVENT_READ)
        for one in logs:
            if isinstance(one.inbox, UdpInbox):
                selector.register(one.inbox.socket, selectors.EVENT_READ)
        while not asked:
            selector.select(POLL_S)
            watch.beat("; ".join(one.trouble for one in logs if one.trouble))
            for one in logs:
                while one.step() and not asked:
                    watch.beat()
    watch.stopping()
    for one in logs:
        while isinstance(one.inbox, UdpInbox) and one.step():
            pass


def _asked_to_stop() -> tuple[int, list[int]]:
    """Return what becomes readable at a signal that asks to stop, and a list that gets its number."""
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise SystemExit(1)
        asked.append(number)
        os.eventfd_write(wake, 1)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # receivers read their clients again; here it takes a restart
    return wake, asked
