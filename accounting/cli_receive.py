"""`tollbook receive`: one receiver process, from settings to the last reply."""

import gc
import signal
from collections.abc import Sequence
from types import FrameType

import typer

from accounting.base.cli import ConfigOption
from accounting.base.config import Settings, load_settings
from accounting.base.log import configure, get_logger
from accounting.base.watch import Watch, is_supervised
from accounting.db.engine import Database
from accounting.db.url import parse_url
from accounting.processes import receive_children, supervise
from accounting.radius.udp import Listener, UdpPort, listen
from accounting.receiver import Receiver
from accounting.reload import client_table, reload
from accounting.spool import SourceList, open_spooled_journal

DRAIN_S = 5.0
"""After a signal: how long what was received may take to be committed and answered."""

app = typer.Typer()
log = get_logger("receiver")


@app.command()
def receive(config: ConfigOption = None) -> None:
    """Receive accounting requests over UDP, store each in the journal and answer it, until SIGTERM or Ctrl-C.

    SIGHUP reads [[clients]] and their dictionaries again.

    Example: tollbook receive --config /etc/tollbook/tollbook.toml
    """
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    if not is_supervised() and (settings.receiver.processes > 1 or settings.metrics.listen):
        with receive_children(settings) as children:
            raise typer.Exit(supervise(children, settings))
    with Database(parse_url(settings.database.url), settings.spool.slow_s) as database:
        listeners = listen(settings.receiver.listen, settings.receiver.receive_buffer_bytes)
        try:
            _receive(settings, database, listeners)
        finally:
            for listener in listeners:
                listener.socket.close()


def _receive(settings: Settings, database: Database, listeners: Sequence[Listener]) -> None:
    limits = settings.receiver
    sources = SourceList()
    clients = client_table(settings.clients, sources)
    name = ", ".join(listener.name for listener in listeners)
    store = open_spooled_journal(database, name, sources, settings.spool.directory, settings.spool.bytes_max)
    receiver = Receiver(
        [UdpPort(listener.socket) for listener in listeners],
        clients,
        store,
        batch_max=limits.batch_max,
        pending_max=limits.pending_max,
        reply_cache_s=limits.reply_cache_s,
    )
    asked_to_stop, asked_to_reload = _on_signals(receiver)
    _greet(settings, listeners)
    watch = Watch()
    watch.ready()
    gc.freeze()  # what lives until the end is not searched for rubbish again and again
    try:
        while not asked_to_stop:
            receiver.step()
            watch.beat(receiver.trouble)
            if asked_to_reload:
                asked_to_reload.clear()
                if (clients_now := reload(settings, sources)) is not None:
                    receiver.replace_clients(clients_now)
        watch.stopping()
        log.info("stopping", requests_left=receiver.pending)
        left = receiver.drain(DRAIN_S)
    finally:
        receiver.close()
    if left:
        log.error("stopped with requests that could not be stored; they were not answered", requests=left)
    else:
        log.info("stopped")


def _on_signals(receiver: Receiver) -> tuple[list[int], list[int]]:
    """Return lists that get the numbers of signals that ask to stop, and to reload.

    An interrupt after one that asks to stop ends the process at once. A second SIGTERM does not: a service manager may
    tell all processes, and the supervisor then tells its children.
    """
    asked: list[int] = []
    reloads: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise SystemExit(1)
        asked.append(number)
        receiver.wake()

    def ask_reload(number: int, _frame: FrameType | None) -> None:
        reloads.append(number)
        receiver.wake()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGHUP, ask_reload)
    return asked, reloads


def _greet(settings: Settings, listeners: Sequence[Listener]) -> None:
    if not settings.clients:
        log.warning("no [[clients]] in the settings: everything that arrives is dropped")
    got = min(listener.buffer_bytes for listener in listeners)
    if got < settings.receiver.receive_buffer_bytes:
        log.warning(
            "the kernel gave a smaller receive buffer; raise net.core.rmem_max",
            asked_bytes=settings.receiver.receive_buffer_bytes,
            got_bytes=got,
        )
    greeting = "listening on " + ", ".join(listener.name for listener in listeners)
    log.info(greeting)
