"""A host with one of everything that a State can hold, laid out by iproute2, and its dumps as the kernel gives them.

`python -m kit.everything FOLDER` in a namespace of its own, with tests/ on the path, records the dumps anew.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from kit.command import run
from tapbridge.linux import uapi
from tapbridge.linux.attributes import pack_u32
from tapbridge.linux.channel import Channel
from tapbridge.model.step import Await
from tapbridge.model.values import IfName

LINKS = """
link add br0 address 02:00:00:00:00:01 type bridge stp_state 0 mcast_snooping 0 forward_delay 200
link add br1 type bridge stp_state 1
link add nic0 address 02:00:00:00:00:01 mtu 1400 type veth peer name far0
link add nic1 address 02:00:00:00:01:01 type veth peer name far1
link add link nic1 name mac0 type macvlan mode bridge
link add vx0 type vxlan id 7 dev nic1 dstport 4789
tuntap add tap0 mode tap user 65534 group 100 multi_queue vnet_hdr
tuntap add tap1 mode tap
tuntap add tun0 mode tun
link property add dev nic1 altname a-name-that-is-much-longer-than-fifteen-bytes altname enp0s1
link set nic1 alias "a card, of the user's own"
link set br0 alias "tapbridge uplink=02:00:00:00:00:01"
link set mac0 addrgenmode random
link set nic0 master br0
link set tap0 master br0
link set tap0 type bridge_slave isolated on learning off flood off hairpin on locked on
link set far0 up
link set far1 up
link set nic0 up
link set nic1 up
link set br0 up
link set tap0 up
link set mac0 up
link set tun0 up
link set br0 addrgenmode eui64
token set ::5 dev nic1
"""
FOUR = """
address add 192.0.2.1/24 brd 192.0.2.255 dev br0
address add 192.0.2.2/24 dev br0 label br0:two valid_lft 3600 preferred_lft 1800 metric 50
address add 198.51.100.1/24 dev br0 noprefixroute scope link
address add 203.0.113.1 peer 203.0.113.2/32 dev nic1
address add 2001:db8::1/64 dev br0 nodad
address add 2001:db8::2/64 dev br0 nodad mngtmpaddr valid_lft 3600 preferred_lft 1800 metric 50
address add 2001:db8:1::1/128 peer 2001:db8:1::2 dev nic1 nodad noprefixroute
address add 2001:db8:2::1/64 dev nic1 nodad preferred_lft 0
address add fe80::5/64 dev nic1 nodad
route add default via 192.0.2.254 dev br0 proto dhcp src 192.0.2.2 metric 100 mtu 1300 advmss 1260 initcwnd 20
route add 10.0.0.0/8 via 192.0.2.253 dev br0 congctl reno realms 3 mtu lock 1280
route add 10.1.0.0/16 nexthop via 192.0.2.253 dev br0 weight 1 nexthop via 203.0.113.2 dev nic1 weight 200
route add 10.2.0.0/16 via 10.99.0.1 dev br0 onlink table 1000 tos 0x10
route add 10.3.0.0/16 via inet6 2001:db8::fe dev br0
route add blackhole 10.4.0.0/16
route add unreachable 10.5.0.0/16 metric 7
route add prohibit 10.6.0.0/16 table 77
route add throw 10.7.0.0/16 table 77
route add local 10.8.0.0/16 dev lo
route append 10.0.0.0/8 via 192.0.2.252 dev br0
route add ::/0 via 2001:db8::fe dev br0 metric 512 pref high expires 1000
route add 2001:db8:a::/48 via 2001:db8::fd dev br0 src 2001:db8::2 mtu 1380 proto static
route add 2001:db8:b::/48 nexthop via 2001:db8::fd dev br0 weight 1 nexthop via fe80::9 dev nic1 weight 3
route add 2001:db8:c::/48 from 2001:db8:d::/48 via 2001:db8::fd dev br0 table 1000
route add blackhole 2001:db8:e::/48
route add unreachable 2001:db8:f::/48 metric 7
nexthop add id 5 via 192.0.2.251 dev br0
route add 10.9.0.0/16 nhid 5
rule add from 192.0.2.0/24 to 10.0.0.0/8 iif br0 oif nic1 fwmark 0x10/0xff tos 0x10 priority 1000 table 1000
rule add not uidrange 1-5 ipproto tcp sport 1-9 dport 80 priority 1001 table 77 protocol static
rule add priority 1002 goto 1003
rule add priority 1003 nop
rule add fwmark 7 prohibit priority 1004
rule add table main suppress_prefixlength 0 priority 1005
neigh add 192.0.2.254 lladdr 02:00:00:00:00:fe dev br0 nud permanent protocol static
neigh add 192.0.2.253 lladdr 02:00:00:00:00:fd dev br0 nud stale
neigh add 2001:db8::fe lladdr 02:00:00:00:00:fe dev br0 nud permanent router
neigh add proxy 192.0.2.77 dev nic1
neigh add proxy 2001:db8::77 dev nic1
neigh add 192.0.2.66 lladdr 02:00:00:00:00:66 dev br0 nud noarp
"""
SIX = """
rule add from 2001:db8::/32 iif br0 unreachable priority 1000
rule add oif nic1 table 1000 priority 1001
"""
STATION = "fdb add 02:00:00:00:0a:0a dev nic0 master static\n"

DUMPS: dict[str, tuple[int, bytes]] = {
    "links": (
        uapi.RTM_GETLINK,
        bytes(16) + pack_u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS),
    ),
    "addresses": (uapi.RTM_GETADDR, bytes(8)),
    "routes4": (uapi.RTM_GETROUTE, bytes((uapi.AF_INET,)) + bytes(11)),
    "routes6": (uapi.RTM_GETROUTE, bytes((uapi.AF_INET6,)) + bytes(11)),
    "rules4": (uapi.RTM_GETRULE, bytes((uapi.AF_INET,)) + bytes(11)),
    "rules6": (uapi.RTM_GETRULE, bytes((uapi.AF_INET6,)) + bytes(11)),
    "neighbours": (uapi.RTM_GETNEIGH, bytes(12)),
    "proxies": (uapi.RTM_GETNEIGH, bytes(10) + bytes((uapi.NTF_PROXY, 0))),
    "forwarding": (uapi.RTM_GETNEIGH, bytes((uapi.AF_BRIDGE,)) + bytes(11)),
}


def keep_quiet() -> None:
    """Let the kernel make no IPv6 address by itself on links to come, so that nothing changes but by our doing."""
    for place in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{place}/addr_gen_mode").write_text("1")


def lay_out() -> None:
    """Make it all in the network namespace of this thread, waiting for the links first."""
    from tapbridge.linux.host import LinuxHost

    keep_quiet()
    run("ip", "-batch", "-", stdin=LINKS)
    with LinuxHost() as host:
        host.perform([Await(link=IfName(name), limit_s=5) for name in ("br0", "nic0", "nic1", "far0", "far1", "mac0")])
    run("ip", "-batch", "-", stdin=FOUR)
    run("ip", "-6", "-batch", "-", stdin=SIX)
    run("bridge", "-batch", "-", stdin=STATION)


def record(folder: Path) -> None:
    """Write the dumps as the kernel gives them, netlink headers included."""
    channel = Channel()
    for name, (kind, body) in DUMPS.items():
        with (folder / f"{name}.bin").open("wb") as file:
            for answer in channel.dump(kind, body):
                file.write(
                    struct.pack("=IHHII", 16 + len(answer), kind - 2, 2, 1, 0) + answer + bytes(-len(answer) % 4)
                )
    channel.close()


if __name__ == "__main__":
    lay_out()
    record(Path(sys.argv[1]))
