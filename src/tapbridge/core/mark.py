"""The mark on a link of ours: its alias in the kernel, which says all that the way back needs.

A bridge: `tapbridge uplink=MAC nic=NAME [kept=MAC]`: whose uplink it carries (by the NIC's permanent address), how the
NIC was called, and, for a bridge that was there before us, the address that it had: such a bridge is not deleted.
A tap that waits for a guest: `tapbridge tap queues=N [bridge=NAME]`: what was asked for and the kernel forgets.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapbridge.model.state import ALIAS, Link
from tapbridge.model.values import IfName, Mac


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a bridge's alias says."""

    uplink: Mac
    nic: IfName
    kept: Mac | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TapMark:
    """What the alias of a tap that waits for a guest says."""

    queues: int = 1
    bridge: IfName | None = None


def make_mark(nic: Link, kept: Mac | None = None) -> str:
    """The alias of a bridge that takes this NIC in."""
    words = [ALIAS, f"uplink={nic.permanent_mac or nic.mac}", f"nic={nic.name}"]
    return " ".join(words + ([f"kept={kept}"] if kept else []))


def read_mark(link: Link) -> Mark | None:
    """What the alias says; None for a link that is not a bridge of ours."""
    if not link.ours or link.alias is None or link.kind != "bridge":
        return None
    fields = dict(word.split("=", 1) for word in link.alias.split()[1:] if "=" in word)
    if not fields.get("uplink") or not fields.get("nic"):
        return None
    kept = fields.get("kept")
    return Mark(uplink=Mac(fields["uplink"]), nic=IfName(fields["nic"]), kept=Mac(kept) if kept else None)


def make_tap_mark(mark: TapMark) -> str:
    """The alias of a tap that waits for a guest."""
    words = [ALIAS, "tap", f"queues={mark.queues}"]
    return " ".join(words + ([f"bridge={mark.bridge}"] if mark.bridge is not None else []))


def read_tap_mark(link: Link) -> TapMark | None:
    """What the alias says; None for a link that is not such a tap of ours."""
    words = (link.alias or "").split()
    if not link.ours or link.kind != "tap" or words[1:2] != ["tap"]:
        return None
    fields = dict(word.split("=", 1) for word in words[2:] if "=" in word)
    queues, bridge = fields.get("queues", ""), fields.get("bridge")
    if not (queues.isascii() and queues.isdigit() and len(queues) < 8):
        return None
    return TapMark(queues=int(queues), bridge=IfName(bridge) if bridge else None)


def find_marked_uplink(link: Link, ports: tuple[Link, ...]) -> Link | None:
    """The port that the mark speaks of."""
    mark = read_mark(link)
    if mark is None:
        return None
    return next((port for port in ports if mark.uplink in (port.permanent_mac, port.mac)), None)
