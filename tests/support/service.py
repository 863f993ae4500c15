"""`tollbook serve` or `receive` with its children, as a test starts and asks it."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any

from tests.support.daemon import wait_until
from tests.support.load import free_port
from tests.support.radius import SECRET

PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]


class Service:
    """A running command of several processes; port: of its receiver, page: of its metrics and health."""

    def __init__(self, folder: Path, url: str, more: str = "", *, processes: int = 1) -> None:
        self.port = free_port()
        self.page = free_port(SOCK_STREAM)
        self.config = folder / "service.toml"
        self.config.write_text(
            f'[database]\nurl = "{url}"\n[receiver]\nlisten = ["127.0.0.1:{self.port}"]\nprocesses = {processes}\n'
            f'[metrics]\nlisten = "127.0.0.1:{self.page}"\n[worker]\ninterval_s = 1\n'
            f'[[clients]]\nname = "proxy-1"\naddress = "127.0.0.0/8"\nsecret = "{SECRET.decode()}"\n{more}'
        )
        self._log = folder / "service.log"
        self.process: subprocess.Popen[bytes]

    def command(self, word: str) -> list[str]:
        """Return the words of a tollbook command with the settings."""
        return [sys.executable, "-m", "tollbook", word, "--config", str(self.config)]

    def said(self) -> str:
        """Return what all its processes said so far."""
        return self._log.read_text()

    @contextmanager
    def running(
        self,
        word: str = "serve",
        *,
        variables: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
        until_ready: bool = True,
    ) -> Iterator[None]:
        """Run the command, once it is ready, until the block ends; then it must stop by itself."""
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [*launcher, *self.command(word)], stderr=out, stdout=out, cwd=ROOT,
                env=os.environ | dict(variables or {}),
            )  # fmt: skip
        try:
            if until_ready:
                self.wait(lambda: self.get("/readyz")[0] == 200, "it is ready")
            yield
        finally:
            self.process.terminate()
            self.process.wait(PATIENCE_S)

    def wait(self, true: Any, what: str) -> None:
        """Wait until something is true while it runs."""
        wait_until(lambda: self.process.poll() is not None or true(), what, PATIENCE_S)
        assert self.process.poll() is None, self.said()

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page, (0, "") while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page}{path}", timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def pid(self, name: str) -> int:
        """Return the process id of a child, 0 while it is not there."""
        return int(json.loads(self.get("/healthz")[1])["processes"][name]["pid"] or 0)

    def wait_for_another(self, name: str, pid: int) -> None:
        """Wait until another process than this one is the child of that name, and all are ready."""
        self.wait(lambda: self.pid(name) not in (0, pid) and self.get("/readyz")[0] == 200, f"another {name} is ready")

    def metric(self, sample: str) -> float:
        """Return a sample of /metrics as it is written there, 0 if there is none."""
        for line in self.get("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0
