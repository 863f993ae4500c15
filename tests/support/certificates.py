"""Certificates for tests, made by the very commands of docs/howto/radsec.md with the real openssl."""

import subprocess
from pathlib import Path

from tests.support.daemon import program
from tests.support.howto import block

SERVER, CLIENT = "tollbook.example.net", "proxy-1.example.net"


def make_authority(folder: Path) -> None:
    """Make ca.pem and ca.key in a folder, and certificates for SERVER and CLIENT."""
    folder.mkdir(exist_ok=True)
    run(folder, block("radsec", "openssl req -x509", {}))
    run(folder, block("radsec", "-copy_extensions copy", {}))


def make_certificate(folder: Path, name: str) -> None:
    """Make name.pem and name.key, signed by the authority of the folder."""
    names = f"{SERVER} {CLIENT}"
    run(folder, block("radsec", "-copy_extensions copy", {names: name}))


def withdraw(folder: Path) -> None:
    """Withdraw the client's certificate: make crl.pem."""
    run(folder, block("radsec", "-gencrl", {}))


def run(folder: Path, script: str) -> str:
    """Run a shell script in a folder and return what it says; fail if it fails."""
    program("openssl", "openssl")
    done = subprocess.run(["sh", "-ec", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
