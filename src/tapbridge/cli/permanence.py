"""Where a bridge, the files of whoever configures it at boot, and our record of them meet: for `save` and `unsave`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tapbridge.core import permanent as core
from tapbridge.core.mark import find_marked_uplink, make_mark, read_mark
from tapbridge.core.outlook import differences
from tapbridge.core.release import find_released
from tapbridge.model.errors import Refused
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.permanent import Permanent, Written
from tapbridge.model.plan import Plan
from tapbridge.model.state import File, Link, State
from tapbridge.model.step import Step, WriteFile
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity, Verdict

if TYPE_CHECKING:
    from tapbridge.cli.world import World
    from tapbridge.linux.host import LinuxHost
    from tapbridge.owners.keeper import Scene

_LIVE = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What `save` or `unsave` is to do, and the files of others that it touches: as they are, and as they will be."""

    plan: Plan
    bridge: IfName
    keeper: str
    before: tuple[File, ...] = ()
    after: tuple[File, ...] = ()
    findings: tuple[Finding, ...] = ()

    def check(self, host: LinuxHost) -> Verdict:
        """Whether the files are there as they were to be."""
        there = host.read_files([file.path for file in self.after])
        wrong = [now.path for now, wanted in zip(there, self.after, strict=True) if now.content != wanted.content]
        if not wrong:
            return Verdict()
        message = f"{', '.join(wrong)} does not read as it was written"
        return Verdict(findings=(Finding(code="drift", severity=Severity.ERROR, subject="files", message=message),))

    def diff(self) -> str:
        """The files of others as a unified diff."""
        return "\n".join(line for was, to_be in zip(self.before, self.after, strict=True) for line in _diff(was, to_be))


def plan_save(
    world: World, host: LinuxHost, state: State, name: str | None, keeper_name: str | None,
    written: Mapping[str, str | None] | None = None,
) -> Change:  # fmt: skip
    """What makes a bridge of ours permanent; `written` are files as a change before this one will have left them.

    Raises Refused, HostError, UsageError.
    """
    from tapbridge.owners.keeper import require_plain
    from tapbridge.owners.keepers import choose_keeper, competitors

    require_boot(world)
    bridge = find_released(state, name, "save")
    port = _require_uplink(bridge, state)
    require_plain(bridge.name, port.name)
    scene = _scene(world, state, bridge, port, written or {})
    there = read_record(world, bridge.name)
    if there is not None:
        return _again(world, host, scene, there)
    _require_free(world, port.name)
    keeper = choose_keeper(scene, keeper_name)
    form = keeper.form(scene)
    told = (*form.findings, *competitors(scene, keeper))
    told += differences(form.outlook, state, bridge.name) if form.outlook is not None else ()
    risks = tuple(finding for finding in told if finding.severity is Severity.WARNING)
    notes = (*keeper.check(scene, form), *(finding for finding in told if finding not in risks))
    before = _read_below(world, host, [file.path for file in form.files])
    pairs = tuple(Written(before=was, after=file) for was, file in zip(before, form.files, strict=True))
    permanent = Permanent(bridge=bridge.name, nic=port.name, keeper=keeper.name, files=pairs)
    live = form.live if world.root == _LIVE else ()
    plan = core.save(state, permanent, live, str(world.saved_record(bridge.name)), risks, root=_prefix(world))
    return _change(world, plan, permanent, [x.before for x in pairs], [x.after for x in pairs], notes)


def plan_unsave(world: World, host: LinuxHost, state: State, name: str | None, *, force: bool) -> Change | None:
    """What makes the next boot forget a bridge; None where nothing is saved. Raises Refused, HostError."""
    from tapbridge.linux.files import find_text
    from tapbridge.owners.keepers import find_keeper

    require_boot(world)
    found = name or _only_saved(world)
    permanent = read_record(world, found) if found is not None else None
    if permanent is None:
        return None
    there = _read_below(world, host, [written.after.path for written in permanent.files])
    keeper, bridge = find_keeper(permanent.keeper), state.link(permanent.bridge)
    port = find_marked_uplink(bridge, state.ports(bridge.name)) if bridge is not None else None
    live: tuple[Step, ...] = ()
    if keeper is not None and world.root == _LIVE:
        if bridge is not None and port is not None:
            live = keeper.take_back(_scene(world, state, bridge, port, {}), permanent)
        elif bridge is None:
            live = keeper.forget(find_text, permanent)
        held_back_by = filter(os.path.exists, keeper.held_back_by(permanent))
        live += tuple(WriteFile(path=path, content=None) for path in held_back_by)
    record = str(world.saved_record(permanent.bridge))
    plan = core.unsave(state, permanent, there, live, record, force=force, root=_prefix(world))
    return _change(world, plan, permanent, there, [written.before for written in permanent.files], ())


def require_boot(world: World) -> None:
    """Whether the files of this machine configure this network at boot. Raises Refused."""
    from tapbridge.linux.elsewhere import own_name

    if world.root == _LIVE and own_name() != "host":
        raise Refused(
            "the next boot configures the network of process 1, and this is another one",
            hint="run it there, leave --save out, or write below another root: --root DIR",
            code="not-lasting",
        )


def read_record(world: World, bridge: str) -> Permanent | None:
    """What was saved of a bridge. Raises HostError."""
    from tapbridge.linux.files import find_text

    path = str(world.saved_record(bridge))
    return core.load_permanent(find_text(path), path)


def _again(world: World, host: LinuxHost, scene: Scene, permanent: Permanent) -> Change:
    """Saved already: nothing to do, if nobody has changed what was written. Raises Refused."""
    there = _read_below(world, host, [written.after.path for written in permanent.files])
    if not core.is_there(permanent, there):
        wrong = [x.after.path for x, now in zip(permanent.files, there, strict=True) if x.after.content != now.content]
        raise Refused(
            f"{permanent.bridge} is saved, and {', '.join(wrong)} was changed since",
            hint="tapbridge unsave puts back what was there before; then save it again",
            code="changed-since",
            subject=permanent.bridge,
        )
    nothing = Plan(command="save", stages=(), before=scene.state, after=scene.state)
    findings = tuple(_otherwise(scene, permanent))
    return Change(plan=nothing, bridge=permanent.bridge, keeper=permanent.keeper, findings=findings)


def _otherwise(scene: Scene, permanent: Permanent) -> Iterator[Finding]:
    """Whether it would be saved otherwise now: it was down meanwhile, say, and the NIC got another address."""
    from tapbridge.owners.keepers import find_keeper

    keeper = find_keeper(permanent.keeper)
    try:
        files = keeper.form(scene).files if keeper is not None else ()
    except Refused:  # a boot has made it, by these very files
        return
    saved = {written.after.path: written.after.content for written in permanent.files}
    other = [file.path for file in files if file.content != saved.get(file.path)]
    if other:
        yield Finding(
            code="saved-otherwise",
            severity=Severity.WARNING,
            subject=permanent.bridge,
            message=f"{permanent.bridge} is saved otherwise than it is now: {', '.join(other)}",
            fix=f"tapbridge unsave {permanent.bridge}, then tapbridge save {permanent.bridge}",
        )


def _change(
    world: World,
    plan: Plan,
    permanent: Permanent,
    before: Sequence[File],
    after: Sequence[File],
    findings: tuple[Finding, ...],
) -> Change:
    root = _prefix(world)
    was, to_be = (tuple(replace(file, path=root + file.path) for file in files) for files in (before, after))
    return Change(
        plan=plan, bridge=permanent.bridge, keeper=permanent.keeper, before=was, after=to_be, findings=findings
    )


def _require_uplink(bridge: Link, state: State) -> Link:
    """The port that carries the host, if the bridge is one that can be written down. Raises Refused."""
    mark, port = read_mark(bridge), find_marked_uplink(bridge, state.ports(bridge.name))
    if mark is None or port is None:
        raise Refused(f"{bridge.name} has lost its uplink", hint="see: tapbridge status", code="no-uplink")
    if mark.kept is not None:
        raise Refused(
            f"{bridge.name} was there before tapbridge up, so whoever made it makes it permanent",
            hint=f"save a bridge that up has made: tapbridge down {bridge.name}, then up --bridge with a new name",
            code="unsavable",
            subject=bridge.name,
        )
    if port.kind == "wifi":
        raise Refused(
            f"{port.name} is a Wi-Fi card, and saving how many addresses its frames have is not built",
            hint=f"let what joins the network at boot run: tapbridge up {port.name} --4addr --yes --confirm 0",
            code="unsavable",
            subject=bridge.name,
        )
    if mark.nic != port.name:
        raise Refused(
            f"{bridge.name} has the name of {mark.nic}, and saving a bridge that has taken a name is not built",
            hint=f"tapbridge down {bridge.name}, then up without --take-name",
            code="unsavable",
            subject=bridge.name,
        )
    return port


def _require_free(world: World, nic: IfName) -> None:
    """Whether the next boot makes no other bridge with this NIC. Raises Refused."""
    for name in _saved_names(world):
        other = read_record(world, name)
        if other is not None and other.nic == nic:
            raise Refused(
                f"{name} is saved with {nic} as its port, though it is down now",
                hint=f"forget that one first: tapbridge unsave {name}",
                code="saved-elsewhere",
                subject=nic,
            )


def _scene(world: World, state: State, bridge: Link, port: Link, written: Mapping[str, str | None]) -> Scene:
    from tapbridge.linux.files import find_names, find_text
    from tapbridge.linux.programs import ask
    from tapbridge.owners.keeper import Scene
    from tapbridge.owners.table import find_owner

    root = _prefix(world)

    def read(path: str) -> str | None:
        return written[path] if path in written else find_text(root + path)

    return Scene(
        state=state,
        bridge=bridge,
        port=port,
        mark=make_mark(port),
        owner=find_owner(state, bridge.name),
        read=read,
        find_names=lambda folder: find_names(root + folder),
        ask=ask,
    )


def _saved_names(world: World) -> list[str]:
    from tapbridge.linux.files import find_names

    return [name for name in find_names(str(world.saved_record("x").parent)) if not name.startswith(".")]


def _only_saved(world: World) -> str | None:
    names = _saved_names(world)
    if len(names) > 1:
        raise Refused(
            f"there are several saved bridges: {', '.join(names)}",
            hint="name one: tapbridge unsave NAME",
            code="ambiguous",
        )
    return names[0] if names else None


def _read_below(world: World, host: LinuxHost, paths: Sequence[str]) -> tuple[File, ...]:
    """Files below the root, by the names that they have there. Raises Refused for one that leads out of it."""
    root = _prefix(world)
    for path in paths:
        if root and not os.path.realpath(root + path).startswith(os.path.realpath(root) + "/"):
            raise Refused(f"{root + path} is a link that leads out of {root}", code="leads-out", subject=path)
    read = host.read_files([root + path for path in paths])
    return tuple(replace(file, path=path) for path, file in zip(paths, read, strict=True))


def _prefix(world: World) -> str:
    return "" if world.root == _LIVE else str(world.root.absolute())


def _diff(was: File, to_be: File) -> list[str]:
    import difflib

    if was.content == to_be.content:
        return []
    old, new = ((file.content or "").splitlines() for file in (was, to_be))
    names = [file.path if file.content is not None else "/dev/null" for file in (was, to_be)]
    return list(difflib.unified_diff(old, new, names[0], names[1], lineterm=""))
