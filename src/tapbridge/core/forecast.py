"""What an adoption will break or change that no plan can help: told before anything is touched."""

from __future__ import annotations

from tapbridge.model.intent import Adopt
from tapbridge.model.state import DADFAILED, Attachment, Link, State
from tapbridge.model.verdict import Finding, Severity

_DIES = {
    "socket": ("bound-socket", Severity.WARNING, "is bound to {nic} and will receive nothing more"),
    "packet-socket": ("bound-packet-socket", Severity.WARNING, "listens on {nic} and will receive nothing more"),
    "membership": (
        "multicast-membership",
        Severity.WARNING,
        "is a multicast member on {nic} and will receive nothing more",
    ),
    "tc": ("tc-stays", Severity.WARNING, "stays on {nic}, below the bridge"),
    "xdp": ("xdp-stays", Severity.WARNING, "stays on {nic}, below the bridge"),
    "lro": ("lro-off", Severity.INFO, "will be switched off: a bridge cannot forward merged frames"),
}
_RULES = ("nft-rule", "iptables-rule", "input-drop")
_RULES_BY_NUMBER = ("nft-rule-by-number", "input-drop-by-number")
_STABLE_PRIVACY = (2, 3)


def adoption_risks(state: State, nic: Link, intent: Adopt) -> tuple[Finding, ...]:
    """Findings of severity info and warning about what hangs on the NIC."""
    found = [_attached(item, intent) for item in state.attachments if item.link == nic.name]
    found += [_duplicate(a.ip, nic) for a in state.addresses_of(nic.name) if a.flags & DADFAILED]
    if nic.addr_gen_mode in _STABLE_PRIVACY:
        message = (
            f"the bridge has no permanent address, so IPv6 addresses made after today differ from those of {nic.name}"
        )
        found.append(Finding(code="stable-privacy", severity=Severity.INFO, subject=nic.name, message=message))
    return tuple(finding for finding in found if finding is not None)


def _attached(item: Attachment, intent: Adopt) -> Finding | None:
    holder = f"{item.program} ({item.pid})" if item.program else "a process that cannot be seen"
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
    code, severity, words = _DIES.get(item.kind, ("stays-on-nic", Severity.INFO, "stays on {nic}"))
    who = item.detail if item.kind in ("tc", "xdp", "lro") else f"{holder}: {item.detail}"
    return Finding(
        code=code,
        severity=severity,
        subject=item.link,
        message=f"{who} {words.format(nic=item.link)}",
        fix=None if severity is Severity.INFO else "restart that program after the change, on the bridge",
    )


def _duplicate(ip: str, nic: Link) -> Finding:
    message = f"{ip} on {nic.name} is a duplicate of another machine's address and is not carried over"
    return Finding(code="duplicate-address", severity=Severity.WARNING, subject=nic.name, message=message)
