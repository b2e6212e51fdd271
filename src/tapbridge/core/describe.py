"""What a step is, in words: a sentence, the reason for it, and the command that does the same.

The commands are iproute2's wherever it has one: `up --script` prints them, and that script does the change.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from tapbridge.core.describe_routes import address_words, flag_words, neighbour_words, route_words, rule_words
from tapbridge.core.describe_taps import GEN_MODES, TAP_WORDS, Told
from tapbridge.core.describe_vlans import told_delete, told_filtering, told_put
from tapbridge.core.describe_wireless import told_four_address
from tapbridge.model import step as steps
from tapbridge.model.noun import dataclass, fields
from tapbridge.model.state import NODAD, Address
from tapbridge.model.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A step for a reader. `command` is one line for a POSIX shell; None where no command does the same."""

    sentence: str
    reason: str
    command: str | None


def describe(step: Step) -> Description:
    """Describe a step."""
    sentence, reason, words = _WORDS[type(step)](step)
    command = shlex.join(words) if isinstance(words, list) else words
    return Description(sentence=sentence, reason=reason, command=command)


_READ_NEXT = "whoever reads it next finds what is so from now on"


def _add_link(step: steps.AddLink) -> Told:
    if step.kind == "veth":
        words = ["ip", "link", "add", step.name, "up", "mtu", str(step.mtu), "master", str(step.master)]
        words += ["type", "veth", "peer", "name", str(step.peer), "mtu", str(step.mtu)]
        line = f"{shlex.join(words)}; {shlex.join(['ip', 'link', 'set', str(step.peer), 'up'])}"
        reason = "a bridge transmits nothing before a port of it has carrier; this one has it at once"
        return f"make the keeper, a pair of links that gives {step.master} carrier", reason, line
    words = ["ip", "link", "add", step.name, *(["address", step.mac] if step.mac else [])]
    words += ["mtu", str(step.mtu)] if step.mtu else []
    words += ["type", "bridge"]
    if step.bridge is not None:
        words += ["stp_state", str(int(step.bridge.stp)), "mcast_snooping", str(int(step.bridge.mcast_snooping))]
        words += ["forward_delay", str(step.bridge.forward_delay)]
        words += ["vlan_filtering", "1"] if step.bridge.vlan_filtering else []
    reason = "with the NIC's address from its first moment, the DHCP server and the neighbours know it"
    return f"make the bridge {step.name}", reason, words


def _delete_link(step: steps.DeleteLink) -> Told:
    return f"delete {step.link}", "it is not needed any more", ["ip", "link", "del", step.link]


def _set_up(step: steps.SetUp) -> Told:
    word = "up" if step.up else "down"
    return f"set {step.link} {word}", "a link that is down carries nothing", ["ip", "link", "set", step.link, word]


def _set_master(step: steps.SetMaster) -> Told:
    if step.master is None:
        return (
            f"take {step.link} out of its bridge",
            "frames arrive on the NIC itself again",
            ["ip", "link", "set", step.link, "nomaster"],
        )
    return (
        f"make {step.link} a port of {step.master}",
        "from now on its frames arrive on the bridge; it is never set down for that",
        ["ip", "link", "set", step.link, "master", step.master],
    )


def _set_mtu(step: steps.SetMtu) -> Told:
    reason = "an MTU that was really changed stays when a smaller port joins"
    return f"set the MTU of {step.link} to {step.mtu}", reason, ["ip", "link", "set", step.link, "mtu", str(step.mtu)]


def _set_mac(step: steps.SetMac) -> Told:
    return (
        f"give {step.link} the Ethernet address {step.mac}",
        "an address that was set does not follow the ports",
        ["ip", "link", "set", step.link, "address", step.mac],
    )


def _set_alias(step: steps.SetAlias) -> Told:
    sentence = f"mark {step.link} as ours" if step.alias else f"take our mark from {step.link}"
    return sentence, "only what is marked is ever deleted", ["ip", "link", "set", step.link, "alias", step.alias or ""]


def _set_generation(step: steps.SetAddressGeneration) -> Told:
    mode = GEN_MODES.get(step.mode, str(step.mode))
    words = ["ip", "link", "set", step.link, "addrgenmode", mode]
    if step.mode == 2:  # iproute2 sets the mode only together with a secret; the switch sets it alone
        words = ["sysctl", "-qw", f"net/ipv6/conf/{step.link}/addr_gen_mode=2"]
    what = "makes no IPv6 addresses by itself" if step.mode == 1 else f"makes IPv6 addresses by {mode}"
    return f"{step.link} {what}", "an address must not be made twice, on the port and on the bridge", words


def _rename(step: steps.RenameLink) -> Told:
    return (
        f"rename {step.link} to {step.to}",
        "firewall rules and configuration that speak of the name stay true",
        ["ip", "link", "set", step.link, "name", step.to],
    )


def _set_port(step: steps.SetPort) -> Told:
    port = step.port
    words = ["bridge", "link", "set", "dev", step.link]
    words += ["priority", str(port.priority)]
    for field in fields(port):
        on = getattr(port, field.name)
        words += [field.name, "on" if on else "off"] if isinstance(on, bool) else []
    return f"set the port flags of {step.link}", "as asked for", words


def _put_address(step: steps.PutAddress) -> Told:
    address = step.address
    words = ["ip", *_family(address), "address", "replace", *address_words(address), *flag_words(address)]
    if address.family == 6 and (not step.dad or address.flags & NODAD):
        words.append("nodad")
    text = f"{address.ip}/{address.prefix}"
    if step.dad:
        return f"give {text} on {address.link} its own metric and flags", "nothing is held back any more", words
    return f"put {text} on {address.link} too", "there is no moment without the address", words


def _delete_address(step: steps.DeleteAddress) -> Told:
    address = step.address
    which = (
        [address.ip, "peer", f"{address.peer}/{address.prefix}"] if address.peer else [f"{address.ip}/{address.prefix}"]
    )
    words = ["ip", *_family(address), "address", "del", *which, "dev", address.link]
    reason = "an address left on the wrong link answers to nobody"
    return f"take {address.ip}/{address.prefix} from {address.link}", reason, words


def _route(verb: str, sentence: str, reason: str) -> Callable[[Any], Told]:
    def told(step: steps.PutRoute | steps.AddRoute | steps.DeleteRoute) -> Told:
        route = step.route
        links = ", ".join(sorted({hop.link for hop in route.nexthops if hop.link})) or "no link"
        words = ["ip", f"-{route.family}", "route", verb, *route_words(route)]
        if isinstance(step, steps.AddRoute) and step.first:
            words[3] = "prepend"
        return sentence.format(dst=_destination(route.dst), links=links), reason, words

    return told


def _destination(dst: str) -> str:
    return "everywhere (the default route)" if dst in ("0.0.0.0/0", "::/0") else dst


def _put_neighbour(step: steps.PutNeighbour) -> Told:
    one = step.neighbour
    reason = "the first packet out need not wait for ARP or ND"
    words = ["ip", f"-{one.family}", "neigh", "replace", *neighbour_words(one)]
    return f"tell {one.link} the neighbour {one.ip}", reason, words


def _drop_router_routes(step: steps.DropRouterRoutes) -> Told:
    reason = "one that came since the plan was made would lead to where no router is"
    words = ["ip", "-6", "route", "flush", "dev", step.link, "proto", "ra"]
    return f"take what routers have advertised from {step.link}", reason, words


def _delete_neighbour(step: steps.DeleteNeighbour) -> Told:
    one = step.neighbour
    words = ["ip", f"-{one.family}", "neigh", "del", *(["proxy"] if one.flags & 8 else []), one.ip, "dev", one.link]
    return f"take the neighbour {one.ip} from {one.link}", "it is known on the other link", words


def _add_rule(step: steps.AddRule) -> Told:
    words = ["ip", f"-{step.rule.family}", "rule", "add", *rule_words(step.rule)]
    return f"add the rule {step.rule.priority}", "it named the other link", words


def _delete_rule(step: steps.DeleteRule) -> Told:
    words = ["ip", f"-{step.rule.family}", "rule", "del", *rule_words(step.rule)]
    return f"delete the rule {step.rule.priority}", "its successor is in place", words


def _set_sysctl(step: steps.SetSysctl) -> Told:
    one = step.sysctl
    key = f"net/{one.stack}/conf/{one.link}/{one.name}"
    reason = "the bridge behaves as the NIC did"
    if one.name == "rp_filter":
        reason = "while frames may arrive on either link the reverse path filter must be loose; afterwards as before"
    return f"set {one.name} of {one.link} to {one.value}", reason, ["sysctl", "-qw", f"{key}={one.value}"]


def _set_dns(step: steps.SetDns) -> Told:
    dns = step.dns
    if not dns.servers and not dns.domains:
        return f"forget the DNS servers of {dns.link}", "they moved", ["resolvectl", "revert", dns.link]
    sentence = f"tell systemd-resolved the DNS servers of {dns.link}: {', '.join(dns.servers)}"
    return sentence, "names go on being resolved", ["resolvectl", "dns", dns.link, *dns.servers]


def _await(step: steps.Await) -> Told:
    is_up = f"ip link show dev {step.link} up | grep -q 'state UP'"
    words = ["sh", "-c", f"for i in $(seq {int(step.limit_s * 100)}); do {is_up} && exit; sleep 0.01; done; exit 1"]
    return f"wait until {step.link} is up, {step.limit_s:g} s at most", "before that it transmits nothing", words


def _await_local(step: steps.AwaitLocal) -> Told:
    is_local = f'ip -6 route show table local dev {step.link} | grep -q "local $ip "'
    turns = f"for i in $(seq {int(step.limit_s * 100)}); do {is_local} && break; sleep 0.01; done"
    words = ["sh", "-c", f"for ip in {' '.join(step.ips)}; do {turns}; done"]
    sentence = f"wait until {step.link} takes packets for {', '.join(step.ips)}, {step.limit_s:g} s at most"
    return sentence, "the kernel acknowledges an IPv6 address some time before it is in use", words


def _shield(step: steps.Shield) -> Told:
    reason = "the kernel drops frames while a port joins or leaves a bridge (0.05 to 1 ms); these bypass it"
    return f"hand what arrives on {step.link} straight to {step.to} (a tcx program, Linux 6.6)", reason, None


def _unshield(step: steps.Unshield) -> Told:
    return f"end the bypass of {step.link}", "the change is made", None


def _stop_client(step: steps.StopClient) -> Told:
    one = step.client
    reason = "killed, it releases nothing: the address stays ours"
    if one.pid:
        return f"end {one.program} (PID {one.pid}), which holds {one.link}", reason, ["kill", "-KILL", str(one.pid)]
    line = re.escape(" ".join(one.argv))  # it does not run yet, so it has no number
    return f"end {one.program}, which holds {one.link}", reason, ["pkill", "-KILL", "-x", "-f", line]


def _start_client(step: steps.StartClient) -> Told:
    one = step.client
    return f"start {one.program} on {one.link}", "it asks for the same lease again, by INIT-REBOOT", list(one.argv)


def _pause_client(step: steps.PauseClient) -> Told:
    one = step.client
    reason = "it must not act on what it sees half done"
    return f"stop {one.program} for a moment", reason, ["pkill", "-STOP", "-x", one.program[:15]]


def _resume_client(step: steps.ResumeClient) -> Told:
    one = step.client
    return f"let {one.program} go on", "what it sees now is done", ["pkill", "-CONT", "-x", one.program[:15]]


def _reload_client(step: steps.ReloadClient) -> Told:
    reason = "links whose files are as they were are left as they are"
    return f"let {step.client.program} read its files anew", reason, ["networkctl", "reload"]


def _await_client(step: steps.AwaitClient) -> Told:
    one = step.client
    told = "unmanaged" if step.left else one.files[0].path if one.files else "configur"
    holds = f"networkctl status {one.link} | grep -qF {shlex.quote(told)}"
    if step.left:  # or there is none any more
        holds = f"{{ [ ! -e /sys/class/net/{one.link} ] || {holds}; }}"
    words = ["sh", "-c", f"for i in $(seq {int(step.limit_s * 10)}); do {holds} && exit; sleep 0.1; done; exit 1"]
    act = "lets go of" if step.left else "looks after"
    what = f" and has a lease of {', '.join(step.leased)}" if step.leased else ""
    sentence = f"wait until {one.program} {act} {one.link}{what}, {step.limit_s:g} s at most"
    return sentence, "it does so some time after it was told", words


def _stop_unit(step: steps.StopUnit) -> Told:
    names = ", ".join(dict.fromkeys(str(client.link) for client in step.clients))
    reason = "stopped, it neither releases nor deconfigures, and does not interfere"
    return f"stop {step.unit}, which holds {names}", reason, ["systemctl", "stop", step.unit]


def _start_unit(step: steps.StartUnit) -> Told:
    names = ", ".join(dict.fromkeys(str(client.link) for client in step.clients))
    sentence = f"start {step.unit}, and wait until it holds {names}, {step.limit_s:g} s at most"
    return sentence, "it finds all in place and goes on with the same lease", ["systemctl", "start", step.unit]


def _write_file(step: steps.WriteFile) -> Told:
    if step.content is None:
        return f"delete {step.path}", "nobody reads it any more", ["rm", "-f", step.path]
    folder = shlex.quote(step.path.rpartition("/")[0])
    mask = "" if step.mode == 0o644 else f"umask {0o777 & ~step.mode:03o}; "
    line = f"mkdir -p {folder}; {mask}printf %s {shlex.quote(step.content)} > {shlex.quote(step.path)}"
    return f"write {step.path}", _READ_NEXT, ["sh", "-c", line]


def _write_link_file(step: steps.WriteLinkFile) -> Told:
    number = f"$(cat {shlex.quote(f'/sys/class/net/{step.link}/ifindex')})"
    words = ["sh", "-c", f"printf %s {shlex.quote(step.content)} > {shlex.quote(step.folder)}/{number}"]
    return f"write the file of {step.link} in {step.folder}", _READ_NEXT, words


def _family(address: Address) -> list[str]:
    return [f"-{address.family}"]


_WORDS: dict[type, Callable[[Any], Told]] = {
    **TAP_WORDS,
    steps.AddLink: _add_link,
    steps.DeleteLink: _delete_link,
    steps.SetUp: _set_up,
    steps.SetMaster: _set_master,
    steps.SetMtu: _set_mtu,
    steps.SetMac: _set_mac,
    steps.SetAlias: _set_alias,
    steps.SetAddressGeneration: _set_generation,
    steps.RenameLink: _rename,
    steps.SetPort: _set_port,
    steps.SetVlanFiltering: told_filtering,
    steps.PutVlans: told_put,
    steps.DeleteVlans: told_delete,
    steps.SetFourAddress: told_four_address,
    steps.PutAddress: _put_address,
    steps.DeleteAddress: _delete_address,
    steps.PutRoute: _route("replace", "lead the route to {dst} through {links}", "replaced in its place, in one act"),
    steps.AddRoute: _route("append", "add the route to {dst} through {links}", "another link has the first place"),
    steps.DeleteRoute: _route("del", "take away the route to {dst} through {links}", "its successor is in place"),
    steps.PutNeighbour: _put_neighbour,
    steps.DeleteNeighbour: _delete_neighbour,
    steps.AddRule: _add_rule,
    steps.DropRouterRoutes: _drop_router_routes,
    steps.DeleteRule: _delete_rule,
    steps.SetSysctl: _set_sysctl,
    steps.SetDns: _set_dns,
    steps.Await: _await,
    steps.AwaitLocal: _await_local,
    steps.Shield: _shield,
    steps.Unshield: _unshield,
    steps.StopClient: _stop_client,
    steps.StartClient: _start_client,
    steps.PauseClient: _pause_client,
    steps.ResumeClient: _resume_client,
    steps.ReloadClient: _reload_client,
    steps.AwaitClient: _await_client,
    steps.StopUnit: _stop_unit,
    steps.StartUnit: _start_unit,
    steps.WriteFile: _write_file,
    steps.WriteLinkFile: _write_link_file,
}
