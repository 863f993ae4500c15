"""`tollbook receive`: one receiver process, from settings to the last reply."""

import gc
import signal
from types import FrameType

import typer

from accounting.base.cli import ConfigOption
from accounting.base.config import Settings, load_settings
from accounting.base.log import configure, get_logger
from accounting.base.watch import Watch, is_supervised
from accounting.db.engine import Database
from accounting.db.url import parse_url
from accounting.ports import Sockets, open_sockets
from accounting.processes import receive_children, supervise
from accounting.receiver import Receiver
from accounting.reload import client_table, reload
from accounting.spool import SourceList, open_spooled_journal

DRAIN_S = 5.0
"""After a signal: how long what was received may take to be committed and answered."""

app = typer.Typer()
log = get_logger("receiver")


@app.command()
def receive(config: ConfigOption = None) -> None:
    """Receive accounting requests over UDP, TCP and TLS, store each in the journal and answer it.

    Until SIGTERM or Ctrl-C. SIGHUP reads [[clients]], their dictionaries and the certificates again.

    Example: tollbook receive --config /etc/tollbook/tollbook.toml
    """
    reloads: list[int] = []
    signal.signal(
        signal.SIGHUP, lambda number, _frame: reloads.append(number)
    )  # else one that comes early would end us
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    if not is_supervised() and (settings.receiver.processes > 1 or settings.metrics.listen):
        with receive_children(settings) as children:
            raise typer.Exit(supervise(children, settings))
    with (
        Database(parse_url(settings.database.url), settings.spool.slow_s) as database,
        open_sockets(settings.receiver) as sockets,
    ):
        _receive(settings, database, sockets, reloads)


def _receive(settings: Settings, database: Database, sockets: Sockets, asked_to_reload: list[int]) -> None:
    limits = settings.receiver
    sources = SourceList()
    clients = client_table(settings.clients, sources)
    udp, streams = sockets.ports(limits)
    store = open_spooled_journal(database, str(sockets), sources, settings.spool.directory, settings.spool.bytes_max)
    receiver = Receiver(
        [*udp, *([streams] if streams else [])],
        clients,
        store,
        batch_max=limits.batch_max,
        pending_max=limits.pending_max,
        reply_cache_s=limits.reply_cache_s,
    )
    asked_to_stop = _on_signals(receiver, asked_to_reload)
    _greet(settings, sockets)
    watch = Watch()
    watch.ready()
    gc.freeze()  # what lives until the end is not searched for rubbish again and again
    try:
        while not asked_to_stop:
            receiver.step()
            watch.beat(receiver.trouble)
            if asked_to_reload:
                asked_to_reload.clear()
                if (now := reload(settings, sources)) is not None:
                    receiver.replace_clients(now.clients)
                    if streams and now.tls:
                        streams.renew(now.tls)
        watch.stopping()
        log.info("stopping", requests_left=receiver.pending)
        left = receiver.drain(DRAIN_S)
    finally:
        receiver.close()
        if streams:
            streams.close()
    if left:
        log.error("stopped with requests that could not be stored; they were not answered", requests=left)
    else:
        log.info("stopped")


def _on_signals(receiver: Receiver, reloads: list[int]) -> list[int]:
    """Return a list that gets the numbers of signals that ask to stop; `reloads` gets those that ask to reload.

    An interrupt after one that asks to stop ends the process at once. A second SIGTERM does not: a service manager may
    tell all processes, and the supervisor then tells its children.
    """
    asked: list[int] = []

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
    return asked


def _greet(settings: Settings, sockets: Sockets) -> None:
    if not settings.clients:
        log.warning("no [[clients]] in the settings: everything that arrives is dropped")
    got = min((listener.buffer_bytes for listener in sockets.udp), default=settings.receiver.receive_buffer_bytes)
    if got < settings.receiver.receive_buffer_bytes:
        log.warning(
            "the kernel gave a smaller receive buffer; raise net.core.rmem_max",
            asked_bytes=settings.receiver.receive_buffer_bytes,
            got_bytes=got,
        )
    greeting = f"listening on {sockets}"
    log.info(greeting)
