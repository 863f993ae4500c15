"""An rtpengine that relays sound and tells of its calls as docs/howto/rtpengine.md shows, by way of an rsyslog."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.daemon import program, running
from tests.support.howto import block
from tests.support.load import free_port

RELAY = "127.0.2.30"
SILENCE_S = 6
"""So long without a packet, and it takes a call for dead."""
MODULES = 'loadmodule "rtpengine.so"'


class Relay(NamedTuple):
    """One that runs: what Kamailio is to load and to do for it, and where its CDR lines go."""

    modules: str
    media: str
    file: Path
    udp: tuple[str, int]


@contextmanager
def rtpengine(folder: Path) -> Iterator[Relay]:
    """Run one, and the rsyslog that writes its CDR lines to a file and sends them to a UDP address."""
    folder.mkdir()
    control = (RELAY, free_port())
    relay = Relay(
        block("rtpengine", MODULES, {"192.0.2.30:2223": f"{RELAY}:{control[1]}"}),
        block("rtpengine", "rtpengine_manage", {}),
        folder / "cdr.log",
        ("127.0.0.1", free_port()),
    )
    changes = {
        "192.0.2.30:2223": f"{RELAY}:{control[1]}",
        "192.0.2.30": RELAY,
        "\ntimeout = 60\n": f"\ntimeout = {SILENCE_S}\n",
    }
    settings = folder / "rtpengine.conf"
    settings.write_text(block("rtpengine", "log-facility-cdr", changes))
    log = folder / "syslog"
    command = [
        "env", f"LD_PRELOAD={_built(folder)}", f"SYSLOG_SOCKET={log}", program("rtpengine", "rtpengine-daemon"),
        "--config-file", str(settings), "--foreground", "--num-threads", "2", "--delete-delay", "0",
    ]  # fmt: skip
    with (
        _rsyslog(folder, log, relay),
        running(command, folder / "rtpengine.log", lambda: _answers(control), cwd=folder),
    ):
        yield relay


@contextmanager
def _rsyslog(folder: Path, log: Path, relay: Relay) -> Iterator[None]:
    changes = {"/var/log/rtpengine-cdr.log": str(relay.file), "192.0.2.20:5514": f"{relay.udp[0]}:{relay.udp[1]}"}
    settings = folder / "rsyslog.conf"
    settings.write_text(
        "$MaxMessageSize 64k\n"
        'module(load="imuxsock" SysSock.Use="off")\n'
        f'input(type="imuxsock" Socket="{log}" RateLimit.Interval="0")\n'
        + block("rtpengine", "@192.0.2.20:5514", changes)
    )
    command = [program("rsyslogd", "rsyslog"), "-n", "-f", str(settings), "-i", str(folder / "rsyslog.pid")]
    with running(command, folder / "rsyslog.log", log.exists, cwd=folder):
        yield


def _built(folder: Path) -> Path:
    built = folder / "syslog.so"
    source = Path(__file__).with_name("syslog.c")
    command = [program("gcc", "gcc libc6-dev"), "-shared", "-fPIC", "-o", str(built), str(source)]
    subprocess.run(command, check=True)
    return built


def _answers(at: tuple[str, int]) -> bool:
    """Return whether it answers a ping of its control protocol: a cookie, then a bencoded dictionary."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(TimeoutError, ConnectionRefusedError):
        sock.settimeout(0.2)
        sock.connect(at)
        sock.send(b"1 d7:command4:pinge")
        return b"pong" in sock.recv(4096)
    return False
