"""A host with a NIC on a LAN, in two anonymous namespaces: the world of the adoption tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.command import run
from kit.netns import Netns, new_netns

PLAIN = """
link set eth0 address 02:00:00:00:01:02
link set eth0 up
addr add 192.0.2.2/24 dev eth0
addr add 2001:db8::2/64 dev eth0 nodad
route add default via 192.0.2.1
-6 route add default via 2001:db8::1
"""

ADDRESSES = """
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
-6 addr add 2001:db8::99/64 dev eth0 nodad valid_lft 7200 preferred_lft 3600
-6 addr add 2001:db8:1::1/64 dev eth0 nodad noprefixroute
-6 addr add 2001:db8:2::1/128 dev eth0 nodad
"""
"""Addresses of every kind, with what else a link can be told."""

POLICY = """
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
"""Routes, rules and neighbours of every kind, for a NIC with 192.0.2.3."""

RICH = ADDRESSES + POLICY
"""Everything that a NIC can carry and `ip` can say, on top of PLAIN."""

SWITCHES = {"ipv4/conf/eth0/rp_filter": 1, "ipv4/conf/eth0/arp_ignore": 1, "ipv4/conf/eth0/proxy_arp": 1}


@contextmanager
def host_on_lan(rich: bool = False) -> Iterator[Netns]:
    """This thread in a host's namespace whose eth0 is on a LAN with 192.0.2.1 and 2001:db8::1; yields the LAN's."""
    with new_netns() as lan, new_netns() as host, host.entered():
        batch(f"link add eth0 type veth peer name p0 netns {lan.path}\nlink set eth0 addrgenmode none")
        with lan.entered():
            batch(
                "link set p0 address 02:00:00:00:01:01 up\naddr add 192.0.2.1/24 dev p0\n"
                "addr add 2001:db8::1/64 dev p0 nodad"
            )
        batch(PLAIN)
        batch("addr add fe80::ff:fe00:102/64 dev eth0 nodad\nlink set eth0 addrgenmode eui64")
        if rich:
            for key, value in SWITCHES.items():
                Path("/proc/sys/net", key).write_text(str(value))
            batch(RICH)
        yield lan


def batch(lines: str) -> None:
    """Run lines of `ip -batch`; those that begin with -6 after the others, which matters only for rules."""
    six = [line.removeprefix("-6 ") for line in lines.splitlines() if line.startswith("-6 ")]
    run("ip", "-batch", "-", stdin="\n".join(line for line in lines.splitlines() if not line.startswith("-6 ")))
    run("ip", "-6", "-batch", "-", stdin="\n".join(six))


def ping(lan: Netns, address: str) -> bool:
    """Whether the address answers one of three pings from the LAN."""
    with lan.entered():
        done = run("ping", "-c", "3", "-i", "0.2", "-W", "1", "-q", address, check=False)
    return done.returncode == 0
