"""The options of `run` and `args` that ask for NICs, in the order in which they were given.

Each `--net` opens a NIC, and the NIC's options follow it. Without any `--net` there is one NIC, on the default network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final

from tapbridge.cli.words import number_in, typed
from tapbridge.core.attach import MTU_LARGEST, PORTS, QUEUES
from tapbridge.core.filters import parse_allowed
from tapbridge.core.macs import PREFIX, parse_prefix
from tapbridge.core.rate import parse_rate
from tapbridge.core.topology import find_uplink
from tapbridge.core.vlans import VLAN
from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.noun import dataclass, fields, replace
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName, Mac, parse_found_name, parse_ip, parse_mac

USER: Final = "user"
MTU: Final = range(68, MTU_LARGEST + 1)
"""What a tap can have, in bytes, from ETH_MIN_MTU on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicRequest:
    """What was asked for one NIC; None is silence. `tap` and `fds` are for `args`, which makes no tap."""

    net: str | None = None
    mac: Mac | None = None
    mac_prefix: str | None = None
    model: str | None = None
    queues: int | None = None
    vhost: str | None = None
    mtu: int | None = None
    rate: int | None = None
    guard: str | None = None
    ip: tuple[str, ...] | None = None
    allow: tuple[str, ...] | None = None
    vlan: int | None = None
    tap: IfName | None = None
    fds: tuple[int, ...] | None = None


class _OpenNic(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, _: Any = None
    ) -> None:
        namespace.nics = (*namespace.nics, NicRequest(net=value))


class _OfNic(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, _: Any = None
    ) -> None:
        if namespace.nics:
            *others, last = namespace.nics
            namespace.nics = (*others, replace(last, **{self.dest: value}))
        else:
            namespace.alone = replace(namespace.alone, **{self.dest: value})


def nic_options(parser: argparse.ArgumentParser) -> None:
    """Add `--name`, `--keep-nics`, `--net` and what belongs to a NIC."""
    parser.add_argument("--name", help="the guest's name (default: QEMU's -name, else guest)")
    parser.add_argument(
        "--keep-nics",
        action="store_true",
        help="leave NICs alone that QEMU's own arguments make (default: refuse, and say what to write instead)",
    )
    card_options(parser)


def card_options(parser: argparse.ArgumentParser) -> None:
    """Add `--net` and what belongs to a NIC."""
    parser.set_defaults(nics=(), alone=NicRequest())
    of_nic = parser.add_argument_group("NICs", "each --net opens a NIC; the options behind it are that NIC's")
    of_nic.add_argument(
        "--net",
        action=_OpenNic,
        dest="nics",
        metavar="NET",
        help="a bridge, or user: QEMU's own user mode (default: the one bridge that has an uplink)",
    )

    def add(option: str, read: Callable[[str], object], metavar: str, text: str) -> None:
        of_nic.add_argument(
            option, action=_OfNic, type=typed(read), metavar=metavar, default=argparse.SUPPRESS, help=text
        )

    add("--mac", parse_mac, "MAC", "the guest's Ethernet address (default: made from this host and the guest's name)")
    add("--mac-prefix", parse_prefix, "PREFIX", f"what that address begins with, one to five bytes (default: {PREFIX})")
    add(
        "--model",
        str,
        "MODEL",
        "the card: e1000, rtl8139, …, or what fits the machine: virtio, old, ne2k, board; properties may follow: "
        "MODEL,bus=pci.1",
    )
    add("--queues", number_in(range(1, QUEUES + 1), "queues"), "N", "pairs of queues, virtio only (default 1)")
    add("--vhost", _vhost, "auto|on|off", "the kernel's own virtio engine (default auto: where there is one)")
    add(
        "--mtu",
        number_in(MTU, "an MTU"),
        "N",
        "bytes a frame may carry; a virtio guest is told (default: the bridge's)",
    )
    add(
        "--rate",
        parse_rate,
        "RATE",
        "bits per second that the guest may send, and as many that it gets: 100M, with K, M or G (default: no limit)",
    )
    add(
        "--guard",
        _guard,
        "mac|ip|off",
        "drop what the guest says under another Ethernet address, as a router or as the host (mac), or from any other "
        "IP address than --ip (ip); default off",
    )
    add("--ip", _ips, "IP[,IP…]", "the guest's addresses, for --guard ip")
    add(
        "--allow",
        parse_allowed,
        "WORD[,WORD…]",
        "what a guarded guest may do all the same: dhcp (serve or relay it), macs (use other Ethernet addresses), "
        "router (advertise itself), vlan (tag)",
    )
    add("--vlan", number_in(VLAN, "a VLAN"), "N", "the VLAN of the guest, who sees no tags; needs up --vlan-aware")


def script_options(parser: argparse.ArgumentParser) -> None:
    """Add what only `args` has."""
    group = parser.add_argument_group("taps", "of the NIC that the option stands behind, as --mac is")
    group.add_argument(
        "--tap", action=_OfNic, type=typed(parse_found_name), metavar="TAP", default=argparse.SUPPRESS,
        help="a tap that exists, which QEMU opens by its name",
    )  # fmt: skip
    group.add_argument(
        "--fd", action=_OfNic, dest="fds", type=typed(_descriptors), metavar="N[:N…]", default=argparse.SUPPRESS,
        help="open files of a tap, one per queue, that QEMU inherits (default: from 3 on)",
    )  # fmt: skip


def read_requests(nics: Sequence[NicRequest], alone: NicRequest) -> tuple[NicRequest, ...]:
    """The NICs that were asked for. What stands before one `--net` belongs to it, for there is no other NIC.

    Raises UsageError for what stands before several, and for what one NIC cannot have both.
    """
    requests = _requests(nics, alone)
    if any(request.mac is not None and request.mac_prefix is not None for request in requests):
        raise UsageError("--mac-prefix is for an address that --mac does not give", hint="choose one", code="usage")
    for request in requests:
        if (request.guard == "ip") != (request.ip is not None):
            raise UsageError("--guard ip and --ip belong together", hint="--guard ip --ip 192.0.2.10", code="usage")
        if request.allow is not None and request.guard not in ("mac", "ip"):
            raise UsageError("--allow is for a guest that is guarded", hint="--guard mac --allow vlan", code="usage")
    return requests


def _requests(nics: Sequence[NicRequest], alone: NicRequest) -> tuple[NicRequest, ...]:
    if not nics:
        return (alone,)
    if alone == NicRequest():
        return tuple(nics)
    given = {
        field.name: getattr(alone, field.name) for field in fields(alone) if getattr(alone, field.name) is not None
    }
    if len(nics) > 1:
        first = min(given).replace("_", "-").replace("fds", "fd")
        raise UsageError(
            f"--{first} stands before the first --net, and there are several NICs",
            hint="put it behind the --net that it is for",
            code="usage",
        )
    return (replace(nics[0], **{name: value for name, value in given.items() if getattr(nics[0], name) is None}),)


def find_bridge(net: str | None, state: State) -> Link | None:
    """The bridge of a network; None for user mode. Raises Refused for what is none, with what to do."""
    if net == USER:
        return None
    if net is None:
        return _default_bridge(state)
    kind = net.partition(":")[0]
    if kind in ("passt", "vde"):
        raise Refused(
            f"a guest on {kind} is not built yet",
            hint="--net BRIDGE, or --net user",
            code="not-built",
            subject=net,
        )
    link = state.link(parse_found_name(net))
    if link is None:
        raise Refused(f"there is no bridge {net!r}", hint=_nearest(net, state), code="no-such-bridge", subject=net)
    if link.kind != "bridge":
        raise Refused(f"{link.name} is no bridge", hint=_instead(link, state), code="not-a-bridge", subject=link.name)
    if len(state.ports(link.name)) >= PORTS:
        raise Refused(
            f"{link.name} has {PORTS} ports, and a bridge takes no more",
            hint="use another bridge",
            code="bridge-full",
            subject=link.name,
        )
    return link


def _default_bridge(state: State) -> Link:
    bridges = [link for link in state.links if link.kind == "bridge"]
    found = [link for link in bridges if find_uplink(state, link.name) is not None]
    found = [link for link in found if link.ours] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(link.name for link in found)
        raise Refused(
            f"several bridges have an uplink: {names}",
            hint=f"choose one: --net {found[0].name}",
            code="several-bridges",
        )
    others = f" ({', '.join(link.name for link in bridges[:8])}: without an uplink)" if bridges else ""
    raise Refused(
        f"no bridge leads to the network{others}",
        hint="make one of this host's NIC: tapbridge up; or use QEMU's own user mode: --net user",
        code="no-bridge",
    )


def _nearest(net: str, state: State) -> str:
    import difflib

    bridges = [link.name for link in state.links if link.kind == "bridge"]
    near = difflib.get_close_matches(net, bridges, n=1)
    if near:
        return f"--net {near[0]}"
    if bridges:
        return f"bridges of this host: {', '.join(bridges[:8])}"
    return "make one of this host's NIC: tapbridge up; or use QEMU's own user mode: --net user"


def _instead(link: Link, state: State) -> str:
    if link.master is not None and link.master_kind in ("bridge", None) and state.link(link.master) is not None:
        return f"it is a port of {link.master}: --net {link.master}"
    if link.kind == "":
        return f"make a bridge of it: tapbridge up {link.name}"
    return _nearest(link.name, state)


def _vhost(text: str) -> str:
    if text not in ("auto", "on", "off"):
        raise ValueError(f"{text!r} is not auto, on or off")
    return text


def _guard(text: str) -> str:
    if text not in ("mac", "ip", "off"):
        raise ValueError(f"{text!r} is not mac, ip or off")
    return text


def _ips(text: str) -> tuple[str, ...]:
    return tuple(parse_ip(word)[1] for word in text.split(","))


def _descriptors(text: str) -> tuple[int, ...]:
    words = text.split(":")
    if not all(word.isascii() and word.isdigit() and len(word) < 8 for word in words):
        raise ValueError(f"{text!r} is not a number of an open file, or several with ':' between them")
    return tuple(int(word) for word in words)
