"""A guest's NIC, as QEMU's arguments and as steps on this host. Pure. `run` and `args` both end here."""

from __future__ import annotations

from collections.abc import Collection

from tapbridge.core.access import Access
from tapbridge.core.attach import port_steps
from tapbridge.core.mark import GUEST_BYTES, is_guest_name, make_guest_mark, read_loan_mark
from tapbridge.core.topology import find_guest_name, is_tap
from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.intent import Guard
from tapbridge.model.noun import dataclass
from tapbridge.model.port import Port
from tapbridge.model.state import Link, State
from tapbridge.model.step import LimitRate, PutPortAddress, SetAlias, SetFilter, SetPort, Step
from tapbridge.model.values import IfName, Mac
from tapbridge.qemu.argv import dump_pairs
from tapbridge.qemu.machine import BOARD, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class TapDescriptors:
    """A tap that is handed over as open files, one per queue. With `vhost` and no `vhost_files`, QEMU opens its own."""

    taps: tuple[int, ...]
    vhost: bool = False
    vhost_files: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TapName:
    """A tap that exists under a name, and that QEMU opens by itself."""

    name: IfName
    vhost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMode:
    """QEMU's own user mode network: no tap, no rights, the guest behind the host's address."""


Backend = TapDescriptors | TapName | UserMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """One NIC of a guest. `host_mtu`, in bytes, is what a virtio card tells the guest; None tells nothing."""

    id: str
    backend: Backend
    model: Model
    mac: Mac
    queues: int = 1
    host_mtu: int | None = None


def nic_words(nic: Nic) -> tuple[str, ...]:
    """The arguments that give QEMU this NIC: `-netdev` and `-device`, or `-nic` for the card on a board."""
    kind, pairs = _backend(nic)
    if nic.model.name == BOARD:
        return "-nic", dump_pairs([("id", nic.id), *pairs, ("mac", nic.mac)], kind)
    return "-netdev", dump_pairs([("id", nic.id), *pairs], kind), "-device", dump_pairs(card_pairs(nic), nic.model.name)


def card_pairs(nic: Nic) -> list[tuple[str, str]]:
    """The properties of a NIC's card, those that the user adds among them."""
    card = [("netdev", nic.id), ("id", f"{nic.id}-nic"), ("mac", str(nic.mac))]
    if nic.queues > 1:
        card.append(("mq", "on"))
        if nic.model.pci:  # one vector per queue and direction, one for control, one for configuration
            card.append(("vectors", str(2 * nic.queues + 2)))
    if nic.host_mtu is not None and nic.model.virtio:
        card.append(("host_mtu", str(nic.host_mtu)))
    return [*card, *nic.model.properties]


def _backend(nic: Nic) -> tuple[str, list[tuple[str, str]]]:
    backend = nic.backend
    if isinstance(backend, UserMode):
        return "user", []
    if isinstance(backend, TapDescriptors):
        pairs = [("fds", _joined(backend.taps)), ("vhost", "on" if backend.vhost else "off")]
        return "tap", pairs + ([("vhostfds", _joined(backend.vhost_files))] if backend.vhost_files else [])
    pairs = [("ifname", backend.name), ("script", "no"), ("downscript", "no")]
    pairs += [("queues", str(nic.queues))] if nic.queues > 1 else []
    return "tap", [*pairs, ("vhost", "on" if backend.vhost else "off")]


def _joined(descriptors: tuple[int, ...]) -> str:
    return ":".join(str(number) for number in descriptors)


def choose_id(number: int, taken: Collection[str]) -> str:
    """The id of a NIC's `-netdev`, `tapbridge0` for the first; with `-nic` behind it, that of its `-device`."""
    name = f"tapbridge{number}"
    while name in taken or f"{name}-nic" in taken:
        name += "x"
    return name


def check_card(
    model: Model, *, queues: int, vhost: str, user: bool, rate: int | None = None, guarded: bool = False
) -> None:
    """Raises Refused for what only virtio, or any card, on a tap can do."""
    if user and rate is not None:
        raise Refused("user mode knows no rate", hint="leave --rate out", code="no-rate", subject="user mode")
    if user and guarded:
        raise Refused(
            "user mode needs no guard: nothing of the guest's own frames leaves it",
            hint="leave --guard out",
            code="no-filter",
            subject="user mode",
        )
    if model.virtio and not user:
        return
    who = "user mode" if user else f"the model {model.name}"
    if queues > 1:
        raise Refused(f"{who} has one pair of queues", hint="leave --queues out", code="one-queue", subject=who)
    if vhost == "on":
        raise Refused(f"{who} knows no vhost", hint="leave --vhost out", code="no-vhost", subject=who)


def attach_steps(
    tap: IfName,
    bridge: Link,
    guest: str,
    *,
    ipv6: bool,
    access: Access | None = None,
    rate: int | None = None,
    guard: Guard | None = None,
) -> tuple[Step, ...]:
    """Make a new tap, which is down, a port of the bridge. The mark comes first, then what holds the guest back.

    A guest that is guarded is held twice: the port's own flags stay where somebody flushes all rules.
    """
    before: list[Step] = [] if rate is None else [LimitRate(link=tap, rate=rate)]
    held: tuple[Step, ...] = ()
    if guard is not None:
        before.append(SetFilter(link=tap, guard=guard))
        if "macs" not in guard.allowed:
            held = (SetPort(link=tap, port=Port(learning=False, locked=True)), PutPortAddress(link=tap, mac=guard.mac))
    joined = port_steps(tap, bridge, ipv6=ipv6, access=access, held=held)
    mark = make_guest_mark(guest, guard.kind if guard is not None else None)
    return (SetAlias(link=tap, alias=mark), *before, *joined)


def find_tap(state: State, guest: str, user: int | None = None) -> Link | None:
    """A tap of a running guest of that name, of root's or of a user's to whom the broker lent it: they die with it."""
    for link in state.links:
        if is_tap(link) and find_guest_name(link) == guest:
            mark = read_loan_mark(link)
            if user == (mark.uid if mark is not None else None):
                return link
    return None


def parse_guest(text: str) -> str:
    """Check a guest's name. Raises UsageError."""
    if not is_guest_name(text):
        raise UsageError(
            f"{text!r} cannot be a guest's name",
            hint=f"printable characters, {GUEST_BYTES} bytes at most, no white space at its ends: --name web",
            code="usage",
        )
    return text
