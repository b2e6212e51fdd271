"""The links, addresses and sysctls of a lab as text: `ip -batch` lines, sysctl paths, files and command lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tapbridge.lab.spec import BEYOND, BEYOND_GATEWAY, NIC, SWITCH, Mark, Spec

DHCLIENT: Final = (
    *("dhclient", "-4", "-v", "-pf", f"/run/dhclient.{NIC}.pid", "-lf", f"/var/lib/dhcp/dhclient.{NIC}.leases"),
    NIC,
)
LEASES: Final = "/var/lib/misc/dnsmasq.leases"
LOG: Final = "/run/dnsmasq.log"
DOMAIN: Final = "lab.test"  # RFC 6761, 6.2
_RA_INTERVAL_S: Final = 10
_RA_LIFETIME_S: Final = 1800
_DHCLIENT_CONF: Final = """\
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
send host-name = gethostname();
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, host-name, interface-mtu,
        rfc3442-classless-static-routes;
"""


def sysctls(spec: Spec, place: str) -> dict[str, str]:
    """The sysctls of a place by path below /proc/sys, in order: `forwarding` sets others back when it is written."""
    router = place == "router"
    host = place in spec.host_names
    found = {"net/ipv4/ip_forward": "1" if router else "0"}
    if place == "lan":
        found |= {f"net/bridge/bridge-nf-call-{table}": "0" for table in ("iptables", "ip6tables", "arptables")}
    if not spec.ipv6:
        return found | {f"net/ipv6/conf/{which}/disable_ipv6": "1" for which in ("all", "default")}
    if router:
        found["net/ipv6/conf/all/forwarding"] = "1"
    if not host or not spec.dad:
        found["net/ipv6/conf/default/accept_dad"] = "0"
        found["net/ipv6/conf/default/dad_transmits"] = "0"
    if not host or spec.addresses == "static":
        found["net/ipv6/conf/default/accept_ra"] = "0"
    return found


def files(spec: Spec, place: str) -> dict[str, str]:
    """Files of a place that the machine's own must not shine through."""
    found = {
        "/etc/machine-id": f"{spec.machine_id(place)}\n",  # so that its guests' MACs are no other host's
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {place}\n",
        "/etc/resolv.conf": f"search {DOMAIN}\nnameserver {spec.ip('router', 4)}\n",
    }
    if place in spec.host_names and spec.addresses == "leased":
        found["/etc/dhcp/dhclient.conf"] = _DHCLIENT_CONF
        found["/etc/resolv.conf"] = ""  # dhclient writes it
    return found


def marking(mark: Mark) -> list[str]:
    """What is done first in every place: it is marked as ours."""
    return [f'link set lo alias "{mark}"', "link set lo up"]


def cabling(spec: Spec, pids: Mapping[str, int]) -> dict[str, list[str]]:
    """By place, the lines that make its links; `pids` are those of the places' keepers."""
    lan = [f"link add {SWITCH} mtu {spec.mtu} address {spec.mac('lan')} type bridge stp_state 0 mcast_snooping 0"]
    for place in ("router", "peer", *spec.host_names):
        lan += [_veth(spec, place, (place, 1), (place, pids[place])), f"link set {place} master {SWITCH} up"]
    lan += [f"link set {SWITCH} up"]
    return {"lan": lan, "router": [_veth(spec, "eth1", ("router", 2), ("beyond", pids["beyond"])), "link set eth1 up"]}


def _veth(spec: Spec, name: str, mac: tuple[str, int], far: tuple[str, int]) -> str:
    """A cable: its near end `name`, its far end the NIC of the place `far`, by name and PID."""
    place, pid = far
    near = f"link add {name} mtu {spec.mtu} address {spec.mac(*mac)} type veth"
    return f"{near} peer name {NIC} mtu {spec.mtu} address {spec.mac(place)} netns {pid}"


def addressing(spec: Spec, place: str) -> list[str]:
    """The lines that give a place its fixed addresses and its default routes."""
    link = SWITCH if place == "lan" else NIC
    lines = [f"link set {link} up"]
    if place in spec.host_names and spec.addresses == "leased":
        return lines
    for family in spec.families:
        dad = "" if family == 4 else " nodad"
        subnet = BEYOND[family] if place == "beyond" else spec.subnet(family)
        prefix = subnet.partition("/")[2]
        brd = "brd + " if family == 4 else ""
        lines += [f"addr add {spec.ip(place, family)}/{prefix} {brd}dev {link}{dad}"]
        if place == "router":
            lines += [f"addr add {BEYOND_GATEWAY[family]}/{BEYOND[family].partition('/')[2]} {brd}dev eth1{dad}"]
        else:
            gateway = BEYOND_GATEWAY[family] if place == "beyond" else spec.ip("router", family)
            lines += [f"route add default via {gateway} dev {link}"]
    return lines


def dnsmasq(spec: Spec) -> list[str]:
    """The command line of the router's DHCP, RA and DNS server. It returns when its sockets are open."""
    first, last = spec.lease_range(4)
    prefix = int(spec.subnet4.partition("/")[2])
    mask = ".".join(str((0xFFFFFFFF << 32 - prefix >> shift) & 0xFF) for shift in (24, 16, 8, 0))
    argv = [
        *(
            "dnsmasq",
            "--conf-file=/dev/null",
            "--user=root",
            "--group=",
            "--pid-file=/run/dnsmasq.pid",
            f"--log-facility={LOG}",
        ),
        *("--no-resolv", "--no-hosts", f"--domain={DOMAIN}", "--expand-hosts", f"--local=/{DOMAIN}/"),
        *("--interface=eth*", "--bind-interfaces", "--no-dhcp-interface=eth1"),
        *("--dhcp-authoritative", "--no-ping", "--log-dhcp", f"--dhcp-leasefile={LEASES}"),
        f"--dhcp-range={first},{last},{mask},{spec.lease_seconds}",
    ]
    for place in spec.places:
        if place not in spec.host_names or spec.addresses == "static":
            names = f"{place}.{DOMAIN},{place}"
            argv += [f"--host-record={names},{','.join(spec.ip(place, family) for family in spec.families)}"]
    if spec.renew_seconds is not None:
        argv += [f"--dhcp-option-force=option:T1,{spec.renew_seconds}"]
    if spec.ipv6:
        first, last = spec.lease_range(6)
        argv += [
            *("--enable-ra", f"--ra-param={NIC},{_RA_INTERVAL_S},{_RA_LIFETIME_S}"),
            f"--dhcp-range={first},{last},slaac,64,{spec.lease_seconds}",
        ]
    return argv


def programs(spec: Spec) -> dict[str, str]:
    """The programs that a lab needs, each with its Debian package."""
    needed = {"ip": "iproute2", "dnsmasq": "dnsmasq-base", "nsenter": "util-linux", "sleep": "coreutils"}
    return needed | ({"dhclient": "isc-dhcp-client"} if spec.addresses == "leased" else {})
