"""The ways to put a NIC under a bridge that are compared, each as the shell script that a person would type."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from meter.rig import DHCLIENT, NIC

TAPBRIDGE = Path(sys.executable).with_name("tapbridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way: its scripts by verb, on which host it is tried, and how long its traffic is watched afterwards."""

    name: str
    leased: bool
    scripts: dict[str, str]
    settle_s: float

    @property
    def title(self) -> str:
        """Name and host."""
        return f"{'leased' if self.leased else 'static'}: {self.name}"


def _tapbridge(option: str = "", before: str = "") -> dict[str, str]:
    up, down = f"{TAPBRIDGE} -q up {NIC} --yes --confirm 0 {option}", f"{TAPBRIDGE} -q down --yes"
    return {"up": f"{before} {up}".strip(), "down": f"{before} {down}".strip()}


_NO_BPF = "setpriv --bounding-set -bpf,-sys_admin --"
"""Without the right to load a program tapbridge does what it can do on a kernel that has no tcx."""


_2007_BEGIN = f"""
{DHCLIENT} -r {NIC}
ip address flush dev {NIC}
ip link set {NIC} down
ip link set {NIC} name p{NIC}
"""
_2007_BRCTL = f"""{_2007_BEGIN}
brctl addbr {NIC}
ip tuntap add tap0 mode tap
brctl addif {NIC} p{NIC}
brctl addif {NIC} tap0
ip link set tap0 up
ip link set p{NIC} up
ip link set {NIC} up
{DHCLIENT} {NIC}
"""
_2007_IP = f"""{_2007_BEGIN}
ip link add {NIC} type bridge
ip tuntap add tap0 mode tap
ip link set p{NIC} master {NIC}
ip link set tap0 master {NIC}
ip link set tap0 up
ip link set p{NIC} up
ip link set {NIC} up
{DHCLIENT} {NIC}
"""
_NAIVE_BEGIN = f"""
ip link add br0 type bridge
ip link set br0 up
ip link set {NIC} master br0
ip address flush dev {NIC}
"""
_NAIVE_STATIC = f"""{_NAIVE_BEGIN}
ip address add 10.9.0.2/24 brd + dev br0
ip address add fd09::ff:fe00:102/64 dev br0
ip route add default via 10.9.0.1
ip -6 route replace default via fe80::1 dev br0
"""
_NAIVE_LEASED = f"""
{DHCLIENT} -x {NIC}
{_NAIVE_BEGIN}
{DHCLIENT} br0
"""

WAYS = (
    Way(name="tapbridge", leased=False, scripts=_tapbridge(), settle_s=0.5),
    Way(name="tapbridge --take-name", leased=False, scripts=_tapbridge("--take-name"), settle_s=0.5),
    Way(name="tapbridge, no tcx (Linux < 6.6)", leased=False, scripts=_tapbridge(before=_NO_BPF), settle_s=0.5),
    Way(name="naive ip script", leased=False, scripts={"up": _NAIVE_STATIC}, settle_s=4),
    Way(name="tapbridge", leased=True, scripts=_tapbridge(), settle_s=0.5),
    Way(name="tapbridge --take-name", leased=True, scripts=_tapbridge("--take-name"), settle_s=0.5),
    Way(name="naive ip script", leased=True, scripts={"up": _NAIVE_LEASED}, settle_s=4),
    Way(name="2007 recipe, brctl", leased=True, scripts={"up": _2007_BRCTL}, settle_s=4),
    Way(name="2007 recipe, ip", leased=True, scripts={"up": _2007_IP}, settle_s=4),
)
