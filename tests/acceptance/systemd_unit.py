"""The service as the guide installs it, under a real systemd: `make test-systemd`, as root.

systemd boots in namespaces of its own, over a copy-on-write view of this machine, which it does not change. Not part of
`make test`, for many containers do not let anybody mount.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import program, wait_until
from tests.support.radload import SECRET, radload
from tests.support.service import PATIENCE_S, ROOT

BOOT = r"""
set -e
mount -t tmpfs tmpfs "$1"; mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mount --bind "$2" ".$2"; mount --bind "$3" ".$3"
for way in $4; do chmod o+x ".$way"; done
mount -t proc proc proc; mount -t tmpfs tmpfs run; mount -t sysfs sysfs sys
mount --rbind /dev dev; mount --make-rslave dev
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup; mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
printf '[Unit]\nRequires=dbus.socket\nAfter=dbus.socket\n' >etc/systemd/system/tried.target
mkdir old; pivot_root . old; umount -l old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=tried \
    /lib/systemd/systemd --unit=tried.target --log-target=journal --show-status=no
"""
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp")


class Machine:
    """A booted systemd; run: a shell in its namespaces."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, script: str, *, status: int = 0) -> str:
        """Run a script as root, which must end with this status, and return what it printed."""
        command = self.command("sh", "-c", script)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S)
        assert done.returncode == status, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def command(self, *words: str) -> list[str]:
        """Return a command line that runs words in it."""
        inside = ("nsenter", "--target", str(self._pid), "-m", "-p", "-C", "-i", "-u", "-n", "-r", "-w")
        return [*inside, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *words]

    def show(self, name: str) -> str:
        """Return a property of the service."""
        return self.run(f"systemctl show --property {name} --value tollbook").strip()

    def answers(self) -> None:
        """Send a request, which must be answered."""
        asked = f"printf 'Acct-Status-Type=Start,Acct-Session-Id=a\\n' | radclient 127.0.0.1:1813 acct {SECRET}"
        assert "Received Accounting-Response" in self.run(asked)

    @contextmanager
    def load(self, *words: str) -> Iterator[None]:
        """Have radload send, from which every request must be answered at the end."""
        command = self.command("/usr/local/bin/radload", "--port", "1813", "--secret", SECRET, *words)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            signal.sigtimedwait((), 2)  # it is at it
            yield
            said, _ = process.communicate(timeout=PATIENCE_S)
        assert " lost 0 " in said, said


def install(machine: Machine) -> None:
    """Do what docs/howto/install.md says, but for the program, which is this checkout's."""
    guide = (ROOT / "docs/howto/install.md").read_text()
    _, user, service = (re.findall("```sh\n(.*?)```", part, re.DOTALL)[0] for part in guide.split("\n## ")[1:4])
    [settings] = re.findall("```toml\n(.*?)```", guide, re.DOTALL)
    etc = "/etc/tollbook"
    machine.run(f"set -e; ln -s {ROOT} /opt/tollbook\n{user}")
    machine.run(f"set -e; cat >{etc}/tollbook.toml <<'X'\n{settings.replace('192.0.2.10', '127.0.0.1')}X\n")
    machine.run(
        f"set -e; install -m 0640 -g tollbook /dev/null {etc}/proxy-1.secret; echo {SECRET} >{etc}/proxy-1.secret"
    )
    hidden = [place for place in HIDDEN for path in (ROOT, sys.base_prefix) if Path(path).is_relative_to(place)]
    more = "[Service]\nWatchdogSec=5\n" + ("ProtectHome=no\nPrivateTmp=no\n" if hidden else "")
    folder = "/etc/systemd/system/tollbook.service.d"
    machine.run(f"mkdir -p {folder}; printf '{more}' >{folder}/tried.conf")
    machine.run("set -e\n" + re.sub("sysctl --load.*", "", service))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("systemd")
    for name, package in (("unshare", "util-linux"), ("systemctl", "systemd"), ("radclient", "freeradius-utils")):
        program(name, package)
    ways = sorted({str(way) for path in (ROOT, Path(sys.base_prefix)) for way in path.parents})
    words: Sequence[str] = ("sh", "-c", BOOT, "boot", str(folder), str(ROOT), sys.base_prefix, " ".join(ways))
    command = ["unshare", "-m", "-p", "-f", "-C", "-i", "-u", "-n", "--kill-child", "--propagation", "private", *words]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_until(lambda: process.poll() is not None or children.read_text() != "", "its first process is there")
            assert process.poll() is None, (folder / "log").read_text()
            booted = Machine(int(children.read_text()))
            wait_until(lambda: _is_up(booted), "systemd is up")
            booted.run("install -d /usr/local/bin")
            Path(f"/proc/{booted._pid}/root/usr/local/bin/radload").write_bytes(Path(radload()).read_bytes())
            booted.run("chmod +x /usr/local/bin/radload")
            install(booted)
            yield booted
        finally:
            process.send_signal(signal.SIGKILL)


def _is_up(machine: Machine) -> bool:
    done = subprocess.run(machine.command("systemctl", "is-active", "tried.target"), capture_output=True, check=False)
    return done.stdout == b"active\n"


def test_it_is_ready_answers_and_is_confined(machine: Machine) -> None:
    assert machine.show("ActiveState") == "active"
    machine.answers()
    machine.run("systemctl reload tollbook")
    wait_until(lambda: machine.show("StatusText") == "well", "all its processes are well")
    for word, niceness in (("serve", 0), ("receive", 0), ("schedule", 10)):
        pid = machine.run(f"pgrep -f '[t]ollbook {word}'").strip()
        status = machine.run(f"cat /proc/{pid}/status")
        assert re.search("^Seccomp:\t2$", status, re.MULTILINE)
        assert re.search("^CapEff:\t0+$", status, re.MULTILINE)
        assert machine.run(f"cut -d' ' -f19 /proc/{pid}/stat").strip() == str(niceness)
        assert machine.run(f"stat -c %U /proc/{pid}").strip() == "tollbook"


def test_a_supervisor_that_hangs_is_started_again(machine: Machine) -> None:
    pid = machine.show("MainPID")
    machine.run(f"kill -STOP {pid}")
    wait_until(lambda: machine.show("NRestarts") == "1", "the watchdog has found it", PATIENCE_S)
    wait_until(lambda: machine.show("ActiveState") == "active", "it is back", PATIENCE_S)
    machine.answers()


def test_a_restart_loses_nothing_that_is_repeated(machine: Machine) -> None:
    with machine.load("--calls", "5000", "--rate", "1000", "--retry-ms", "1000", "--retries", "10"):
        machine.run("systemctl restart tollbook")


def test_behind_the_socket_unit_nothing_need_be_repeated(machine: Machine) -> None:
    guide = (ROOT / "docs/howto/systemd.md").read_text()
    [sockets] = re.findall("```sh\n(.*?)```", guide, re.DOTALL)
    machine.run("set -e\n" + sockets)
    with machine.load("--calls", "5000", "--rate", "1000", "--retry-ms", "20000", "--retries", "0"):
        machine.run("systemctl restart tollbook")
    machine.run("systemctl stop tollbook")
    machine.answers()  # a packet starts it


def test_a_bad_file_is_refused_and_the_service_goes_on(machine: Machine) -> None:
    machine.run(
        "cd /etc/tollbook && cp tollbook.toml good && sed -i 's/^address = .*/address = \"nonsense\"/' tollbook.toml"
    )
    machine.run("systemctl reload tollbook")
    told = "journalctl --unit tollbook --output cat | grep -c 'the clients stay as they were'"
    wait_until(lambda: machine.run(f"{told} || true").strip() == "1", "the mistake is told")
    machine.answers()
    machine.run("cd /etc/tollbook && cat good >tollbook.toml && systemctl restart tollbook")
    machine.answers()
