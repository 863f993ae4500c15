"""`tollbook collect`: follows the proxies' SQL tables, a thread for each collector."""

import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from accounting.base.cli import ConfigOption
from accounting.base.config import Settings, load_settings
from accounting.base.errors import TollbookError
from accounting.base.log import configure, get_logger
from accounting.base.watch import Watch
from accounting.collector import Collector
from accounting.db.engine import Database, open_database

LEASE = "collect"
LEASE_WAIT_S = 10.0
STOP_S = 15.0
CRASH_WAIT_S = 10.0

app = typer.Typer()
log = get_logger("collector")


@app.command()
def collect(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Read what is there now, then end.")] = False,
) -> None:
    """Follow the SQL accounting tables of the [[collectors]] and store each new row, until SIGTERM or Ctrl-C.

    Example: tollbook collect --once --config /etc/tollbook/tollbook.toml
    """
    settings = load_settings(config)
    configure(settings.log.format == "json", settings.log.level)
    if not settings.collectors:
        raise TollbookError("there are no [[collectors]] in the settings: nothing to collect")
    with open_database(settings.database.url) as database, database.lease(LEASE, LEASE_WAIT_S):
        if once:
            _once(settings, database)
        else:
            _follow(settings, database)


def _once(settings: Settings, database: Database) -> None:
    problems = []
    for each in settings.collectors:
        collector = Collector(database, each)
        try:
            while collector.collect():
                pass
        except TollbookError as error:
            problems.append(str(error) if each.name in str(error) else f"collector {each.name}: {error}")
        finally:
            collector.close()
    if problems:
        raise TollbookError("\n".join(problems))


def _follow(settings: Settings, database: Database) -> None:
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(1)
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # receivers read their clients again; here it takes a restart
    collectors = [Collector(database, each) for each in settings.collectors]
    threads = [threading.Thread(target=_run, args=(one, stop), name=one.name, daemon=True) for one in collectors]
    for thread in threads:
        thread.start()
    names = ", ".join(each.name for each in settings.collectors)
    log.info("following", collectors=names)
    watch = Watch()
    watch.ready()
    while not stop.wait(1.0):
        if all(thread.is_alive() for thread in threads):
            watch.beat("; ".join(one.trouble for one in collectors if one.trouble))
    watch.stopping()
    for thread in threads:
        thread.join(STOP_S)
    log.info("stopped")


def _run(collector: Collector, stop: threading.Event) -> None:
    """Step one collector until it is asked to stop; the outermost loop of its thread."""
    try:
        while not stop.is_set():
            try:
                wait_s = collector.step()
            except Exception as error:
                log.exception("a poll failed", collector=collector.name, error=type(error).__name__)
                wait_s = CRASH_WAIT_S
            stop.wait(wait_s)
    finally:
        collector.close()
