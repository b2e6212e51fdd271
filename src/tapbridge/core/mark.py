"""The mark on a bridge of ours: its alias in the kernel, which says all that the way back needs.

`tapbridge uplink=MAC nic=NAME [kept=MAC]`: whose uplink it carries (by the NIC's permanent address), how the NIC was
called, and, for a bridge that was there before us, the address that it had: such a bridge is not deleted.
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


def find_marked_uplink(link: Link, ports: tuple[Link, ...]) -> Link | None:
    """The port that the mark speaks of."""
    mark = read_mark(link)
    if mark is None:
        return None
    return next((port for port in ports if mark.uplink in (port.permanent_mac, port.mac)), None)
