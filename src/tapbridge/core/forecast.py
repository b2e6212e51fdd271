"""What an adoption will break or change that no plan can help: told before anything is touched."""

from __future__ import annotations

from tapbridge.core.wireless import station_risks
from tapbridge.model.intent import Adopt
from tapbridge.model.state import DADFAILED, Attachment, Link, State
from tapbridge.model.verdict import Finding, Severity

_RESTART = "restart that program after the change, on the bridge"
_STAYS = "look after the change whether it is still wanted there"
_TOLD: dict[str, tuple[str, Severity, str, str | None]] = {
    "socket": ("bound-socket", Severity.WARNING, "{holder}: its {detail} is bound to {nic} and goes deaf", _RESTART),
    "packet-socket": ("bound-packet-socket", Severity.WARNING, "{holder}: its {detail} on {nic} goes deaf", _RESTART),
    "membership": (
        "multicast-membership",
        Severity.WARNING,
        "{detail} was joined on {nic}, by {holder}, and will not be heard there any more",
        _RESTART,
    ),
    "tc": ("tc-stays", Severity.WARNING, "{detail} stays on {nic}, below the bridge", _STAYS),
    "xdp": ("xdp-stays", Severity.WARNING, "{detail} stays on {nic}, below the bridge", _STAYS),
    "lro": ("lro-off", Severity.INFO, "{detail} will be switched off: a bridge cannot forward merged frames", None),
}
_OTHER = ("stays-on-nic", Severity.INFO, "{detail} stays on {nic}", None)
_RULES = ("nft-rule", "iptables-rule", "input-drop")
_RULES_BY_NUMBER = ("nft-rule-by-number", "input-drop-by-number")
_STABLE_PRIVACY = (2, 3)
_COMM = 15  # bytes of a name that the kernel keeps
_FOLLOWING = ("systemd-resolve",)
"""Programs, by the kernel's name for them, that open their sockets anew on whatever link has addresses."""
_SUPPLICANT = "wpa_supplicant"
"""What it has to hear for a wireless card comes by nl80211, whatever becomes of its packet sockets."""


def adoption_risks(state: State, nic: Link, intent: Adopt) -> tuple[Finding, ...]:
    """Findings of severity info and warning about what hangs on the NIC."""
    owners = {client.program[:_COMM] for client in state.clients if client.link in (nic.name, None)}
    owners |= {_SUPPLICANT} if nic.kind == "wifi" else set()
    found = [
        _attached(x, intent)
        for x in state.attachments
        if x.link == nic.name and x.program not in owners and x.program not in _FOLLOWING
    ]
    found += [_vlan(link, nic) for link in state.links if link.kind == "vlan" and link.parent == nic.name]
    found += [_duplicate(a.ip, nic) for a in state.addresses_of(nic.name) if a.flags & DADFAILED]
    if nic.addr_gen_mode in _STABLE_PRIVACY:
        message = (
            f"the bridge has no permanent address, so IPv6 addresses made after today differ from those of {nic.name}"
        )
        found.append(Finding(code="stable-privacy", severity=Severity.INFO, subject=nic.name, message=message))
    found += station_risks(nic, intent)
    return tuple(finding for finding in found if finding is not None)


def _attached(item: Attachment, intent: Adopt) -> Finding | None:
    holder = f"{item.program} ({item.pid})" if item.program else "a program that the kernel does not name"
    if item.kind in _RULES_BY_NUMBER:
        return Finding(
            code="firewall-names-nic",
            severity=Severity.WARNING,
            subject=item.link,
            message=f"a firewall rule has the number of {item.link}, and the bridge has another: {item.detail}",
            fix="write iifname and oifname instead of iif and oif in that rule",
        )
    if item.kind in _RULES:
        if intent.take_name:
            return None
        return Finding(
            code="firewall-names-nic",
            severity=Severity.WARNING,
            subject=item.link,
            message=f"a firewall rule names {item.link}, but traffic will arrive on the bridge: {item.detail}",
            fix="tapbridge up --take-name keeps such rules true",
        )
    code, severity, words, fix = _TOLD.get(item.kind, _OTHER)
    message = words.format(holder=holder, detail=item.detail, nic=item.link)
    return Finding(code=code, severity=severity, subject=item.link, message=message, fix=fix)


def _vlan(link: Link, nic: Link) -> Finding:
    """Frames of a VLAN that arrive on the NIC are taken by the VLAN's link, before the bridge sees them."""
    return Finding(
        code="vlan-stays",
        severity=Severity.INFO,
        subject=link.name,
        message=f"{link.name} goes on beside the bridge, on {nic.name}; guests on the bridge do not hear that VLAN",
        fix=f"for guests in that VLAN: tapbridge up {link.name} --bridge NAME" if link.master is None else None,
    )


def _duplicate(ip: str, nic: Link) -> Finding:
    message = f"{ip} on {nic.name} is a duplicate of another machine's address and is not carried over"
    return Finding(code="duplicate-address", severity=Severity.WARNING, subject=nic.name, message=message)
