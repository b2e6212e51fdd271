"""`tapbridge up`: a NIC becomes a port of a bridge, and nobody notices."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tapbridge.cli.changing import ask, carry_out, foretell, plan_options
from tapbridge.cli.confirming import Guarding, check_options, choose_window, confirm_options
from tapbridge.cli.proving import NO_PROOF, Proof, ask_before, find_visitor
from tapbridge.cli.result import Result
from tapbridge.cli.turn import Session, turn
from tapbridge.core.adopt import adopt, require_adoption
from tapbridge.core.attach import with_taps
from tapbridge.core.choose import find_nic
from tapbridge.core.guard import guard
from tapbridge.core.refuse import find_link, require_renameable
from tapbridge.core.verify import verify, verify_carried, verify_uplink
from tapbridge.core.wireless import needs_four_addresses
from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan
from tapbridge.model.state import Link, State
from tapbridge.model.step import WriteFile
from tapbridge.model.values import IfName, parse_found_name, parse_new_name
from tapbridge.model.verdict import Finding, Verdict
from tapbridge.transact.signals import shielded_from_signals

if TYPE_CHECKING:
    from tapbridge.cli.permanence import Change
    from tapbridge.cli.world import World
    from tapbridge.linux.host import LinuxHost

_DEFAULT_BRIDGE = IfName("br0")
_OF_STATIONS = ("dhclient",)
"""The owners with whom a Wi-Fi card was moved."""

_CONFIRM_S = 30.0
"""How long a tapbridge confirm in another session may take."""


def options(parser: ArgumentParser) -> None:
    """The options of `up`."""
    parser.add_argument("nic", nargs="?", metavar="NIC", help="the NIC (default: the link of the best default route)")
    parser.add_argument("--bridge", metavar="NAME", help=f"the bridge's name (default {_DEFAULT_BRIDGE})")
    parser.add_argument(
        "--take-name", action="store_true", help="the bridge ends up with the NIC's name (Linux 6.2 or newer)"
    )
    parser.add_argument("--port-name", metavar="NAME", help="the NIC's name with --take-name (default: r + its name)")
    parser.add_argument("--save", action="store_true", help="make it permanent as well, once it is confirmed")
    aware = "the bridge tells VLANs apart, for taps with --vlan; one that is there is told so"
    parser.add_argument("--vlan-aware", action="store_true", help=aware)
    four = "let a Wi-Fi card send frames with four addresses (WDS), which the access point has to take"
    parser.add_argument("--4addr", dest="four_address", action="store_true", help=four)
    confirm_options(parser)
    parser.add_argument("--force", action="store_true", help="go on where an owner or the firewall speaks against it")
    plan_options(parser)
    parser.add_argument("--undo", action="store_true", help="with --script: print the way back instead")


def run(args: Namespace, world: World) -> Result:
    """Adopt a NIC, or show how it would be done."""
    if args.undo and not args.script:
        raise UsageError("--undo belongs to --script", hint="tapbridge up --script --undo", code="usage")
    if args.save and args.script:
        raise UsageError("--script shows the change itself, not what --save writes", hint="--dry-run", code="usage")
    check_options(args)
    names = [parse_new_name(name) for name in (args.bridge, args.port_name) if name is not None]
    if args.nic is not None:
        parse_found_name(args.nic)
    if args.dry_run or args.script:
        with world.host() as host:
            intent, plan = _plan(args, host.observe(), names, world)
            result = _foretell(args, world, intent, plan)
            return _with_save(result, _plan_save(plan, intent, world, host)) if args.save else result
    with turn(world, "up", wait_s=args.wait, as_json=args.json) as session:
        intent, plan = _plan(args, session.host.observe(), names, world)
        saved = _foresee(plan, intent, world, session.host, show=not args.quiet and not args.json) if args.save else ()
        ask(replace(plan, risks=plan.risks + saved), args, world)
        carrier = _carrier(plan.before, intent)
        visitor = find_visitor(plan.before, carrier) if args.confirm != 0 and plan.stages else None
        window = choose_window(args, remote=visitor is not None, terminal=world.is_terminal())
        guarding = Guarding(world, window, plan, carrier, _final(intent) if args.save else None)
        proof = ask_before(plan.before, carrier, visitor, guarded=window.guarded) if plan.stages else NO_PROOF
        with ExitStack() as shield:
            shield.enter_context(shielded_from_signals())
            result = _adopt(plan, intent, session, guarding, proof)
            waiting = guarding.wait(session, result) if guarding.applied is not None else None
            held = shield.pop_all() if waiting is not None else ExitStack()
        if waiting is None:
            result = guarding.tell(result)
            return _save_too(result, intent, session, world) if args.save else result
    with held:  # a signal before the wait listens would end the command alone
        result = waiting.end(no_wait=args.no_wait, quiet=args.quiet or args.json)
    if not args.save or "pending" in result.document:
        return result
    with turn(world, "up", wait_s=_CONFIRM_S, as_json=args.json) as session:  # whoever confirmed it may be saving it
        return _save_too(result, intent, session, world)


def _plan(args: Namespace, state: State, names: list[IfName], world: World) -> tuple[Adopt, Plan]:
    from tapbridge.cli.handover import hand_over
    from tapbridge.owners.ifupdown import STALE

    nic = _find_nic(state, args.nic)
    intent = Adopt(
        nic=nic.name,
        bridge=names[0] if args.bridge else _DEFAULT_BRIDGE,
        take_name=args.take_name,
        port_name=names[-1] if args.port_name else None,
        vlan_aware=args.vlan_aware,
        four_address=args.four_address,
        force=args.force,
    )
    if nic.master is None:
        _require_own(intent, world)
    require_adoption(intent, state)  # what cannot be bridged at all is refused before anybody asks who owns it
    if intent.vlan_aware:
        _require_vlans(state, nic)
    if intent.four_address and needs_four_addresses(nic):
        _require_supplicant(state, nic)
    final, port = _final(intent), _port(state, intent, nic)
    owner = hand_over(state, nic.name, final, port=port, bridge=intent.bridge, force=args.force)
    plan = with_taps(adopt(intent, state, owner), final)
    if args.save or os.access(world.saved_record(final), os.R_OK):
        plan = replace(plan, risks=tuple(risk for risk in plan.risks if risk.code != STALE))
    verdict = guard(plan, nic)
    if not verdict.ok:
        raise Refused(
            f"the plan is not safe: {verdict.findings[0].message}", hint="report this, with --dry-run", code="cut-off"
        )
    return (intent if nic.master is None else replace(intent, bridge=nic.master, take_name=False)), plan


def _require_own(intent: Adopt, world: World) -> None:
    """Whether a saved bridge of that name is this NIC's: udev would give the new one the mark of another's.

    Raises Refused.
    """
    if not os.access(world.saved_record(intent.bridge), os.R_OK):
        return
    from tapbridge.cli.permanence import read_record

    saved = read_record(world, intent.bridge)
    if saved is not None and saved.nic != intent.nic:
        raise Refused(
            f"{intent.bridge} is saved with {saved.nic} as its port",
            hint=f"take another name with --bridge, or: tapbridge unsave {intent.bridge}",
            code="saved-elsewhere",
            subject=intent.bridge,
        )


def _require_vlans(state: State, nic: Link) -> None:
    """What the kernel cannot do, and what a manager would undo. Raises Refused."""
    from tapbridge.linux.vlans import lacks_vlans
    from tapbridge.owners.table import find_owner

    if lacks_vlans():
        raise Refused(
            "the bridges of this kernel cannot tell VLANs apart",
            hint="it was built without CONFIG_BRIDGE_VLAN_FILTERING: use another kernel, or a bridge for each VLAN on "
            f"a VLAN link of its own: tapbridge up {nic.name}.7 --bridge br7",
            code="no-vlans",
        )
    owner = find_owner(state, nic.master or nic.name)
    if owner is not None and owner.name == "NetworkManager":
        raise Refused(
            f"NetworkManager holds {owner.link}, and its profile of the bridge would say nothing of VLANs",
            hint=f"use a bridge for each VLAN on a VLAN link of its own: tapbridge up {nic.name}.7 --bridge br7",
            code="not-built",
            subject=nic.name,
        )


def _require_supplicant(state: State, nic: Link) -> None:
    """Who lets the card join its network anew, and gives it addresses in a way that was tried. Raises Refused."""
    from tapbridge.linux.supplicant import find_supplicant
    from tapbridge.owners.table import find_owner

    owner = find_owner(state, nic.name)
    if owner is not None and owner.name not in _OF_STATIONS:
        raise Refused(
            f"{owner.name} holds {nic.name}, and a Wi-Fi card is handed over with {', '.join(_OF_STATIONS)} or static "
            f"addresses alone: {owner.proof}",
            hint=f"let wpa_supplicant join the network, and dhclient get the address of {nic.name}; or the guest can "
            "use user mode networking: tapbridge run --net user -- …",
            code="not-built",
            subject=nic.name,
        )
    if find_supplicant(nic.name) is None:
        raise Refused(
            f"no wpa_supplicant answers for {nic.name}, and on the way back the card has to join its network anew",
            hint="give it a control socket (ctrl_interface=/run/wpa_supplicant, or -C) and start it again",
            code="no-supplicant",
            subject=nic.name,
        )


def _foresee(plan: Plan, intent: Adopt, world: World, host: LinuxHost, *, show: bool) -> tuple[Finding, ...]:
    """What to know of saving it, as long as nothing has been touched. Raises Refused."""
    from tapbridge.cli.save import show_diff

    change = _plan_save(plan, intent, world, host)
    show_diff(change, quiet=not show)
    return change.plan.risks


def _plan_save(plan: Plan, intent: Adopt, world: World, host: LinuxHost) -> Change:
    from tapbridge.cli.permanence import plan_save

    written = {step.path: step.content for step in plan.steps if isinstance(step, WriteFile)}
    return plan_save(world, host, plan.after, _final(intent), None, written)


def _with_save(result: Result, change: Change) -> Result:
    """A preview, with that of the files behind it."""
    diff = change.diff()
    findings = (*result.findings, *change.plan.risks, *change.findings)
    text = f"{result.text}\n\nFiles, once it is confirmed:\n{diff or 'Nothing to do.'}"
    return replace(result, document={**result.document, "diff": diff}, text=text, findings=findings)


def _save_too(result: Result, intent: Adopt, session: Session, world: World) -> Result:
    if result.document["outcome"] not in ("done", "nothing"):
        return result
    from tapbridge.cli.save import save_too

    return save_too(result, _final(intent), session, world)


def _find_nic(state: State, name: str | None) -> Link:
    try:
        return find_nic(state, name)
    except Refused as refusal:
        from tapbridge.linux.elsewhere import find_elsewhere

        where = find_elsewhere(name) if name is not None and refusal.code == "no-such-link" else None
        if where is None:
            raise
        raise Refused(
            f"{name} is not in this network namespace but in the one named {where}",
            hint=f"run the command there: ip netns exec {where} tapbridge up {name}",
            code="other-namespace",
            subject=name or "",
        ) from None


def _foretell(args: Namespace, world: World, intent: Adopt, plan: Plan) -> Result:
    undo = _way_back(args, intent, plan) if args.script and plan.stages else None
    if args.undo:
        return foretell(undo or plan, world, as_script=True)
    return foretell(plan, world, as_script=args.script, undo=undo)


def _way_back(args: Namespace, intent: Adopt, plan: Plan) -> Plan:
    """The plan of a `down` right after this `up`, from the state and the files that it will have left."""
    from tapbridge.cli.handover import hand_over
    from tapbridge.core.release import GONE, release
    from tapbridge.core.restore import restore

    if _carrier(plan.before, intent) != intent.nic:
        return restore(plan.before, plan.after, plan.touched)
    written = {step.path: step.content for step in plan.steps if isinstance(step, WriteFile)}
    port = _port(plan.before, intent, find_link(plan.before, intent.nic))
    left = GONE if intent.take_name else intent.bridge
    owner = hand_over(plan.after, _final(intent), intent.nic, port=port, bridge=left, force=args.force, written=written)
    return release(Release(bridge=_final(intent), force=True), plan.after, owner)  # taps may have joined it


def _carrier(state: State, intent: Adopt) -> IfName:
    """The link that carries the host before the change."""
    nic = state.link(intent.nic)
    return nic.master if nic is not None and nic.master is not None else intent.nic


def _final(intent: Adopt) -> IfName:
    return intent.nic if intent.take_name else intent.bridge


def _port(state: State, intent: Adopt, nic: Link) -> IfName:
    """What the NIC is called as a port."""
    return require_renameable(state, intent, nic) if intent.take_name and nic.master is None else nic.name


def _adopt(plan: Plan, intent: Adopt, session: Session, guarding: Guarding, proof: Proof) -> Result:
    def words(state: State) -> str:
        return _success(state, intent) if plan.stages else "There is nothing to do."

    def check(state: State) -> Verdict:
        nic = plan.before.link(intent.nic)
        assert nic is not None, "it was found there"
        for verdict in (verify_uplink(plan, nic, state), verify(intent, state)):
            if not verdict.ok:
                return verdict
        return verify_carried(plan.after, state, _final(intent))

    prove = partial(proof.check, _final(intent))
    return carry_out(plan, session, check, words, guarding.guards(), prove=prove)


def _success(state: State, intent: Adopt) -> str:
    final = _final(intent)
    port = next((x.name for x in state.ports(final)), intent.nic)
    carried = ", ".join(f"{a.ip}/{a.prefix}" for a in state.addresses_of(final) if not a.temporary)
    lines = [f"{port} is a port of the bridge {final} now.", f"{final} carries {carried or 'no address'}."]
    return "\n".join(
        [*lines, "A guest on it: tapbridge run -- qemu-system-…", f"The way back:  tapbridge down {final}"]
    )
