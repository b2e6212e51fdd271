"""The table of keepers, and the question that is asked of it: in whose files is a bridge made permanent?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.verdict import Finding
from tapbridge.owners.keep_ifupdown import IFUPDOWN
from tapbridge.owners.keep_ifupdown_ng import IFUPDOWN_NG
from tapbridge.owners.keep_networkd import NETWORKD_KEEPER
from tapbridge.owners.keep_networkmanager import NETWORKMANAGER_KEEPER
from tapbridge.owners.keep_unit import DHCPCD_KEEPER, SYSTEMD_KEEPER
from tapbridge.owners.keeper import EVERY_BOOT, Keeper, Scene
from tapbridge.owners.owner import warn

KEEPERS: Final[tuple[Keeper, ...]] = (
    NETWORKMANAGER_KEEPER,
    NETWORKD_KEEPER,
    IFUPDOWN,
    IFUPDOWN_NG,
    DHCPCD_KEEPER,
    SYSTEMD_KEEPER,
)
"""Managers, which hold the bridge now, before whoever is no process; a dhcpcd may be ifupdown's."""

_BY_SYSTEMD: Final = f"tapbridge save --for {SYSTEMD_KEEPER.name}"
NAMES: Final = tuple(keeper.name for keeper in KEEPERS)


def find_keeper(name: str) -> Keeper | None:
    """The keeper of that name."""
    return next((keeper for keeper in KEEPERS if keeper.name == name), None)


def choose_keeper(scene: Scene, name: str | None) -> Keeper:
    """The keeper of that name, or without one the first that says that it configures the NIC. Raises Refused."""
    if name is not None:
        keeper = find_keeper(name)
        if keeper is None:
            raise UsageError(f"--for {name}: there is {', '.join(NAMES)}", hint="tapbridge save --help", code="usage")
        return keeper
    found = next((keeper for keeper in KEEPERS if keeper.find(scene) is not None), None)
    if found is None:
        why, hint = (
            "nobody's files configure it",
            f"if nothing else configures {scene.port.name} at boot: {_BY_SYSTEMD}",
        )
        booted = scene.boot_address
        if booted is not None:
            why, hint = f"its address was lent when the host booted ({booted.word}), and nobody renews it", EVERY_BOOT
        if scene.owner is not None:
            why = f"it is held by {scene.owner.name}, and how a boot starts that is not known"
            hint = "let what starts it run, at every boot: tapbridge up --yes --confirm 0"
        raise Refused(
            f"{scene.bridge.name} cannot be saved: {why}",
            hint=hint,
            code="no-keeper",
            subject=scene.bridge.name,
        )
    return found


def competitors(scene: Scene, keeper: Keeper) -> Iterator[Finding]:
    """Who else configures the NIC at boot."""
    booted = scene.boot_address
    if booted is not None and keeper is not SYSTEMD_KEEPER:  # whose unit takes over what is there
        yield warn(
            "competing-configuration",
            scene.port.name,
            f"the kernel's command line configures {scene.port.name} at boot, before {keeper.name} does, and what it "
            f"makes stays on the port",
            evidence=(booted.proof,),
            fix=f"take that word out of the boot loader's configuration: {booted.word}",
        )
    for other in KEEPERS:
        if other is SYSTEMD_KEEPER:
            continue
        proof = other.find(scene) if other is not keeper else None
        if proof is not None:
            message = f"{other.name} configures {scene.port.name} at boot as well, beside {keeper.name}"
            yield warn(
                "competing-configuration",
                scene.port.name,
                message,
                evidence=(proof,),
                fix=f"leave {scene.port.name} to one of the two",
            )
