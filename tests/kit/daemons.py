"""The managers that hold the NIC of a scene, each in a container with systemd: what each is told, and what it says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kit.container import NIC_MAC, Container

LIMIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A manager: its one file, the folders where configuration lies, and the command that shows how it holds links."""

    unit: str
    file: str
    text: str
    folders: tuple[str, ...]
    asked: str
    holds: str
    """What it then says of eth0."""

    def view(self, host: Container) -> tuple[str, ...]:
        """What it says of each link that it holds; nothing while it does not run."""
        told = host.run(self.asked, check=False).stdout.splitlines()
        lines = (re.sub(r"^ *\d+ +", "", line) for line in told)  # the number of the link
        return tuple(sorted(" ".join(line.split()) for line in lines))

    def start(self, host: Container) -> None:
        """Give it its file, and wait until it holds eth0. Raises AssertionError."""
        path = host.path(self.file)
        path.write_text(self.text)
        path.chmod(0o600 if self.unit == "NetworkManager" else 0o644)
        host.run("systemctl", "start", self.unit)
        _wait_for(lambda: self.holds in self.view(host), host, self.holds)
        host.wait_for_ip()


DAEMONS: Final = {
    "networkd": Daemon(
        unit="systemd-networkd",
        file="/etc/systemd/network/eth0.network",
        text=(
            f"[Match]\nMACAddress={NIC_MAC}\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n"
            "Address=2001:db8::2/64\nGateway=2001:db8::1\n"
        ),
        folders=("etc/systemd/network", "run/systemd/network"),
        asked="networkctl --no-legend --no-pager list",
        holds="eth0 ether routable configured",
    ),
    "NetworkManager": Daemon(
        unit="NetworkManager",
        file="/etc/NetworkManager/system-connections/office.nmconnection",
        text=(
            "[connection]\nid=office\nuuid=6c0f2d4e-7f1b-4d7b-9d40-0f6b8f5f1a01\ntype=ethernet\n"
            "interface-name=eth0\n[ipv4]\nmethod=auto\n"
            "[ipv6]\nmethod=manual\naddress1=2001:db8::2/64,2001:db8::1\naddr-gen-mode=eui64\n"
        ),
        folders=("etc/NetworkManager", "run/NetworkManager/system-connections"),
        asked="nmcli -t -f DEVICE,STATE,CON-UUID device | grep -v ^lo:",
        holds="eth0:connected:6c0f2d4e-7f1b-4d7b-9d40-0f6b8f5f1a01",
    ),
}


def _wait_for(true: Callable[[], bool], host: Container, what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, f"not within {LIMIT_S:g} s: {what}\n{host.log()[-3000:]}"
        time.sleep(0.05)
