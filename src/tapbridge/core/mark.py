"""The mark on a link of ours: its alias in the kernel, which says all that the way back needs.

A bridge: `tapbridge uplink=MAC nic=NAME [kept=MAC] [4addr=off]`: whose uplink it carries (by the NIC's permanent
address), how the NIC was called, and, for a bridge that was there before us, the address that it had: such a bridge is
not deleted. The last word is of a wireless card whose frames had three addresses.
A tap that waits for a guest: `tapbridge tap queues=N [bridge=NAME] [vlan=N]`: what was asked for and
the kernel forgets.
A guest's tap: `tapbridge [guard=mac|ip] guest=NAME`: whose it is, and that a filter holds it.
A tap that the broker lent: `tapbridge broker uid=N pid=N started=N mac=MAC[/XX] [guard=mac|ip] guest=NAME`: to whom,
with whose end it ends, with which address it was lent, and how that of the guest's card begins, which ends likewise.
"""

from __future__ import annotations

from typing import Final

from tapbridge.model.noun import dataclass
from tapbridge.model.state import ALIAS, Link
from tapbridge.model.values import IfName, Mac

GUEST_BYTES: Final = 128
"""A guest's name at most; the kernel's alias, which holds it, has 255 bytes (IFALIASZ)."""

_GUARDS: Final = {f" guard={kind}": kind for kind in ("mac", "ip")}
GUEST_HEADS: Final = frozenset(ALIAS + guard for guard in ("", *_GUARDS))
"""What may stand before ` guest=` on a tap of ours that nobody has lent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a bridge's alias says."""

    uplink: Mac
    nic: IfName
    kept: Mac | None = None
    three_addresses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TapMark:
    """What the alias of a tap that waits for a guest says."""

    queues: int = 1
    bridge: IfName | None = None
    vlan: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanMark:
    """What the alias of a tap that the broker lent says. `started` tells the process from a later one of its PID: clock
    ticks since boot. `mac` is the tap's own address, which its holder could change; `card` is that of the guest's card,
    which has another first byte (core/macs.py), None where the guest has not told it."""

    uid: int
    pid: int
    started: int
    mac: Mac
    card: Mac | None = None
    guest: str | None = None
    guard: str | None = None


def make_mark(nic: Link, kept: Mac | None = None) -> str:
    """The alias of a bridge that takes this NIC in."""
    words = [ALIAS, f"uplink={nic.permanent_mac or nic.mac}", f"nic={nic.name}"]
    words += [f"kept={kept}"] if kept else []
    return " ".join(words + (["4addr=off"] if nic.kind == "wifi" and not nic.four_address else []))


def read_mark(link: Link) -> Mark | None:
    """What the alias says; None for a link that is not a bridge of ours."""
    if not link.ours or link.alias is None or link.kind != "bridge":
        return None
    fields = dict(word.split("=", 1) for word in link.alias.split()[1:] if "=" in word)
    if not fields.get("uplink") or not fields.get("nic"):
        return None
    kept = fields.get("kept")
    return Mark(
        uplink=Mac(fields["uplink"]),
        nic=IfName(fields["nic"]),
        kept=Mac(kept) if kept else None,
        three_addresses=fields.get("4addr") == "off",
    )


def make_tap_mark(mark: TapMark) -> str:
    """The alias of a tap that waits for a guest."""
    words = [ALIAS, "tap", f"queues={mark.queues}"]
    words += [f"bridge={mark.bridge}"] if mark.bridge is not None else []
    return " ".join(words + ([f"vlan={mark.vlan}"] if mark.vlan is not None else []))


def read_tap_mark(link: Link) -> TapMark | None:
    """What the alias says; None for a link that is not such a tap of ours."""
    words = (link.alias or "").split()
    if not link.ours or link.kind != "tap" or words[1:2] != ["tap"]:
        return None
    fields = dict(word.split("=", 1) for word in words[2:] if "=" in word)
    queues, bridge, vlan = fields.get("queues", ""), fields.get("bridge"), fields.get("vlan")
    if not all(text.isascii() and text.isdigit() and len(text) < 8 for text in (queues, vlan or "0")):
        return None
    return TapMark(queues=int(queues), bridge=IfName(bridge) if bridge else None, vlan=int(vlan) if vlan else None)


def make_guest_mark(guest: str, guard: str | None = None) -> str:
    """The alias of a guest's tap. Everything behind `guest=` is the name."""
    return f"{ALIAS}{_told_guard(guard)} guest={guest}"


def find_guard(link: Link) -> str | None:
    """How the guest of a tap is guarded by the word of our alias: mac or ip. Whether it is so still is another matter
    (State.holds)."""
    if link.kind != "tap" or not link.ours:
        return None
    head = (link.alias or "").partition(" guest=")[0]
    return next((kind for word, kind in _GUARDS.items() if head.endswith(word)), None)


def make_loan_mark(mark: LoanMark) -> str:
    """The alias of a tap that the broker lends. Everything behind `guest=` is the name."""
    process = f"uid={mark.uid} pid={mark.pid} started={mark.started}"
    card = f"/{mark.card[:2]}" if mark.card is not None else ""
    return f"{ALIAS} broker {process} mac={mark.mac}{card}{_told_guard(mark.guard)} guest={mark.guest or ''}"


def _told_guard(guard: str | None) -> str:
    return f" guard={guard}" if guard is not None else ""


def read_loan_mark(link: Link) -> LoanMark | None:
    """What the alias says; None for a link that is not such a tap of ours."""
    head, _, guest = (link.alias or "").partition(" guest=")
    words = head.split(" ")
    if link.kind != "tap" or words[:2] != [ALIAS, "broker"]:
        return None
    fields = dict(word.split("=", 1) for word in words[2:] if "=" in word)
    numbers = [fields.get(name, "") for name in ("uid", "pid", "started")]
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in numbers) or "mac" not in fields:
        return None
    uid, pid, started = map(int, numbers)
    mac, _, begins = fields["mac"].partition("/")
    return LoanMark(
        uid=uid,
        pid=pid,
        started=started,
        mac=Mac(mac),
        card=Mac(begins + mac[2:]) if begins else None,
        guest=guest or None,
        guard=find_guard(link),
    )


def is_guest_name(text: str) -> bool:
    """Whether a guest can be called so: it is printed in terminals and written into an alias."""
    return text.isprintable() and 0 < len(text.encode()) <= GUEST_BYTES and text == text.strip()


def find_marked_uplink(link: Link, ports: tuple[Link, ...]) -> Link | None:
    """The port that the mark speaks of."""
    mark = read_mark(link)
    if mark is None:
        return None
    return next((port for port in ports if mark.uplink in (port.permanent_mac, port.mac)), None)
