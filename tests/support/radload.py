"""The load generator radload.c: RADIUS accounting as a SIP proxy sends it, so many requests outstanding."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

SOURCE = Path(__file__).with_name("radload.c")
SECRET = "testing123"
PACKET_BYTES = 305
EVENTS_PER_CALL = 2


class Load(NamedTuple):
    """What a run of the generator saw."""

    sent: int
    acked: int
    acked_first: int
    """Answered before they were repeated."""
    lost: int
    retransmits: int
    per_s: float
    p50_ms: float
    p99_ms: float


@cache
def radload() -> str:
    """Return the compiled generator's path; compiled once a process."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise AssertionError("gcc is missing; run: apt-get install --no-install-recommends gcc libc6-dev")
    built = Path(mkdtemp(prefix="tollbook-radload-")) / "radload"
    subprocess.run([gcc, "-O2", "-o", built, SOURCE, "-lm"], check=True)
    return str(built)


def command(port: int, *words: str) -> list[str]:
    """Return the command line of a run against a port of the loopback."""
    return [radload(), "--port", str(port), "--secret", SECRET, "--json", *words]


def load(port: int, *words: str) -> Load:
    """Run the generator until all is answered or given up; its words are those of `radload --help`."""
    done = subprocess.run(command(port, *words), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):  # 3: some were never answered
        raise RuntimeError(f"radload failed: {done.stderr}")
    return read(done.stdout)


def read(text: str) -> Load:
    """Return what the generator printed."""
    said = json.loads(text)
    took = said["lat_ms"]
    return Load(
        said["sent"], said["acked"], said["acked_first"], said["lost"], said["retransmits"],
        said["rate"], took["p50"], took["p99"],
    )  # fmt: skip
