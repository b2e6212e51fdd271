"""Keepers of a bridge that a unit of ours makes: for dhcpcd, which makes none, and for nobody's static addresses."""

from __future__ import annotations

from typing import Final

from tapbridge.core.dhcpcd import CONFIGURATION
from tapbridge.core.outlook import Outlook
from tapbridge.model.noun import dataclass
from tapbridge.model.permanent import Permanent
from tapbridge.model.state import File
from tapbridge.model.step import Step
from tapbridge.model.verdict import Finding
from tapbridge.owners.dhcpcd_files import carry_configuration, manage
from tapbridge.owners.keeper import EVERY_BOOT, Form, Scene, unchecked, unsavable
from tapbridge.owners.owner import Read
from tapbridge.owners.unit_files import FOLDER, held_back_path, unit_files

_SERVICE: Final = "dhcpcd.service"


@dataclass(frozen=True, slots=True)
class DhcpcdKeeper:
    """dhcpcd as a service that chooses its links by itself: its configuration names the bridge, and not the NIC."""

    name: str = "dhcpcd"

    def find(self, scene: Scene) -> str | None:
        """It holds the bridge now, and a boot starts it."""
        if scene.client("dhcpcd") is None or not _starts(scene):
            return None
        return f"{_SERVICE} is started at boot"

    def form(self, scene: Scene) -> Form:
        """The unit that makes the bridge, and the configuration by which dhcpcd takes it. Raises Refused."""
        nic, bridge = scene.port.name, scene.bridge.name
        if not _starts(scene):
            raise unsavable(self.name, bridge, f"no boot starts {_SERVICE}", f"systemctl enable {_SERVICE}")
        text = manage(carry_configuration(scene.read(CONFIGURATION) or "", nic, bridge), nic, bridge)
        files = unit_files(scene.state, scene.bridge, scene.port, with_network=False)
        outlook = Outlook(asked=frozenset((4, 6)), words=frozenset(text.split()))
        return Form(files=(*files, File(path=CONFIGURATION, content=text)), outlook=outlook)

    def check(self, scene: Scene, form: Form) -> tuple[Finding, ...]:
        """Nobody can before the files are in place."""
        return (_unchecked(self.name, scene),)

    def take_back(self, scene: Scene, permanent: Permanent) -> tuple[Step, ...]:
        """Nothing: dhcpcd has read its configuration, and goes on."""
        return ()

    def forget(self, read: Read, permanent: Permanent) -> tuple[Step, ...]:
        """Nothing: it looks at what is there."""
        return ()

    def held_back_by(self, permanent: Permanent) -> tuple[str, ...]:
        """The file that the unit does not start beside."""
        return (held_back_path(permanent.bridge),)


@dataclass(frozen=True, slots=True)
class SystemdKeeper:
    """Nobody but systemd: addresses and routes as they are now, by the commands that set them. Only if it is asked for,
    because what has set them until now would do so again; but where that is the kernel's command line, the unit takes
    over what it has made."""

    name: str = "systemd"

    def find(self, scene: Scene) -> str | None:
        """The kernel's command line gives the NIC the address that it has."""
        booted = scene.boot_address
        return booted.proof if booted is not None and not booted.leased else None

    def form(self, scene: Scene) -> Form:
        """The unit that makes the bridge with all that is on it. Raises Refused."""
        bridge = scene.bridge.name
        if scene.owner is not None:
            why = f"{scene.owner.name} holds it, and has to be started on it"
            raise unsavable(self.name, bridge, why, "let what starts that one at boot bring the bridge up as well")
        booted = scene.boot_address
        if booted is not None and booted.leased:
            why = f"its address was lent at boot ({booted.word}), and would be kept for good"
            raise unsavable(self.name, bridge, why, EVERY_BOOT)
        files = unit_files(scene.state, scene.bridge, scene.port, with_network=True)
        return Form(files=files)

    def check(self, scene: Scene, form: Form) -> tuple[Finding, ...]:
        """Nobody can before the files are in place."""
        return (_unchecked(self.name, scene),)

    def take_back(self, scene: Scene, permanent: Permanent) -> tuple[Step, ...]:
        """Nothing: the unit has done its work."""
        return ()

    def forget(self, read: Read, permanent: Permanent) -> tuple[Step, ...]:
        """Nothing: it looks at what is there."""
        return ()

    def held_back_by(self, permanent: Permanent) -> tuple[str, ...]:
        """The file that the unit does not start beside."""
        return (held_back_path(permanent.bridge),)


DHCPCD_KEEPER: Final = DhcpcdKeeper()
SYSTEMD_KEEPER: Final = SystemdKeeper()


def _starts(scene: Scene) -> bool:
    return _SERVICE in scene.find_names(f"{FOLDER}/multi-user.target.wants")


def _unchecked(keeper: str, scene: Scene) -> Finding:
    name = f"tapbridge-{scene.bridge.name}.service"
    return unchecked(keeper, scene.bridge.name, f"it reads only what is in place: systemd-analyze verify {name}")
