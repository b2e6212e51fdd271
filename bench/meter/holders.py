"""Who holds a NIC on a real Debian, and how each puts it under a bridge by his own means: shell scripts for the host.

The first of his ways is what his documentation shows; the other is what somebody who knows all the traps would write:
no spanning tree, the NIC's MAC, the same DHCP identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAC: Final = "02:00:00:00:01:02"

PLAIN, TUNED = "as documented", "tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWay:
    """A way of the holder's own. `before` is added to what the host is set up with."""

    name: str
    script: str
    before: str = ""
    settle_s: float = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """How eth0 comes to its lease, and the holder's own ways to a bridge."""

    name: str
    setup: str
    ways: tuple[OwnWay, ...]


def _file(path: str, text: str) -> str:
    return f"cat >{path} <<'END'\n{text.strip()}\nEND\n"


def _stanzas(options: str) -> str:
    text = f"auto lo\niface lo inet loopback\nauto br0\niface br0 inet dhcp\n    bridge_ports eth0\n{options}"
    return f"ifdown eth0\n{_file('/etc/network/interfaces', text)}ifup br0"


def _networkd(bridge: str = "", lease: str = "") -> str:
    folder = "/etc/systemd/network"
    return (
        _file(f"{folder}/br0.netdev", f"[NetDev]\nName=br0\nKind=bridge\n{bridge}")
        + _file(f"{folder}/br0.network", f"[Match]\nName=br0\n[Network]\nDHCP=ipv4\n{lease}")
        + _file(f"{folder}/eth0.network", "[Match]\nName=eth0\n[Network]\nBridge=br0")
        + "networkctl reload"
    )


def _networkmanager(bridge: str = "") -> str:
    return (
        f"nmcli connection add type bridge con-name br0 ifname br0 {bridge}\n"
        "nmcli connection add type bridge-slave con-name port ifname eth0 master br0\n"
        "nmcli connection up port"
    )


def _netplan(renderer: str, nic: str, bridge: str = "") -> str:
    bridges = f", bridges: {{br0: {bridge}}}" if bridge else ""
    text = f"network: {{version: 2, renderer: {renderer}, ethernets: {{eth0: {nic}}}{bridges}}}"
    return _file("/etc/netplan/one.yaml", text)


def _of_netplan(name: str, renderer: str, unit: str, settle_s: float) -> Holder:
    dhcp = "dhcp4: true" if renderer == "networkd" else "dhcp4: true, dhcp6: true"  # or it asks for no IPv6 at all
    leased = f"interfaces: [eth0], {dhcp}"
    same = f'{leased}, dhcp-identifier: mac, macaddress: "{MAC}", parameters: {{stp: false, forward-delay: 0}}'
    return Holder(
        name=name,
        setup=f"[ -e /etc/netplan/one.yaml ] || {{\n{_netplan(renderer, f'{{{dhcp}}}')}}}\n"
        f"chmod 600 /etc/netplan/one.yaml\nsystemctl start {unit}\nnetplan apply",
        ways=(
            OwnWay(name=PLAIN, script=f"{_netplan(renderer, '{}', f'{{{leased}}}')}netplan apply", settle_s=settle_s),
            OwnWay(
                name=TUNED,
                before=_netplan(renderer, f"{{{dhcp}, dhcp-identifier: mac}}"),
                script=f"{_netplan(renderer, '{}', f'{{{same}}}')}netplan apply",
                settle_s=8,
            ),
        ),
    )


_DHCLIENT = "dhclient -pf /run/dhclient.{0}.pid -lf /var/lib/dhcp/dhclient.{0}.leases"
_BRIDGE = "ip link add br0 {0} type bridge\nip link set eth0 master br0\nip link set br0 up\n"
_UDHCPC = "busybox udhcpc -b -S -s /etc/udhcpc.script -p /run/udhcpc.{0}.pid -i {0}"
_UDHCPC_SCRIPT = """
#!/bin/sh
case $1 in
    deconfig) ip link set $interface up; ip -4 address flush dev $interface ;;
    bound | renew)
        ip address replace $ip/$mask dev $interface
        for gateway in $router; do ip route replace default via $gateway dev $interface; done ;;
esac
"""

HOLDERS: Final = (
    Holder(
        name="dhclient",
        setup=f"ip link set eth0 up\n{_DHCLIENT.format('eth0')} eth0",
        ways=(
            OwnWay(
                name=PLAIN,
                script=f"{_DHCLIENT.format('eth0')} -r eth0\n{_BRIDGE.format('')}{_DHCLIENT.format('br0')} br0",
            ),
            OwnWay(
                name=TUNED,
                script="kill $(cat /run/dhclient.eth0.pid)\nip address flush dev eth0\n"
                f"{_BRIDGE.format(f'address {MAC}')}{_DHCLIENT.format('br0')} br0",
            ),
        ),
    ),
    Holder(
        name="dhcpcd",
        setup="echo noarp >>/etc/dhcpcd.conf\ndhcpcd -q -w eth0",
        ways=(
            OwnWay(name=PLAIN, script=f"dhcpcd -q -k eth0\n{_BRIDGE.format('')}dhcpcd -q -w br0"),
            OwnWay(name=TUNED, script=f"dhcpcd -q -x eth0\n{_BRIDGE.format(f'address {MAC}')}dhcpcd -q -w br0"),
        ),
    ),
    Holder(
        name="udhcpc",
        setup=_file("/etc/udhcpc.script", _UDHCPC_SCRIPT) + f"chmod 755 /etc/udhcpc.script\n{_UDHCPC.format('eth0')}",
        ways=(
            OwnWay(
                name=PLAIN,
                script="kill -USR2 $(cat /run/udhcpc.eth0.pid)\nkill $(cat /run/udhcpc.eth0.pid)\n"
                f"{_BRIDGE.format('')}{_UDHCPC.format('br0')}",
            ),
            OwnWay(
                name=TUNED,
                script="kill -9 $(cat /run/udhcpc.eth0.pid)\nip -4 address flush dev eth0\n"
                f"{_BRIDGE.format(f'address {MAC}')}{_UDHCPC.format('br0')}",
            ),
        ),
    ),
    Holder(
        name="ifupdown",
        setup=_file("/etc/network/interfaces", "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp")
        + "ifup eth0",
        ways=(
            OwnWay(name=PLAIN, script=_stanzas("")),
            OwnWay(
                name=TUNED,
                script=_stanzas(f"    bridge_stp off\n    bridge_fd 0\n    bridge_maxwait 0\n    bridge_hw {MAC}"),
            ),
        ),
    ),
    Holder(
        name="systemd-networkd",
        setup=_file("/etc/systemd/network/eth0.network", "[Match]\nName=eth0\n[Network]\nDHCP=ipv4")
        + "[ ! -e /tmp/lease ] || cat /tmp/lease >>/etc/systemd/network/eth0.network\n"
        "systemctl start systemd-networkd",
        ways=(
            OwnWay(name=PLAIN, script=_networkd()),
            OwnWay(
                name=TUNED,
                before="printf '[DHCPv4]\\nClientIdentifier=mac\\n' >/tmp/lease\n",
                script=_networkd(f"MACAddress={MAC}", "[DHCPv4]\nClientIdentifier=mac"),
            ),
        ),
    ),
    Holder(
        name="NetworkManager",
        setup="systemctl start NetworkManager",
        ways=(
            OwnWay(name=PLAIN, script=_networkmanager(), settle_s=40),
            OwnWay(name=TUNED, script=_networkmanager(f"bridge.stp no bridge.mac-address {MAC}")),
        ),
    ),
    _of_netplan("netplan", "networkd", "systemd-networkd", 8),
    _of_netplan("netplan, NM", "NetworkManager", "NetworkManager", 40),
)
