"""The eight hosts from which every fault starts: what each one's NIC carries, and what else is on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kit.lan import SWITCHES

MAC: Final = "02:00:00:00:01:02"
LINK_LOCAL: Final = "fe80::ff:fe00:102"
_SLAAC: Final = "2001:db8::ff:fe00:102"
_LEASED: Final = "192.0.2.50"

_V4: Final = "addr add 192.0.2.2/24 dev eth0\nroute add default via 192.0.2.1\n"
_V6: Final = "addr add 2001:db8::2/64 dev eth0 nodad\n-6 route add default via 2001:db8::1\n"

_SECONDARIES: Final = """
link set eth0 mtu 1400
link property add dev eth0 altname enp9s0
link set dev eth0 alias LAN
addr add 192.0.2.3/24 dev eth0
addr add 192.0.2.4/24 dev eth0 label eth0:web
addr add 198.51.100.9/25 dev eth0 metric 77
addr add 203.0.113.5/24 dev eth0 noprefixroute valid_lft 7200 preferred_lft 3600
route add 203.0.113.0/24 dev eth0 src 203.0.113.5 metric 50 proto dhcp
addr add 10.7.7.7 peer 10.7.7.8/32 dev eth0
addr add 10.9.9.9/32 dev eth0 scope link
addr add 2001:db8::99/64 dev eth0 nodad valid_lft 7200 preferred_lft 3600
addr add 2001:db8:1::1/64 dev eth0 nodad noprefixroute
addr add 2001:db8:2::1/128 dev eth0 nodad
"""

_POLICY: Final = """
addr add 192.0.2.3/24 dev eth0
route add 100.64.0.0/10 via 192.0.2.1 mtu 1300 advmss 1260 initcwnd 20 src 192.0.2.3
route add 100.64.0.0/10 via 192.0.2.9 metric 500 mtu lock 1290
route add default via 192.0.2.1 table 100
route add 192.0.2.0/24 dev eth0 table 100 scope link
route add 172.16.0.0/12 nexthop via 192.0.2.1 weight 2 nexthop via 192.0.2.9 weight 1
route add 10.55.0.0/16 via 10.54.0.1 dev eth0 onlink
route add blackhole 10.66.0.0/16
-6 route add 2001:db8:aa::/48 nexthop via 2001:db8::1 nexthop via 2001:db8::7
-6 route add 2001:db8:bb::/48 via fe80::1 dev eth0 metric 30 pref high
-6 route add default via 2001:db8::1 table 200
-6 route add unreachable 2001:db8:cc::/48
rule add iif eth0 lookup 100 pref 1000
rule add from 192.0.2.3 oif eth0 fwmark 7/0xff lookup 100 pref 1001
-6 rule add oif eth0 lookup 200 pref 1002
neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
-6 neigh add 2001:db8::77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
neigh add proxy 192.0.2.88 dev eth0
"""

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
    """A host to be built. `lines` are of `ip -batch`; `ports` are put on the bridge once it is there."""

    name: str
    lines: str = _V4 + _V6
    reached_at: tuple[str, ...] = ("192.0.2.2", "2001:db8::2")
    leased: bool = False
    advertised: bool = False
    guest: bool = False
    rules: str = ""
    ports: str = ""
    switches: dict[str, int] = field(default_factory=dict)
    up: tuple[str, ...] = ("up",)
    down: tuple[str, ...] = ("down",)

    @property
    def bridge(self) -> str:
        """The bridge's name once it is there."""
        return "eth0" if "--take-name" in self.up else "br0"


SCENES: Final = {
    scene.name: scene
    for scene in (
        Scene(name="static"),
        Scene(name="leased", lines=_V6, reached_at=(_LEASED, "2001:db8::2"), leased=True),
        Scene(name="advertised", lines=_V4, reached_at=("192.0.2.2", _SLAAC), advertised=True),
        Scene(
            name="secondaries",
            lines=_V4 + _V6 + _SECONDARIES,
            reached_at=("192.0.2.2", "192.0.2.4", "2001:db8::2", "2001:db8::99"),
            switches=SWITCHES,
        ),
        Scene(name="policy", lines=_V4 + _V6 + _POLICY),
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
