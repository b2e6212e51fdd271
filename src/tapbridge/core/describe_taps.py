"""The words of steps that only taps know; see core/describe."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from tapbridge.core.rate import burst_bytes, dump_rate
from tapbridge.model import step as steps
from tapbridge.model.state import TAP_GROUP

GEN_MODES = {0: "eui64", 1: "none", 2: "stable_secret", 3: "random"}
Told = tuple[str, str, list[str] | str | None]
"""Sentence, reason, and the command as words or, where it takes two, as a line."""


def _add_tap(step: steps.AddTap) -> Told:
    tap = step.tap
    words = ["ip", "tuntap", "add", "dev", step.name, "mode", "tap"]
    words += ["user", str(tap.owner)] if tap.owner is not None else []
    words += ["group", str(tap.group)] if tap.group is not None else []
    words += [word for word, on in (("multi_queue", tap.multi_queue), ("vnet_hdr", tap.vnet_hdr)) if on]
    marked = ["ip", "link", "set", "dev", step.name, "address", step.mac]
    marked += ["alias", step.alias] if step.alias else []
    placed = ["mtu", str(step.mtu)] if step.mtu is not None else []
    placed += ["master", step.master] if step.master is not None else []
    lines = [words, marked]
    lines += [["ip", "link", "property", "add", "dev", step.name, "altname", one] for one in step.altnames]
    if step.addr_gen_mode is not None:
        lines.append(["ip", "link", "set", step.name, "addrgenmode", GEN_MODES[step.addr_gen_mode]])
    lines += [["ip", "link", "set", step.name, *placed]] if placed else []
    lines += [["ip", "link", "set", step.name, "up"]] if step.up else []
    where = f", a port of {step.master}" if step.master is not None else ""
    reason = "a card whose cable ends in a guest; it waits for the guest, who needs no rights to take it"
    return f"make the tap {step.name}{where}", reason, "; ".join(map(shlex.join, lines))


def _delete_taps(step: steps.DeleteTaps) -> Told:
    if len(step.taps) == 1:
        (tap,) = step.taps
        return f"delete the tap {tap}", "it is not wanted any more", ["ip", "link", "del", tap]
    group = str(TAP_GROUP)
    lines = [shlex.join(["ip", "link", "set", "dev", tap, "group", group]) for tap in step.taps]
    lines.append(shlex.join(["ip", "link", "del", "group", group]))
    reason = "in one link group, which goes in one act: one by one each takes the kernel 20 ms"
    return f"delete the taps {', '.join(step.taps)}", reason, "; ".join(lines)


def _limit_rate(step: steps.LimitRate) -> Told:
    burst = str(burst_bytes(step.rate))
    limit = ["rate", f"{step.rate}bit", "burst", burst]
    queue = ["tc", "qdisc", "replace", "dev", step.link, "root", "tbf", *limit, "limit", burst]
    ingress = ["tc", "qdisc", "replace", "dev", step.link, "ingress"]
    police = ["tc", "filter", "replace", "dev", step.link, "ingress", "handle", "1", "prio", "1", "matchall"]
    police += ["action", "police", *limit, "mtu", "131072", "conform-exceed", "drop"]
    sentence = f"limit {step.link} to {dump_rate(step.rate)} bits per second in each direction"
    reason = "what the guest gets waits for its turn, what it sends beyond that is dropped"
    return sentence, reason, "; ".join(map(shlex.join, (queue, ingress, police)))


def _set_filter(step: steps.SetFilter) -> Told:
    ips, mac = step.guard.ips, step.guard.mac
    what = f"{mac}" if ips is None else f"{mac} and {', '.join(ips) or 'no IP address'}"
    from tapbridge.core.filters import dump_filter

    lines = " ; ".join(dump_filter("${n}", step.guard).splitlines())
    command = f'n=$(cat {shlex.quote(f"/sys/class/net/{step.link}/ifindex")}); echo "{lines}" | nft -f -'
    return f"hold the guest on {step.link} to {what}", "whatever else it says of itself is dropped", command


def _put_port_address(step: steps.PutPortAddress) -> Told:
    words = ["bridge", "fdb", "add", step.mac, "dev", step.link, "master", "static"]
    return f"tell the bridge that {step.mac} is behind {step.link}", "it need not learn what it must not learn", words


TAP_WORDS: dict[type, Callable[[Any], Told]] = {
    steps.AddTap: _add_tap,
    steps.DeleteTaps: _delete_taps,
    steps.LimitRate: _limit_rate,
    steps.SetFilter: _set_filter,
    steps.PutPortAddress: _put_port_address,
}
