"""Which taps come back after a reboot: the one place where plans and the file that says so meet."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from tapbridge.core.saved import FILE, dump_saved, load_saved
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.intent import MakeTap
from tapbridge.model.plan import Plan
from tapbridge.model.step import WriteFile
from tapbridge.model.values import IfName

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def read_saved(world: World) -> tuple[MakeTap, ...]:
    """What was written down for the network of this process. Raises HostError."""
    from tapbridge.linux.files import find_text
    from tapbridge.qemu.seed import find_netns_name

    network = find_netns_name()
    return () if network is None else load_saved(find_text(_path(world)), network)


def steps_to_save(world: World, *, add: MakeTap | None = None, drop: Collection[IfName] = ()) -> tuple[WriteFile, ...]:
    """The step that writes down what is to come back, if that is not what the file says already.

    Raises Refused where nothing can outlive a reboot, HostError for a damaged file.
    """
    from tapbridge.linux.files import find_text
    from tapbridge.qemu.seed import find_netns_name

    network = find_netns_name()
    if network is None:
        if add is None:
            return ()
        raise Refused(
            "this network namespace has no name, so it is gone at the next reboot, and its taps with it",
            hint="leave --persist out",
            code="not-lasting",
            subject=add.name,
        )
    path = _path(world)
    text = find_text(path)
    names = {*drop, *([add.name] if add is not None else [])}
    wanted = [tap for tap in load_saved(text, network) if tap.name not in names]
    wanted += [add] if add is not None else []
    content = dump_saved(text, network, wanted)
    if content == (text if text is not None else dump_saved(None, network, ())):
        return ()
    return (WriteFile(path=path, content=content),)


def make_folder(plan: Plan) -> None:
    """Make the folder of what the plan writes down. Raises HostError."""
    for step in plan.steps:
        if isinstance(step, WriteFile):
            folder = os.path.dirname(step.path)
            try:
                os.makedirs(folder, mode=0o755, exist_ok=True)
            except OSError as error:
                raise HostError(f"the folder {folder} cannot be made: {error.strerror}") from None


def steps_back(plan: Plan) -> tuple[WriteFile, ...]:
    """The steps that make the files of a plan what they are now."""
    from tapbridge.linux.files import find_text

    files = (step.path for step in plan.steps if isinstance(step, WriteFile))
    return tuple(WriteFile(path=path, content=find_text(path)) for path in files)


def _path(world: World) -> str:
    return str(world.state_dir() / FILE)
