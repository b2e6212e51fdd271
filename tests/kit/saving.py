"""A saved bridge in a container: how it is made and taken down, what there is of it, and what there must be."""

from __future__ import annotations

import json
import re

from kit.changes import until
from kit.container import GATEWAY, NIC_MAC, Container

UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0", "--save")
DOWN = ("tapbridge", "down", "--quiet")
_FOLDERS = "netplan network systemd NetworkManager dhcpcd.conf"
_FILES = f"cd /etc && find {_FOLDERS} -type f -exec stat -c '%n %a %u %g' {{}} + -exec cksum {{}} +"


def ip(host: Container, link: str) -> str | None:
    """The IPv4 address of a link."""
    found = re.search(r"inet (\S+)", host.run("ip", "-4", "-o", "addr", "show", "dev", link, check=False).stdout)
    return found[1] if found else None


def files(host: Container) -> list[str]:
    """The configuration: every file's name, mode, owner and sum."""
    return sorted(host.run(_FILES).stdout.splitlines())


def network(host: Container, link: str) -> list[str]:
    """Addresses and routes of a link, without what passes, and with the link's name left out.

    NetworkManager makes the link-local address of the name as well, dhcpcd the metric of the link's number. The kernel
    makes the link-local address, or whoever manages the link (Debian 13's iproute2 tells them apart).
    """
    shown = host.run(f"ip -o addr show dev {link}; ip -4 route show dev {link}; ip -6 route show dev {link}").stdout
    passing = r"valid_lft \S+ preferred_lft \S+| expires \S+| nhid \d+| tentative|^\d+: |(?<=inet6 fe80::)\S+|\\ *"
    passing += r"| metric \d+(?= brd)| metric 100\d\b| proto kernel_ll"
    shown = re.sub(passing, "", shown, flags=re.MULTILINE).replace(link, "LINK")
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    if any(" proto ra metric 100 " in line for line in lines):  # NetworkManager's; the kernel may have heard it before
        heard = r"^2001:\S+ proto kernel metric 256| proto ra metric 1024"
        lines = {line for line in lines if not re.search(heard, line)}
    return sorted(lines)


def assert_network(host: Container, link: str, wanted: list[str]) -> None:
    """The link has these addresses and routes, soon."""
    assert until(lambda: network(host, link) == wanted, 20), "\n".join(sorted({*network(host, link)} ^ {*wanted}))


def status(host: Container) -> dict[str, object]:
    """What `status` says of the one bridge."""
    (bridge,) = json.loads(host.run("tapbridge", "status", "--json").stdout)["bridges"]
    return dict(bridge)


def assert_bridged(host: Container, address: str | None, owner: str | None) -> None:
    """The bridge has the address, the NIC is its port and has none, and a guest's tap can join it."""
    host.wait_for(f"ip -4 -o addr show dev br0 | grep -q ' {address} '")
    assert ip(host, "eth0") is None
    assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    told = status(host)
    assert (told["uplink"], told["mac"], told["saved"]) == ("eth0", NIC_MAC, True), told
    if owner != "dhcpcd":  # whose processes have the names of their links in their titles for some time only
        assert told["owner"] == owner, told
    assert host.run("cat", "/sys/class/net/br0/bridge/stp_state").stdout == "0\n"
    host.run("tapbridge", "tap", "add", "guest0", "--bridge", "br0", "--quiet")
    assert "master br0" in host.run("ip", "link", "show", "dev", "guest0").stdout
    host.run("tapbridge", "tap", "del", "guest0", "--quiet")


def start_networkd(host: Container) -> None:
    """Let it look after eth0, at every boot."""
    host.path("/etc/systemd/network/eth0.network").write_text(f"[Match]\nMACAddress={NIC_MAC}\n[Network]\nDHCP=yes\n")
    host.run("systemctl enable systemd-networkd systemd-resolved; systemctl start systemd-resolved systemd-networkd")
    host.wait_for_ip()
    host.wait_for("networkctl | grep -q 'eth0 .*routable *configured'")


def start_netplan(host: Container) -> None:
    """Let NetworkManager look after eth0 because netplan says so, at every boot."""
    path = host.path("/etc/netplan/eth0.yaml")
    path.write_text("network: {version: 2, renderer: NetworkManager, ethernets: {eth0: {dhcp4: true}}}\n")
    path.chmod(0o600)
    host.run("systemctl", "daemon-reload")
    start_networkmanager(host)
    assert "netplan-eth0" in host.run("nmcli", "-g", "NAME", "connection", "show", "--active").stdout


def start_networkmanager(host: Container) -> None:
    """Let it look after eth0, at every boot."""
    host.run("systemctl", "enable", "--now", "NetworkManager")
    host.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx eth0:connected")
    host.wait_for_ip()
