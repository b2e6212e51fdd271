"""A whole Debian 12 in QEMU, with a kernel of its own: bonds, VLANs, Wi-Fi, cards on a bus, real reboots.

Theory of operation. `script/vm` makes the disk, once; each machine has a copy of it, in the temporary folder of its
tests. QEMU emulates (no KVM) and runs in the network namespace of the LAN, where each card's tap is a port of the
switch. The taps end with that namespace, and QEMU is ended by the kernel with this process (PR_SET_PDEATHSIG). An
agent inside takes commands at a serial port of its own, so the machine needs no network to be asked; systemd starts it
last. A reboot is a power-off and a new QEMU on the same disk.

What passes the LAN's switch passes with whatever VLAN tag it has: a second card of the machine, in a namespace of its
own, is the neighbour who understands it.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.command import run
from kit.container import NIC_MAC, install, served_lan
from kit.netns import Netns
from kit.source import ROOT

MACS = NIC_MAC, "02:00:00:00:01:03", "02:00:00:00:01:04"
NICS = "enp0s3", "enp0s4", "enp0s5"
"""The names that udev makes of the places on the bus."""

BOOT_LIMIT_S = 180
_QEMU = (
    *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35"),
    *("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-smp", "2", "-m", "640"),
)
_WORDS = (
    "console=ttyS0 quiet panic=-1 root=/dev/vda rw systemd.unified_cgroup_hierarchy=1 systemd.show_status=false "
    "mitigations=off nokaslr random.trust_cpu=on tsc=reliable no_timer_check audit=0 apparmor=0 selinux=0"
)


@dataclass
class Vm:
    """A virtual machine, booted or not. `lan` is the namespace of its LAN, `place` the folder of its disk."""

    lan: Netns
    place: Path
    made: Path
    _agent: socket.socket | None = None
    _qemu: subprocess.Popen[bytes] | None = None
    _boot: ExitStack = field(default_factory=ExitStack)

    def boot(self) -> None:
        """Start QEMU and wait until systemd has started everything. Raises AssertionError."""
        with ExitStack() as stack, self.lan.entered():
            console = stack.enter_context((self.place / "console").open("wb"))
            self._qemu = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._words()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
            stack.callback(self._qemu.wait)
            stack.callback(self._qemu.kill)
            self._agent = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._connect()
            self.run("systemctl", "is-system-running", "--wait", check=False, timeout_s=BOOT_LIMIT_S)
            self._boot = stack.pop_all()

    def run(
        self, *words: str | Path, check: bool = True, timeout_s: float = 180, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root; of several words, or one for its shell."""
        command = [str(word) for word in words] if len(words) > 1 else ["sh", "-c", str(words[0])]
        answer = self._ask({"words": command, "stdin": stdin, "timeout_s": timeout_s}, timeout_s)
        done = subprocess.CompletedProcess(command, answer["code"], answer["stdout"], answer["stderr"])
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def wait_for(self, command: str, limit_s: float = 90.0) -> None:
        """Wait until a command inside succeeds. Raises AssertionError."""
        deadline = time.monotonic() + limit_s
        while (done := self.run(command, check=False)).returncode != 0:
            assert time.monotonic() < deadline, f"not within {limit_s:g} s: {command}\n{done.stdout}{done.stderr}"
            time.sleep(0.2)

    def addresses(self, link: str) -> list[str]:
        """The IPv4 addresses of a link."""
        links = json.loads(self.run("ip", "-j", "-4", "addr", "show", "dev", link).stdout)
        return [address["local"] for one in links for address in one.get("addr_info", ())]

    def reboot(self) -> None:
        """Power off, as a machine does, and start again."""
        assert self._qemu is not None
        self._tell({"words": ["systemctl", "poweroff"], "stdin": "", "timeout_s": BOOT_LIMIT_S})
        self._qemu.wait(BOOT_LIMIT_S)
        self._boot.close()
        self.boot()

    def crash(self) -> None:
        """Cut the power, and start again."""
        self.run("sync")
        self._boot.close()
        self.boot()

    def close(self) -> None:
        """Cut the power."""
        self._boot.close()

    def served(self) -> str:
        """What the DHCP server has said."""
        return (self.place / "dnsmasq.log").read_text()

    def _words(self) -> list[str]:
        cards = [
            word
            for number, mac in enumerate(MACS)
            for word in (
                *("-netdev", f"tap,id=card{number},ifname=card{number},script=no,downscript=no"),
                *("-device", f"virtio-net-pci,netdev=card{number},mac={mac},addr={number + 3},romfile="),
            )
        ]
        return [
            *(*_QEMU, "-kernel", str(self.made / "vmlinuz"), "-initrd", str(self.made / "initrd"), "-append", _WORDS),
            *("-serial", "stdio", "-drive", f"file={self.place}/disk,format=raw,if=virtio,cache=unsafe"),
            *("-drive", f"file={self.place}/program,format=raw,if=virtio,readonly=on"),
            *("-chardev", f"socket,id=agent,path={self.place}/agent,server=on,wait=off"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent", *cards),
        ]

    def _connect(self) -> None:
        assert self._agent is not None
        assert self._qemu is not None
        deadline = time.monotonic() + BOOT_LIMIT_S
        while True:
            try:
                return self._agent.connect(str(self.place / "agent"))
            except (FileNotFoundError, ConnectionRefusedError):
                assert self._qemu.poll() is None, (self.place / "console").read_text(errors="replace")
                assert time.monotonic() < deadline, "QEMU opens no socket for the agent"
                time.sleep(0.05)

    def _tell(self, asked: dict[str, object]) -> None:
        assert self._agent is not None
        self._agent.sendall(json.dumps(asked).encode() + b"\n")

    def _ask(self, asked: dict[str, object], timeout_s: float) -> dict[str, Any]:
        assert self._agent is not None
        self._agent.settimeout(timeout_s + BOOT_LIMIT_S)
        self._tell(asked)
        answer = bytearray()
        while not answer.endswith(b"\n"):
            more = self._agent.recv(65536)
            assert more, f"the machine has ended:\n{(self.place / 'console').read_text(errors='replace')[-3000:]}"
            answer += more
        found: dict[str, Any] = json.loads(answer)
        return found


@contextmanager
def vm(place: Path, *, server: Sequence[str] = ()) -> Iterator[Vm]:
    """A machine, booted, on a LAN with 192.0.2.1 and 2001:db8::1 and a DHCP server; its files are in `place`.

    `server` are options of dnsmasq.
    """
    made = Path(run(ROOT / "script/vm", timeout_s=600).stdout.strip())
    run("cp", "--sparse=always", made / "disk", place / "disk")
    _pack_program(place)
    try:
        with served_lan(place, server) as lan:
            with lan.entered():
                for number in range(len(NICS)):
                    run("ip", "tuntap", "add", f"card{number}", "mode", "tap")
                    run("ip", "link", "set", f"card{number}", "master", "lan0", "up")
            one = Vm(lan, place, made)
            try:
                one.boot()
                one.run("tar -xf /dev/vdb -C /")
                yield one
            finally:
                one.close()
    finally:
        (place / "disk").unlink()


def _pack_program(place: Path) -> None:
    """The program of this checkout and a command that calls it: an archive, which the machine reads from a disk."""
    install(place / "upper")
    with tarfile.open(place / "program", "w") as archive:
        for path in sorted((place / "upper").iterdir()):
            archive.add(path, path.name)
    shutil.rmtree(place / "upper")
