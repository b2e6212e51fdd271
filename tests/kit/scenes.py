"""The eight hosts from which every fault starts: what each one's NIC carries, and what else is on it. And those whose
NIC somebody holds, for faults beside a client or a manager that runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kit.lan import ADDRESSES, POLICY, SWITCHES

MAC: Final = "02:00:00:00:01:02"
LINK_LOCAL: Final = "fe80::ff:fe00:102"
_SLAAC: Final = "2001:db8::ff:fe00:102"
_LEASED: Final = "192.0.2.50"

_V4: Final = "addr add 192.0.2.2/24 dev eth0\nroute add default via 192.0.2.1\n"
_V6: Final = "addr add 2001:db8::2/64 dev eth0 nodad\n-6 route add default via 2001:db8::1\n"

_STRANGERS: Final = """
link add virbr0 address 52:54:00:00:00:01 type bridge stp_state 1 forward_delay 200
addr add 192.168.122.1/24 dev virbr0
tuntap add dev vnet0 mode tap
link set vnet0 address fe:54:00:00:00:02 master virbr0
link set vnet0 up
link set virbr0 up
tuntap add dev foreign0 mode tap
link set foreign0 address fe:54:00:00:00:03 addrgenmode none
link set foreign0 up
link set guest0 address fe:54:00:00:00:04 addrgenmode none
link set guest0 up
"""

_PORTS: Final = """
link set guest0 master br0
link set guest0 type bridge_slave isolated on learning off
link set foreign0 master br0
link set foreign0 type bridge_slave hairpin on priority 40
"""

_DOCKER: Final = """
link add docker0 address 02:42:00:00:00:01 type bridge
addr add 172.17.0.1/16 brd 172.17.255.255 dev docker0
link add veth0a address 02:42:00:00:00:02 type veth peer name veth0b address 02:42:00:00:00:03
link set veth0a master docker0
link set veth0a type bridge_slave hairpin on
link set veth0a up
link set veth0b up
link set docker0 up
"""

_DOCKER_RULES: Final = """
table ip nat {
  chain DOCKER { iifname "docker0" counter return; }
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local counter jump DOCKER; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept;
    oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade; }
}
table ip filter {
  chain DOCKER { iifname != "docker0" oifname "docker0" ip daddr 172.17.0.2 tcp dport 80 counter accept; }
  chain DOCKER-USER { counter return; }
  chain DOCKER-ISOLATION-STAGE-1 { iifname "docker0" oifname != "docker0" counter jump DOCKER-ISOLATION-STAGE-2;
    counter return; }
  chain DOCKER-ISOLATION-STAGE-2 { oifname "docker0" counter drop; counter return; }
  chain FORWARD { type filter hook forward priority filter; policy drop;
    counter jump DOCKER-USER
    counter jump DOCKER-ISOLATION-STAGE-1
    oifname "docker0" ct state related,established counter accept
    oifname "docker0" counter jump DOCKER
    iifname "docker0" oifname != "docker0" counter accept
    iifname "docker0" oifname "docker0" counter accept; }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A host to be built. `lines` are of `ip -batch`; `ports` are put on the bridge once it is there; `owner` is the
    program that has the lease of the NIC."""

    name: str
    lines: str = _V4 + _V6
    reached_at: tuple[str, ...] = ("192.0.2.2", "2001:db8::2")
    owner: str = ""
    advertised: bool = False
    guest: bool = False
    rules: str = ""
    ports: str = ""
    switches: dict[str, int] = field(default_factory=dict)
    up: tuple[str, ...] = ("up",)
    down: tuple[str, ...] = ("down",)

    @property
    def leased(self) -> bool:
        """Whether its address comes from the DHCP server."""
        return bool(self.owner)

    @property
    def bridge(self) -> str:
        """The bridge's name once it is there."""
        return "eth0" if "--take-name" in self.up else "br0"


SCENES: Final = {
    scene.name: scene
    for scene in (
        Scene(name="static"),
        Scene(name="leased", lines=_V6, reached_at=(_LEASED, "2001:db8::2"), owner="dhclient"),
        Scene(name="advertised", lines=_V4, reached_at=("192.0.2.2", _SLAAC), advertised=True),
        Scene(
            name="secondaries",
            lines=_V4 + _V6 + ADDRESSES,
            reached_at=("192.0.2.2", "192.0.2.4", "2001:db8::2", "2001:db8::99"),
            switches=SWITCHES,
        ),
        Scene(name="policy", lines=f"{_V4}{_V6}addr add 192.0.2.3/24 dev eth0{POLICY}"),
        Scene(name="take-name", up=("up", "--take-name")),
        Scene(
            name="bridges",
            lines=_V4 + _V6 + _STRANGERS,
            guest=True,
            ports=_PORTS,
            down=("down", "--force"),
        ),
        Scene(
            name="docker",
            lines=_V4 + _V6 + _DOCKER,
            rules=_DOCKER_RULES,
            switches={"ipv4/ip_forward": 1},
        ),
    )
}

OWNED: Final = {
    owner: Scene(name=owner, lines=_V6, reached_at=(_LEASED, "2001:db8::2"), owner=owner, up=("up", "--yes"))
    for owner in ("dhclient", "dhcpcd", "networkd", "NetworkManager")
}
"""The IPv6 address is of the scene, or is in a manager's own configuration."""
