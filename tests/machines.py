"""Machines on a network of their own, on this one: an address, a link that can be cut, a /tmp, processes.

They are Linux namespaces, made with iproute2 and util-linux; everything goes with the `Network`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
TOOLS = ("ip", "unshare", "nsenter", "setpriv")
_BECOME_A_MACHINE = """
set -e
hostname "$1"
mount --bind "$2" /etc/hosts
case $4 in /tmp/*)  # the checkout stays where it is
    mkdir -p "$3/${4#/tmp/}"
    mount --bind "$4" "$3/${4#/tmp/}"
esac
mount --rbind "$3" /tmp
ip link set lo up
echo up
exec sleep infinity
"""


def namespaces_are_refused() -> str:
    """Why this process may not make namespaces with a network; empty where it may."""
    trial = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-ec"]
    trial += [
        "ip link add one type veth peer two; ip link add three type bridge; ip link set one master three"
    ]
    done = subprocess.run(trial, capture_output=True, text=True, timeout=60)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""


class Machine:
    """One machine, up and on the network."""

    def __init__(self, name: str, address: str, folder: Path, hosts: Path) -> None:
        self.name, self.address = name, address
        self.tmp = folder / name
        """Its /tmp, as seen from outside."""
        self.tmp.mkdir(parents=True)
        self.tmp.chmod(0o1777)
        own = ["setpriv", "--pdeathsig", "KILL"]  # with this process, however it ends
        own += ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        become = ["sh", "-c", _BECOME_A_MACHINE, "sh", name, str(hosts), str(self.tmp), str(ROOT)]
        self._outer = subprocess.Popen([*own, *become], stdout=subprocess.PIPE, text=True)
        assert self._outer.stdout is not None
        assert self._outer.stdout.readline() == "up\n", f"{name} did not come up"
        self._outer.stdout.close()
        self._programs: list[subprocess.Popen[bytes]] = []
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self.pid = int(children.read_text())

    def command(self, *command: str) -> list[str]:
        """The command that runs another on this machine."""
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--pid", *command]

    def start(self, *command: str, environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program here, in /; it ends with the machine."""
        program = subprocess.Popen(
            self.command(*command), cwd="/", env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        self._programs.append(program)
        return program

    @contextmanager
    def network(self) -> Iterator[None]:
        """Let the calling thread, and processes and threads that it starts, use this machine's network."""
        with open("/proc/thread-self/ns/net") as before, open(f"/proc/{self.pid}/ns/net") as here:
            _enter(here)
            try:
                yield
            finally:
                _enter(before)

    def stop(self) -> None:
        """Power off: all its processes are killed."""
        self._outer.kill()
        for process in (self._outer, *self._programs):
            process.wait()


class Network:
    """A switch, and machines 10.77.0.1, 10.77.0.2, ... in the order in which they are plugged in."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="machines-"))
        self._hosts = self._folder / "hosts"
        self._names: list[str] = []
        self._machines: list[Machine] = []
        self._hosts.write_text("127.0.0.1 localhost\n")
        self._switch = Machine("switch", "", self._folder, self._hosts)
        self._on_switch("ip", "link", "add", "bridge", "type", "bridge")
        self._on_switch("ip", "link", "set", "bridge", "up")

    def plug_in(self, name: str) -> Machine:
        """Switch on a new machine; all the others know its name."""
        number = len(self._machines) + 1
        with self._hosts.open("a") as hosts:
            hosts.write(f"10.77.0.{number} {name}\n")
        machine = Machine(name, f"10.77.0.{number}", self._folder, self._hosts)
        self._machines.append(machine)
        port = f"port-{name}"
        peer = ["peer", "name", "eth0", "netns", str(machine.pid)]
        self._on_switch("ip", "link", "add", port, "type", "veth", *peer)
        self._on_switch("ip", "link", "set", port, "master", "bridge", "up")
        _run(machine.command("ip", "address", "add", f"{machine.address}/24", "dev", "eth0"))
        _run(machine.command("ip", "link", "set", "eth0", "up"))
        _run(machine.command("ip", "route", "add", "default", "dev", "eth0"))  # Ray asks it for its address
        return machine

    def cut(self, machine: Machine) -> None:
        """Take the machine off the network: nothing gets through, nobody is told."""
        self._on_switch("ip", "link", "set", f"port-{machine.name}", "down")

    def close(self) -> None:
        """Switch everything off."""
        for machine in (*self._machines, self._switch):
            machine.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _on_switch(self, *command: str) -> None:
        _run(["nsenter", "--target", str(self._switch.pid), "--net", *command])


@contextmanager
def network() -> Iterator[Network]:
    """A network for the time of a `with` block."""
    it = Network()
    try:
        yield it
    finally:
        it.close()


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, timeout=60)


def _enter(namespace: IO[str]) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
