"""A real FreeRADIUS, configured as docs/howto/freeradius.md shows, keeps Kamailio's reports while Tollbook is away.

Tollbook hears of the answer, is stopped before the call ends, and gets the BYE when it is back.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copy

import pytest
from sqlalchemy import make_url

from tests.support import sipp
from tests.support.daemon import listens, program, running, wait_until
from tests.support.howto import block
from tests.support.kamailio import kamailio, make_tables, to
from tests.support.load import free_port
from tests.support.mariadb import Server
from tests.support.operator import PRICE_PER_S, Operator

DATA = Path(__file__).parents[1] / "data/freeradius/keeping.conf"
SERVER, PROXY, CALLERS, CALLED = (f"127.0.7.{number}" for number in range(1, 5))
NUMBER = "+4930123459000"
PATIENCE_S = 60


def test_what_came_while_tollbook_was_away_is_delivered_and_charged_once(
    tmp_path: Path, sqlite_template: Path, mariadb_server: Server
) -> None:
    database = make_url(mariadb_server.create())
    make_tables(database)
    operator = Operator(
        tmp_path / "tollbook", sqlite_template, block("kamailio", "[[clients]]", {"192.0.2.11": SERVER})
    )
    server, proxy, called = ((host, free_port()) for host in (SERVER, PROXY, CALLED))
    kept = tmp_path / "server/kept"
    with ExitStack() as stack:
        stack.enter_context(_freeradius(tmp_path / "server", server, operator.address))
        stack.enter_context(kamailio(tmp_path / "proxy", proxy, server, {NUMBER: to(called)}, database))
        stack.enter_context(sipp.answering("uas_answers", tmp_path, called, "-d", "500"))
        with operator.receiving():
            call = sipp.calling(
                "uac_hangs_up", tmp_path, "call", proxy, CALLERS, "-s", NUMBER, "-key", "caller", "call", "-d", "6000"
            )
            stack.callback(call.kill)
            wait_until(lambda: operator.stored() == 1, "the answer is reported")
        sipp.done(call, tmp_path, "call")
        wait_until(lambda: any(kept.iterdir()), "the BYE is kept")
        assert operator.stored() == 1
        with operator.receiving():
            wait_until(lambda: operator.stored() >= 2 and not any(kept.iterdir()), "all is delivered", PATIENCE_S)
    [truth] = sipp.truths(sipp.messages(tmp_path, "call"))
    operator.sell(to={"acme": ("--ip", CALLERS)}, buy_of=("--ip", CALLED))
    [row] = operator.cdrs()
    wanted = {
        "call_id": truth.call_id, "from_tag": truth.from_tag, "to_tag": truth.to_tag, "source_ip": CALLERS,
        "called_number": NUMBER, "stop_cause": "bye", "released_by": "caller", "account": "acme", "exception": "",
    }  # fmt: skip
    assert {key: row[key] for key in wanted} == wanted
    assert truth.duration_ms is not None
    assert abs(int(row["duration_ms"]) - truth.duration_ms) <= 1_100
    assert float(row["price"]) == pytest.approx(-(-int(row["duration_ms"]) // 1_000) * PRICE_PER_S)


@contextmanager
def _freeradius(folder: Path, at: tuple[str, int], tollbook: tuple[str, int]) -> Iterator[None]:
    (folder / "kept").mkdir(parents=True)
    home = f"    ipaddr = {tollbook[0]}\n    port = {tollbook[1]}\n    src_ipaddr = {at[0]}\n"
    changes = {"    ipaddr = 192.0.2.20\n    port = 1813\n": home}
    (folder / "proxy.conf").write_text(block("freeradius", "home_server tollbook-kept {", changes))
    (folder / "kept-module.conf").write_text(block("freeradius", "detail kept {", {}))
    (folder / "kept-server.conf").write_text(block("freeradius", "server kept {", {}))
    (folder / "dictionary").write_text(block("freeradius", "ATTRIBUTE  Source-IP", {}))
    (folder / "places.conf").write_text(
        f"prefix = /usr\nraddbdir = {folder}\nown_address = {at[0]}\nown_port = {at[1]}\n"
    )
    copy(DATA, folder / "radiusd.conf")
    command = [program("freeradius", "freeradius"), "-f", "-l", "stdout", "-n", "radiusd", "-d", str(folder)]
    with running(command, folder / "log", lambda: listens(at), cwd=folder):
        yield
