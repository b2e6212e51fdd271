"""Why a NIC cannot be adopted, or not so: every refusal before anything is touched."""

from __future__ import annotations

from tapbridge.core.mark import find_marked_uplink, read_mark
from tapbridge.core.transfer import is_heard
from tapbridge.core.vlans import own_vlans
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName, is_link_local

RENAME_UP_KERNEL = (6, 2)
"""Linux renames a link that is up from this version on (bd039b5ea2a9)."""

_HOLDS_THE_LINK = {"macvlan": "macvlan", "macvtap": "macvtap", "ipvlan": "ipvlan", "ipvtap": "ipvtap"}
_MODES = "the guest can use user mode networking: tapbridge run --net user -- …"
_OUT_OF_MASTER = {
    "vrf": f"take it out of the VRF first (ip link set {{nic}} nomaster), or {_MODES}",
    "openvswitch": "Open vSwitch is a bridge already: give it the guest's tap as a port "
    "(tapbridge tap add TAP; ovs-vsctl add-port BRIDGE TAP)",
}
"""What helps where adopting the master itself would not."""


def find_link(state: State, name: str) -> Link:
    """The link of that name or altname. Raises Refused with the nearest names."""
    link = state.link(name)
    if link is not None:
        return link
    import difflib

    names = [x.name for x in state.links if x.kind != "loopback"] + [a for x in state.links for a in x.altnames]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or sorted(names)[:5]
    hint = f"there is {', '.join(near)}" if near else "there is no link but lo here: a network namespace of its own?"
    raise Refused(f"there is no link {name!r} in this network namespace", hint=hint, code="no-such-link", subject=name)


def require_adoptable(state: State, nic: Link, intent: Adopt) -> None:
    """Whether this kind of link can be a port that carries the host. Never overridden. Raises Refused."""
    reason = _kind_reason(nic, intent)
    if reason:
        message, hint = reason
        raise Refused(f"{nic.name} {message}", hint=hint, code="not-bridgeable", subject=nic.name)
    if nic.master and nic.master_kind != "bridge":
        raise Refused(
            f"{nic.name} is a port of the {nic.master_kind} {nic.master}",
            hint=_OUT_OF_MASTER.get(nic.master_kind or "", "adopt {master} itself: tapbridge up {master}").format(
                nic=nic.name, master=nic.master
            ),
            code="has-master",
            subject=nic.name,
        )
    for child in state.links:
        if child.parent == nic.name and child.kind in _HOLDS_THE_LINK:
            raise Refused(
                f"{nic.name} has the {child.kind} {child.name} on it, and the kernel lets a link be either its parent "
                "or a bridge port",
                hint=f"take it away first (ip link del {child.name}) and give its guest a tap on the bridge instead",
                code="has-macvlan",
                subject=nic.name,
            )
    if nic.mac is None or int(nic.mac[:2], 16) & 1:
        raise Refused(f"{nic.name} has no Ethernet address of its own", code="not-bridgeable", subject=nic.name)


def _kind_reason(nic: Link, intent: Adopt) -> tuple[str, str] | None:
    if nic.kind == "loopback":
        return "is the loopback link, which is connected to nothing", "name the NIC that reaches the LAN"
    if nic.kind == "bridge":
        return "is a bridge already", f"put a guest on it: tapbridge run --net {nic.name} -- qemu-system-…"
    if nic.kind == "wifi" and not (nic.four_address or intent.four_address):
        station = "is a Wi-Fi station: an access point takes frames from its own address only"
        return station, f"{_MODES}; or, where the access point takes four addresses: tapbridge up {nic.name} --4addr"
    if nic.kind in ("tap", "tun"):
        return f"is a {nic.kind}, the other end of which is a process", "name the NIC that reaches the LAN"
    if nic.kind == "openvswitch":
        return "belongs to Open vSwitch, which is a bridge already", _OUT_OF_MASTER["openvswitch"]
    if nic.kind == "vrf":
        return "is a VRF, a set of routes without a wire of its own", "name the NIC that reaches the LAN"
    if nic.kind in ("macvlan", "macvtap", "ipvlan", "ipvtap"):
        return f"is a {nic.kind}, which cannot carry other addresses than its own", _MODES
    if not nic.ethernet:
        return "is no Ethernet link, and a bridge carries nothing else", _MODES
    return None


def carries_host(state: State, nic: Link) -> bool:
    """Whether the NIC has an address that is not link-local, a route of somebody's making, or a client."""
    return (
        any(not is_link_local(a.family, a.ip) for a in state.addresses_of(nic.name))
        or any(not is_link_local(r.family, r.dst.partition("/")[0]) for r in state.routes_of(nic.name))
        or any(client.link == nic.name for client in state.clients)
    )


def require_carrier(state: State, nic: Link) -> None:
    """A configured NIC must work before it is moved, else nothing could prove that it works after. Raises Refused."""
    if carries_host(state, nic) and not (nic.up and nic.carrier):
        what = "no carrier (is the cable in?)" if nic.up else "been set down"
        raise Refused(
            f"{nic.name} is configured but has {what}, so nobody could tell whether the host still works afterwards",
            hint=f"ip link set {nic.name} up, see that it has carrier, and try again",
            code="no-carrier",
            subject=nic.name,
        )


def require_free_bridge(state: State, intent: Adopt, nic: Link) -> Link | None:
    """The bridge to use if it exists already. Raises Refused where the name is taken by what is not ours."""
    there = state.link(intent.bridge)
    if there is None:
        return None
    if there.name != intent.bridge or there.name == nic.name:
        hint = f"choose another name, or let the bridge take over {nic.name}: tapbridge up --take-name"
        raise Refused(f"{intent.bridge} is a name of {there.name}", hint=hint, code="name-taken", subject=intent.bridge)
    if there.kind != "bridge":
        raise Refused(
            f"{intent.bridge} exists and is no bridge", hint="choose another: --bridge NAME", code="name-taken",
            subject=intent.bridge,
        )  # fmt: skip
    ports = state.ports(there.name)
    uplink = find_marked_uplink(there, ports)
    if uplink is not None:
        raise Refused(
            f"{there.name} has an uplink already, {uplink.name}; a second would close a loop",
            hint="choose another: --bridge NAME",
            code="bridge-in-use",
            subject=there.name,
        )
    configured = any(not is_link_local(a.family, a.ip) for a in state.addresses_of(there.name))
    if not there.ours and (ports or configured):
        raise Refused(
            f"the bridge {there.name} belongs to somebody else: it has "
            + (f"the port {ports[0].name}" if ports else "addresses of its own"),
            hint="choose another: --bridge NAME",
            code="bridge-not-ours",
            subject=there.name,
        )
    if there.bridge and there.bridge.stp:
        raise Refused(
            f"the bridge {there.name} has STP on, which would silence the host for 30 s",
            hint=f"ip link set {there.name} type bridge stp_state 0",
            code="stp-on",
            subject=there.name,
        )
    if there.bridge and there.vlans != own_vlans(there.bridge):
        raise Refused(
            f"the bridge {there.name} tells VLANs apart, and the host would not be where it is now",
            hint=f"choose another: --bridge NAME; bridge vlan show dev {there.name}",
            code="vlans-own",
            subject=there.name,
        )
    return there


def require_vlans(state: State, intent: Adopt, nic: Link) -> None:
    """Whether a bridge that is there can tell VLANs apart without anybody noticing. Raises Refused."""
    there = state.link(nic.master or intent.bridge)
    if there is None or there.bridge is None or there.bridge.vlan_filtering:
        return
    mark = read_mark(there)
    if mark is None or mark.kept is not None:
        raise Refused(
            f"the bridge {there.name} was not made by tapbridge, so whoever made it lets it tell VLANs apart",
            hint=f"ip link set {there.name} type bridge vlan_filtering 1",
            code="bridge-not-ours",
            subject=there.name,
        )
    above = next((link for link in state.links if link.kind == "vlan" and link.parent == there.name), None)
    if above is not None:
        raise Refused(
            f"{above.name} on {there.name} would hear nothing any more: the host is in no VLAN of that bridge",
            hint=f"ip link del {above.name}, and give the host that VLAN on the NIC, beside the bridge",
            code="vlan-on-bridge",
            subject=above.name,
        )


def require_renameable(state: State, intent: Adopt, nic: Link) -> IfName:
    """The name that the NIC will have with --take-name. Raises Refused."""
    if state.kernel < RENAME_UP_KERNEL:
        version = ".".join(map(str, state.kernel))
        raise Refused(
            f"--take-name renames a link that is up, which Linux can from 6.2 on; this is {version}",
            hint=f"leave --take-name out: the bridge is then called {intent.bridge}; "
            f"rules that name {nic.name} must be changed by hand",
            code="kernel-too-old",
            subject=nic.name,
        )
    port = intent.port_name or IfName(f"r{nic.name}"[:15])
    if state.link(port) is not None:
        raise Refused(
            f"the NIC would be called {port}, but there is such a link", hint="--port-name NAME", code="name-taken",
            subject=port,
        )  # fmt: skip
    return port


def require_movable_routes(state: State, nic: Link) -> None:
    """Routes that we could not put back exactly are not touched at all. Raises Refused."""
    for route in state.routes_of(nic.name):
        encap = next((hop.encap for hop in route.nexthops if hop.encap), None)
        if encap or (route.nexthop_object and not is_heard(state, nic.name, route)):
            what = f"an encapsulation ({encap})" if encap else f"the nexthop object {route.nexthop_object}"
            raise Refused(
                f"the route to {route.dst} through {nic.name} has {what}, which cannot be moved",
                hint="take the route away, run the command again, and add the route on the bridge",
                code="route-not-movable",
                subject=nic.name,
            )


def require_open_firewall(state: State, intent: Adopt, nic: Link) -> None:
    """An input rule that accepts by the NIC's name under a dropping policy would cut the host off. Raises Refused."""
    if intent.force:
        return
    for attachment in state.attachments:
        if attachment.link == nic.name and attachment.kind == "input-drop-by-number":
            raise Refused(
                f"the firewall accepts input by the number of {nic.name} and drops the rest: {attachment.detail}",
                hint="a bridge has a number of its own: write iifname instead of iif, oifname instead of oif",
                code="firewall-names-nic",
                subject=nic.name,
            )
        if attachment.link == nic.name and attachment.kind == "input-drop" and not intent.take_name:
            raise Refused(
                f"the firewall accepts input by the name {nic.name} and drops the rest: {attachment.detail}",
                hint="let the bridge take the NIC's name, so that the rule stays true: tapbridge up --take-name",
                code="firewall-names-nic",
                subject=nic.name,
            )
