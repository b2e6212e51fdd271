"""`tapbridge install-ifup`: the scripts that QEMU runs for whoever starts it with `-netdev tap,ifname=…`."""

from __future__ import annotations

import errno
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tapbridge.cli.result import Result
from tapbridge.core.ifup import MAKER, scripts
from tapbridge.core.signed import is_as_made, is_made_by
from tapbridge.linux.files import read_text, write_file
from tapbridge.model.errors import Forbidden, HostError, Refused, Stuck

if TYPE_CHECKING:
    from tapbridge.cli.world import World

_KEPT: Final = ".before-tapbridge"


class _Act(NamedTuple):
    """`text` is written to `path`, or without it `path` is moved to `target`, or without that too it is removed.
    `lost` is our own text that goes by that."""

    path: str
    text: str | None = None
    target: str | None = None
    lost: str | None = None


def options(parser: ArgumentParser) -> None:
    """The options of `install-ifup`."""
    parser.add_argument("--remove", action="store_true", help="take the scripts away, and put back what was there")
    force = f"also where a script is somebody else's, which is kept beside it (NAME{_KEPT}), or was changed by hand"
    parser.add_argument("--force", action="store_true", help=force)


def run(args: Namespace, world: World) -> Result:
    """Put the scripts in place, or take them away; what fails in the middle is taken back."""
    plan = _removal if args.remove else _installation
    acts = [act for path, text in scripts().items() for act in plan(str(world.root / path), text, args.force)]
    if not acts:
        return Result(document={"outcome": "nothing", "steps": []}, text="There is nothing to do.")
    if world.root == Path("/") and world.uid != 0:
        raise Forbidden("install-ifup needs root", hint="run it with sudo", code="not-permitted")
    done: list[_Act] = []
    try:
        for act in acts:
            _perform(act)
            done.append(act)
    except (HostError, OSError) as error:
        _take_back(done, error)
        if error.errno in (errno.EPERM, errno.EACCES):
            raise Forbidden(str(error), hint="run it with sudo", code="not-permitted") from None
        raise HostError(str(error), errno=error.errno or 0) from None
    steps = [{"text": text, "command": command, "done": True} for text, command in map(_told, acts)]
    names = ", ".join(str(world.root / path) for path in scripts())
    text = f"{names}: {'as before' if args.remove else 'in place'}."
    return Result(document={"outcome": "done", "steps": steps}, text=text)


def _installation(path: str, text: str, force: bool) -> list[_Act]:
    there = _find(path)
    if there == text:
        return []
    if there is None and not os.path.lexists(path):
        return [_Act(path, text)]
    if there is not None and is_as_made(there):
        return [_Act(path, text, lost=there)]
    if not force:
        raise Refused(
            f"{path} is not ours" if there is None or not is_made_by(there, MAKER) else f"{path} was changed by hand",
            hint=f"look at it; --force keeps it as {path}{_KEPT}, and --remove puts it back",
            code="not-ours",
            subject=path,
        )
    return [_Act(path, target=path + _KEPT), _Act(path, text)]


def _removal(path: str, _: str, force: bool) -> list[_Act]:
    there, kept = _find(path), path + _KEPT
    ours = there is not None and is_made_by(there, MAKER)
    if not ours and not os.path.lexists(kept):
        return []
    changed = os.path.lexists(path) and not (there is not None and is_as_made(there))
    if changed and not force:
        raise Refused(
            f"{path} was changed by hand, or is not ours any more",
            hint=f"look at it; --force goes on all the same: what it says now is lost{_and(kept)}",
            code="changed-by-hand",
            subject=path,
        )
    return [_Act(kept, target=path, lost=there) if os.path.lexists(kept) else _Act(path, lost=there)]


def _and(kept: str) -> str:
    return f", and {kept} comes back" if os.path.lexists(kept) else ""


def _find(path: str) -> str | None:
    """The text of a file; None for a link, for whatever else is no file, and where nothing is."""
    return read_text(path) if os.path.isfile(path) and not os.path.islink(path) else None


def _perform(act: _Act) -> None:
    if act.text is not None:
        write_file(act.path, act.text, 0o755)
    elif act.target is not None:
        os.rename(act.path, act.target)
    else:
        write_file(act.path, None)


def _take_back(done: list[_Act], error: HostError | OSError) -> None:
    try:
        for act in reversed(done):
            if act.target is not None:
                os.rename(act.target, act.path)
            if act.text is not None or act.lost is not None:
                write_file(act.target or act.path, act.lost, 0o755)
    except (HostError, OSError) as second:
        raise Stuck(
            f"{error}; and what was done already stays, for {second}",
            hint="make that place writable, and run the command again",
        ) from None


def _told(act: _Act) -> tuple[str, str | None]:
    from shlex import join

    if act.text is not None:
        return f"write {act.path}", None
    if act.target is not None:
        return f"rename {act.path} to {act.target}", join(["mv", act.path, act.target])
    return f"remove {act.path}", join(["rm", act.path])
