"""Metrics and health over HTTP, served by a supervisor beside its loop: /metrics, /healthz, /readyz.

Read-only, without authentication: for loopback or a network of the operator's own.
"""

import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import rmtree
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from accounting.base.errors import TollbookError
from accounting.base.metrics import SUPERVISOR_READY, SUPERVISOR_RESTARTS
from accounting.base.sockets import show_address, split_address
from accounting.supervisor import Health

REQUESTS_MAX = 16
"""Connections served at once; more are closed unanswered."""
REQUEST_S = 5.0
"""So long a silent client is waited for."""
PREFIX = "tollbook-metrics-"

Healths = Callable[[], Sequence[Health]]


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """Give a folder for the children's values, in memory where the system has such a place, and remove it at the end.

    What supervisors that were killed left behind is removed too: a lock on the folder ends with its process.
    """
    base = _in_memory()
    for found in base.glob(f"{PREFIX}*"):
        _remove_left_behind(found)
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=base))
    lock = os.open(made, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = made.rename(made.with_name(made.name[1:]))  # found by others only now that it is locked
    try:
        yield folder
    finally:
        os.close(lock)
        rmtree(folder, ignore_errors=True)


@contextmanager
def status_page(address: str, folder: Path, health: Healths) -> Iterator[str]:
    """Serve the page from threads of its own until the block ends; give its address. TollbookError if it cannot."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(SUPERVISOR_READY)
    registry.register(SUPERVISOR_RESTARTS)
    try:
        server = _Server(split_address(address), registry, health)
    except OSError as error:
        words = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise TollbookError(f"cannot serve metrics on {address}: {words}; change [metrics] listen") from error
    thread = threading.Thread(target=server.serve_forever, name="status page", daemon=True)
    thread.start()
    try:
        yield "http://" + show_address(*server.socket.getsockname()[:2])
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, place: tuple[str, int], registry: CollectorRegistry, health: Healths) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self.registry = registry
        self.health = health
        self._free = threading.BoundedSemaphore(REQUESTS_MAX)
        super().__init__(place, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is none of our business."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: _Server
    server_version = "tollbook"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path == "/metrics":
            self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))
        elif path == "/healthz":
            self._tell([(one, "" if one.is_alive else one.problem) for one in self.server.health()])
        elif path == "/readyz" or path.startswith("/readyz/"):
            wanted = path.removeprefix("/readyz").strip("/")
            found = [(one, one.problem) for one in self.server.health() if is_called(one.name, wanted)]
            if found:
                self._tell(found)
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", f"there is no process {wanted!r}\n".encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /healthz, /readyz, /readyz/PROCESS\n")

    do_HEAD = do_GET  # noqa: N815 - their names there

    def _tell(self, found: Sequence[tuple[Health, str]]) -> None:
        problems = {one.name: problem for one, problem in found if problem}
        told = {
            "ok": not problems,
            "problems": problems,
            "processes": {
                one.name: {
                    "pid": one.pid,
                    "ready": one.is_ready,
                    "silent_s": None if one.silent_s is None else round(one.silent_s, 1),
                }
                for one, _ in found
            },
        }
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        self._answer(status, "application/json", (json.dumps(told, indent=2) + "\n").encode())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing: it is asked every few seconds."""


def is_called(name: str, wanted: str) -> bool:
    """Return whether a process is meant: receive stands for receive-1 and receive-2 too, and nothing for all."""
    return not wanted or name == wanted or name.rpartition("-")[0] == wanted


def _in_memory() -> Path:
    for place in (os.environ.get("RUNTIME_DIRECTORY", ""), "/dev/shm"):  # noqa: S108 - where memory is a file system
        if place and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    return Path(tempfile.gettempdir())


def _remove_left_behind(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rmtree(folder, ignore_errors=True)
    except BlockingIOError:  # its supervisor lives
        pass
    finally:
        os.close(lock)
