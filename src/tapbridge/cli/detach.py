"""`tapbridge detach`: take a NIC out of a running guest."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from tapbridge.cli.result import Result
from tapbridge.model.errors import Refused
from tapbridge.model.state import Link, Scope

if TYPE_CHECKING:
    from tapbridge.cli.hotplug import Guest
    from tapbridge.cli.world import World
    from tapbridge.qemu.cards import Card

_LIMIT_S: Final = 30.0
"""A PCIe port blinks for 5 s before it lets its card go, and a guest without KVM is slow."""


def options(parser: ArgumentParser) -> None:
    """The options of `detach`."""
    parser.usage = "tapbridge detach GUEST [NIC]"
    parser.add_argument("guest", metavar="GUEST", help="the guest's name, or QEMU's PID, as tapbridge ps shows them")
    nic = "its tap, its Ethernet address, or its id in QEMU (default: the only NIC that can be taken out)"
    parser.add_argument("nic", metavar="NIC", nargs="?", help=nic)


def run(args: Namespace, world: World) -> Result:
    """Have the guest let the card go, then let QEMU close what is behind it. The tap ends with that."""
    from tapbridge.cli.hotplug import card_document, conversation, told_card, unhurried
    from tapbridge.qemu.cards import unplug

    with world.host() as host:
        state = host.observe(Scope.KERNEL)
        with conversation(args.guest, state) as guest:
            card = _choose(guest, args.nic)
            if card is None:
                which = f"no NIC {args.nic}" if args.nic else "no NIC"
                text = f"The guest {guest.name!r} has {which}; there is nothing to do."
                return Result(document={"outcome": "nothing", "steps": []}, text=text, findings=guest.findings)
            tap = guest.tap(card)
            with unhurried() as look:
                unplug(guest.monitor, card, _LIMIT_S, look)
            document = {
                "outcome": "done",
                "guest": {"name": guest.name, "pid": guest.running.process.pid},
                "nic": card_document(card.name, card.model, card.mac, *_place(tap)),
                "steps": guest.steps(),
            }
        stays = tap is not None and host.observe(Scope.LINKS).link(tap.name) is not None
    text = f"The guest {guest.name!r} has let its NIC {told_card(card, tap)} go."
    text += f"\nThe tap {tap.name} is still there: it was not made for this guest alone." if tap and stays else ""
    return Result(document=document, text=text, findings=guest.findings)


def _place(tap: Link | None) -> tuple[str | None, str | None]:
    return (tap.name, tap.master) if tap is not None else (None, None)


def _choose(guest: Guest, asked: str | None) -> Card | None:
    """The card that is meant; None if there is none. Raises Refused for several, and for one that is built in."""
    from tapbridge.cli.hotplug import told_card

    cards = [card for card in guest.fittings.cards if asked is None or _is_meant(card, guest.tap(card), asked)]
    loose = [card for card in guest.loose if asked is None or _is_meant(card, guest.tap(card), asked)]
    if asked is None:
        cards = [card for card in cards if card.pluggable] or cards
    cards = cards or loose
    if not cards:
        return None
    if len(cards) > 1:
        raise Refused(
            f"the guest {guest.name!r} has several NICs: "
            + "; ".join(told_card(card, guest.tap(card)) for card in cards[:8]),
            hint=f"say which: tapbridge detach {guest.name} {cards[-1].name}",
            code="several-nics",
            subject=guest.name,
        )
    if not cards[0].pluggable:
        raise Refused(
            f"the NIC {told_card(cards[0], guest.tap(cards[0]))} of the guest {guest.name!r} is built in: "
            "its bus lets no card go",
            hint="on q35 and virt only a card in a pcie-root-port can be taken out; end the guest instead",
            code="no-hot-plug",
            subject=guest.name,
        )
    return cards[0]


def _is_meant(card: Card, tap: Link | None, asked: str) -> bool:
    names = {card.id, card.netdev, card.path, card.mac, tap.name if tap is not None else None}
    return asked in names or asked.lower() == card.mac
