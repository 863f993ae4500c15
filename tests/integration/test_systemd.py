"""The units hold what they promise, and the service tells systemd how it is."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.support.daemon import program, state, wait_until
from tests.support.service import PATIENCE_S, ROOT, Service

UNITS = ROOT / "packaging" / "systemd"
EXPOSURE_MAX = 1.5
"""As `systemd-analyze security` counts it: 10 is a service without any protection."""


class Manager:
    """What systemd would hear of a service: a real NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(PATIENCE_S)

    def hear(self, *wanted: str) -> dict[str, str]:
        """Return the next message that has all these lines."""
        end = monotonic() + PATIENCE_S
        while monotonic() < end:
            lines = self._socket.recv(4096).decode().splitlines()
            if set(wanted) <= set(lines):
                return dict(line.partition("=")[::2] for line in lines)
        raise AssertionError(f"never heard {wanted}")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as folder:  # pytest's are too long for a socket's address
        one = Manager(Path(folder))
        try:
            yield one
        finally:
            one.close()


def test_service_is_ready_only_when_it_can_store_and_tells_its_watchdog(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    with manager() as systemd:
        with service.running(variables={"NOTIFY_SOCKET": str(systemd.path)}, until_ready=False):
            systemd.hear("READY=1")
            assert service.get("/readyz/receive")[0] == 200
            systemd.hear("READY=1", "WATCHDOG=1", "STATUS=well")
            os.kill(service.pid("schedule"), signal.SIGKILL)
            told = systemd.hear("STATUS=schedule: is not running")
            assert "WATCHDOG" in told  # the supervisor mends it
            systemd.hear("STATUS=well")
            service.process.terminate()
            systemd.hear("STOPPING=1")
        assert service.process.returncode == 0


def test_watchdog_is_silent_when_the_supervisor_hangs(sqlite_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path, sqlite_url)
    with manager() as systemd, service.running(variables={"NOTIFY_SOCKET": str(systemd.path)}):
        systemd.hear("WATCHDOG=1")
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: state(service.process.pid) == "T", "it has stopped")
            systemd._socket.setblocking(False)
            with suppress(BlockingIOError):
                while True:  # what was sent before
                    systemd._socket.recv(4096)
            systemd._socket.settimeout(2.5)
            with pytest.raises(TimeoutError):
                systemd._socket.recv(4096)
        finally:
            os.kill(service.process.pid, signal.SIGCONT)


def test_receiver_alone_tells_too(sqlite_url: str, tmp_path: Path) -> None:
    config = tmp_path / "alone.toml"
    config.write_text(f'[database]\nurl = "{sqlite_url}"\n[receiver]\nlisten = ["127.0.0.1:0"]\n')
    command = [sys.executable, "-m", "tollbook", "receive", "--config", str(config)]
    with manager() as systemd:
        environment = os.environ | {"NOTIFY_SOCKET": str(systemd.path)}
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
        systemd.hear("READY=1")
        systemd.hear("WATCHDOG=1", "STATUS=well")
        process.terminate()
        systemd.hear("STOPPING=1")
        assert process.wait(PATIENCE_S) == 0


def units(folder: Path) -> list[Path]:
    """Return the units as they are, but for the folder that this Tollbook is installed in."""
    made = []
    for unit in sorted(UNITS.iterdir()):
        made.append(folder / unit.name)
        made[-1].write_text(unit.read_text().replace("/opt/tollbook/.venv/bin", str(Path(sys.executable).parent)))
    return made


def analyze(*words: str) -> str:
    """Run systemd-analyze, which must find nothing, and return what it prints."""
    command = [program("systemd-analyze", "systemd"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_units_are_valid(tmp_path: Path) -> None:
    found = analyze("verify", "--man=no", *map(str, units(tmp_path)))
    assert "tollbook" not in found, found  # it may complain of units that Debian's packages brought


def test_service_is_hardly_exposed(tmp_path: Path) -> None:
    [service] = [unit for unit in units(tmp_path) if unit.suffix == ".service"]
    analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", str(service))
