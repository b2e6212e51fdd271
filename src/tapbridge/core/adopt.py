"""A NIC becomes a port of a bridge, and the bridge takes over its place on the network. Make before break.

Theory of operation. Three things silence a host in this step, and each has its answer in the order of the stages:

- A bridge without carrier transmits nothing, and gets it only some time after its first port has joined. So a veth
  pair, the keeper, is its first port: the bridge is up before the NIC is touched.
- Between br_add_if() taking the NIC's frames and the port forwarding them there is a hole of up to a millisecond. So a
  tcx program, the shield, hands the frames to the bridge's own IP stack meanwhile (from Linux 6.6 on).
- Addresses and routes on the wrong link. So everything is on both links before, and the change itself, from
  enslaving the NIC to taking the last address from it, is one netlink batch, between two messages of which the
  process cannot even be killed. See transfer.py.
"""

from __future__ import annotations

from tapbridge.core.draft import Draft
from tapbridge.core.forecast import adoption_risks
from tapbridge.core.mark import make_mark, read_mark
from tapbridge.core.refuse import (
    carries_host,
    find_link,
    require_adoptable,
    require_carrier,
    require_free_bridge,
    require_movable_routes,
    require_open_firewall,
    require_renameable,
    require_vlans,
)
from tapbridge.core.transfer import Transfer, loosen_rp_filter
from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.core.wireless import needs_four_addresses, require_station, with_four_addresses
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.plan import Plan, Reason
from tapbridge.model.state import ALIAS, Bridge, Link, State
from tapbridge.model.step import (
    AddLink,
    Await,
    DeleteAddress,
    DeleteLink,
    RenameLink,
    SetAddressGeneration,
    SetAlias,
    SetMac,
    SetMaster,
    SetMtu,
    SetSysctl,
    SetUp,
    SetVlanFiltering,
    Shield,
    Step,
    Unshield,
)
from tapbridge.model.values import IfName, is_link_local
from tapbridge.model.verdict import Finding, Severity

NO_ADDRESSES = 1  # IN6_ADDR_GEN_MODE_NONE
_BRIDGE = Bridge(stp=False, mcast_snooping=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """What the owner of the NIC needs done: `early`, while the bridge has neither a port nor an address; before the
    move; and after it.

    One that configures its links `anew` throws away what it finds on the NIC when it gets it back, and brings its own.
    """

    early: tuple[Step, ...] = ()
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    anew: bool = False
    risks: tuple[Finding, ...] = ()


def require_adoption(intent: Adopt, state: State) -> Link:
    """The NIC, if it can be adopted as asked, whoever owns it. Raises Refused."""
    nic = find_link(state, intent.nic)
    require_adoptable(state, nic, intent)
    if intent.four_address or nic.kind == "wifi":
        require_station(intent, state, nic)
    if intent.vlan_aware:
        require_vlans(state, intent, nic)
    if nic.master is None:
        require_free_bridge(state, intent, nic)
        if intent.take_name:
            require_renameable(state, intent, nic)
        require_carrier(state, nic)
        require_movable_routes(state, nic)
        require_open_firewall(state, intent, nic)
    return nic


def adopt(intent: Adopt, state: State, hand_over: HandOver | None = None) -> Plan:
    """The plan that makes `intent.nic` a port of `intent.bridge`. Raises Refused where it cannot be done safely."""
    hand_over = hand_over or HandOver()
    nic = require_adoption(intent, state)
    if nic.master is not None:
        return _stay(intent, state, nic, nic.master)
    there = require_free_bridge(state, intent, nic)
    port = require_renameable(state, intent, nic) if intent.take_name else nic.name

    draft = Draft(state)
    draft.stage(Reason.PREPARE)
    if needs_four_addresses(nic):
        draft.do(with_four_addresses(state, nic))
    _make_bridge(draft, nic, intent, there)
    own_filter = loosen_rp_filter(draft, intent.bridge)
    draft.do(SetUp(link=intent.bridge, up=True))
    if hand_over.early:
        draft.stage(Reason.OWNER)
        draft.do(*hand_over.early)
        draft.stage(Reason.PREPARE)
        _bare_again(draft, nic, intent.bridge)
    final = nic.name if intent.take_name else intent.bridge
    transfer = Transfer(draft, source=nic.name, target=intent.bridge, source_after=port, target_after=final)
    keeper = _free_name(state, "tbkeep")
    if carries_host(state, nic):
        _raise_carrier(draft, nic, intent.bridge, keeper)
    elif not nic.up:
        draft.do(SetUp(link=nic.name, up=True))
    transfer.prepare()
    draft.stage(Reason.OWNER)
    draft.do(*hand_over.before)
    _move(draft, transfer, nic, intent, port)
    draft.stage(Reason.SETTLE)
    draft.do(Unshield(link=port))
    transfer.settle()
    draft.do(SetAddressGeneration(link=final, mode=nic.addr_gen_mode, token=nic.token))
    draft.do(SetAddressGeneration(link=port, mode=NO_ADDRESSES))
    if own_filter is not None:
        draft.do(SetSysctl(sysctl=replace(own_filter, link=final)))
    draft.stage(Reason.OWNER)
    draft.do(*hand_over.after)
    draft.stage(Reason.TIDY)
    if draft.state.link(keeper) is not None:
        draft.do(DeleteLink(link=keeper))
    touched = tuple(dict.fromkeys((nic.name, intent.bridge, final, port, keeper)))
    return draft.plan("up", touched, adoption_risks(state, nic, intent) + hand_over.risks)


def _stay(intent: Adopt, state: State, nic: Link, bridge: IfName) -> Plan:
    """The plan for a NIC that is a port already: its bridge is used."""
    draft = Draft(state)
    draft.stage(Reason.SETTLE)
    there = state.link(bridge)
    if intent.vlan_aware and there is not None and not tells_vlans_apart(there):
        draft.do(SetVlanFiltering(link=bridge, on=True))
    return draft.plan("up", (bridge,), _already(intent, nic))


def _already(intent: Adopt, nic: Link) -> tuple[Finding, ...]:
    message = f"{nic.name} is a port of the bridge {nic.master} already; that bridge is used"
    other = intent.bridge not in ("br0", nic.master) and not intent.take_name
    severity = Severity.WARNING if other else Severity.INFO
    return (Finding(code="already-port", severity=severity, subject=nic.name, message=message),)


def _make_bridge(draft: Draft, nic: Link, intent: Adopt, there: Link | None) -> None:
    """The bridge with the NIC's address from its first moment, so that neither kernel nor udev gives it another."""
    state, bridge = draft.state, intent.bridge
    if there is None:
        # Only a real change pins the MTU against that of later ports (br_change_mtu).
        other = nic.mtu + 1 if nic.mtu < 65535 else nic.mtu - 1
        options = replace(_BRIDGE, vlan_filtering=intent.vlan_aware)
        draft.do(AddLink(name=bridge, kind="bridge", mac=nic.mac, mtu=other, bridge=options))
        draft.do(SetAlias(link=bridge, alias=make_mark(nic)))
    elif nic.mac is not None:
        mark = read_mark(there)  # of ours that has lost its NIC: its guests stay
        kept = there.mac if mark is None else mark.kept
        draft.do(SetMac(link=bridge, mac=nic.mac), SetAlias(link=bridge, alias=make_mark(nic, kept=kept)))
        if intent.vlan_aware and not tells_vlans_apart(there):
            draft.do(SetVlanFiltering(link=bridge, on=True))
    draft.do(SetMtu(link=bridge, mtu=nic.mtu), SetAddressGeneration(link=bridge, mode=NO_ADDRESSES))
    for own in state.sysctls:
        if own.link == nic.name and draft.state.sysctl(bridge, own.stack, own.name) != own.value:
            draft.do(SetSysctl(sysctl=replace(own, link=bridge)))


def _bare_again(draft: Draft, nic: Link, bridge: IfName) -> None:
    """An owner lets the kernel make a link-local address; it would be probed for, and not be in use until then."""
    draft.do(SetAddressGeneration(link=bridge, mode=NO_ADDRESSES))
    link_local = [a for a in draft.before.addresses_of(nic.name) if is_link_local(a.family, a.ip)]
    draft.do(*(DeleteAddress(address=replace(a, link=bridge)) for a in link_local))


def _raise_carrier(draft: Draft, nic: Link, bridge: IfName, keeper: IfName) -> None:
    peer = _free_name(draft.state, "tbpeer")
    draft.do(
        AddLink(name=keeper, kind="veth", peer=peer, mtu=nic.mtu, up=True, master=bridge),
        SetAlias(link=keeper, alias=f"{ALIAS} keeper"),
        Await(link=bridge),
    )


def _move(draft: Draft, transfer: Transfer, nic: Link, intent: Adopt, port: IfName) -> None:
    if carries_host(draft.before, nic):
        draft.stage(Reason.SHIELD)
        draft.do(Shield(link=nic.name, to=intent.bridge))
    draft.stage(Reason.MOVE)
    final = intent.bridge
    if intent.take_name:
        final = nic.name
        draft.do(RenameLink(link=nic.name, to=port), RenameLink(link=intent.bridge, to=nic.name))
        transfer.late_addresses()
    draft.do(SetMaster(link=port, master=final))
    transfer.move_routes()
    transfer.leave()


def _free_name(state: State, stem: str) -> IfName:
    """The first name of the stem that no link has."""
    for number in range(100):
        name = IfName(f"{stem}{number}")
        if state.link(name) is None:
            return name
    raise Refused(f"a hundred links are called {stem}…", hint="tapbridge recover", code="name-taken", subject=stem)
