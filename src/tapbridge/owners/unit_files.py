"""A unit of systemd's that makes a bridge before the network is configured, by the commands that a user would type.

For whoever configures links but makes none. See systemd.service(5); a drop-in of the target that has the network pulls
it in, where `systemctl enable` would make a link.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.core.describe import describe
from tapbridge.core.mark import make_mark
from tapbridge.model.state import (
    PROTO_KERNEL,
    PROTO_RA,
    SCOPE_GLOBAL,
    TABLE_LOCAL,
    Bridge,
    File,
    Link,
    State,
)
from tapbridge.model.step import (
    AddLink,
    AddRoute,
    PutAddress,
    SetAddressGeneration,
    SetAlias,
    SetMaster,
    SetMtu,
    SetUp,
    Step,
    WriteFile,
)
from tapbridge.model.values import is_link_local
from tapbridge.owners.owner import Move

FOLDER: Final = "/etc/systemd/system"
_TARGET: Final = "multi-user.target"
_NO_ADDRESSES: Final = 1  # IN6_ADDR_GEN_MODE_NONE
_ETHERNET_MTU: Final = 1500
_UNIT: Final = """\
# Written by tapbridge save.
[Unit]
Description=The bridge {bridge}, with {nic} as its port
DefaultDependencies=no
Wants=network-pre.target
After=systemd-udev-trigger.service local-fs.target
Before=network-pre.target dhcpcd.service shutdown.target
Conflicts=shutdown.target
ConditionPathExists=!{held_back}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=-udevadm settle --timeout=30 --exit-if-exists=/sys/class/net/{nic}
{commands}
"""


def unit_files(state: State, bridge: Link, nic: Link, *, with_network: bool) -> tuple[File, File]:
    """The unit, and what pulls it in. `with_network`: it also gives the bridge its addresses and routes of now."""
    commands = [
        *(describe(step).command for step in _make(bridge, nic)),
        f"ip address flush dev {nic.name}",  # what an initramfs has left there would stand beside the bridge's own
        *(describe(step).command for step in (_network(state, bridge) if with_network else ())),
    ]
    text = _UNIT.format(
        bridge=bridge.name,
        nic=nic.name,
        held_back=held_back_path(bridge.name),
        commands="\n".join(f"ExecStart={command}" for command in commands),
    )
    name = f"tapbridge-{bridge.name}"
    pulled = f"# Written by tapbridge save.\n[Unit]\nWants={name}.service\n"
    return (
        File(path=_unit_path(bridge.name), content=text),
        File(path=f"{FOLDER}/{_TARGET}.d/{name}.conf", content=pulled),
    )


def held_back_path(bridge: str) -> str:
    """The file beside which the unit does not start, until the next boot."""
    return f"/run/tapbridge/{bridge}.held-back"


def hold_back(move: Move) -> tuple[Step, ...]:
    """The unit makes none of a saved bridge that is taken down: whoever starts a target starts what that wants."""
    if move.read(_unit_path(move.source)) is None:
        return ()
    return (WriteFile(path=held_back_path(move.source), content=""),)


def _unit_path(bridge: str) -> str:
    return f"{FOLDER}/tapbridge-{bridge}.service"


def _make(bridge: Link, nic: Link) -> Iterator[Step]:
    """The bridge as `up` makes it, and its port."""
    yield AddLink(name=bridge.name, kind="bridge", mac=bridge.mac, bridge=bridge.bridge or Bridge(mcast_snooping=False))
    yield SetAlias(link=bridge.name, alias=make_mark(nic))
    yield SetAddressGeneration(link=nic.name, mode=_NO_ADDRESSES)
    if nic.mtu != _ETHERNET_MTU:
        yield SetMtu(link=nic.name, mtu=nic.mtu)
    yield SetMaster(link=nic.name, master=bridge.name)
    yield SetUp(link=nic.name, up=True)
    yield SetUp(link=bridge.name, up=True)


def _network(state: State, bridge: Link) -> Iterator[Step]:
    """What somebody has put there for good: not what servers and routers have told, nor what the kernel makes."""
    for address in state.addresses_of(bridge.name):
        lasts = address.valid_lft is None and address.scope == SCOPE_GLOBAL
        if lasts and not is_link_local(address.family, address.ip):
            yield PutAddress(address=address)
    for route in state.routes_of(bridge.name):
        if route.protocol not in (PROTO_KERNEL, PROTO_RA) and route.table != TABLE_LOCAL and route.expires is None:
            yield AddRoute(route=route)
