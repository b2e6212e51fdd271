"""`tapbridge service install|remove`: what runs `recover --boot` before the next boot configures the network, and what
starts the broker."""

from __future__ import annotations

import errno
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tapbridge.cli.result import Result
from tapbridge.core.service import BROKER, BROKER_UNITS, Init, Piece, broker_pieces, pieces
from tapbridge.core.signed import is_as_made
from tapbridge.linux.boot_service import (
    find_init,
    find_piece,
    find_rc_links,
    find_stranger,
    put_piece,
    remove_piece,
    start_unit,
    stop_units,
    take_notice,
)
from tapbridge.model.errors import Forbidden, HostError, Refused, Stuck
from tapbridge.model.verdict import Finding, Severity

if TYPE_CHECKING:
    from tapbridge.cli.world import World

_LIVE = Path("/")
_INITS: tuple[Init, ...] = ("systemd", "sysv")


class _Act(NamedTuple):
    """What stands in one place, and what is to stand there; None is nothing."""

    before: Piece | None
    after: Piece | None


def options(parser: ArgumentParser) -> None:
    """The options of `service`."""
    parser.add_argument("verb", choices=("install", "remove"), help="put the boot service in place, or take it away")
    parser.add_argument(
        "--broker",
        action="store_true",
        help="install: also the broker, which lends taps to users without rights; remove takes it away in any case",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be written or removed; do nothing")
    parser.add_argument(
        "--force", action="store_true", help="also where its file was changed by hand or is somebody else's"
    )


def run(args: Namespace, world: World) -> Result:
    """Install or remove the boot service, or show how it would be done."""
    root = args.root
    install = args.verb == "install"
    inits = (_init(root),) if install else _INITS
    if args.broker and inits[0] != "systemd":
        raise Refused(
            "only systemd is told how to start the broker",
            hint="let your own init run, when the bridge is there: tapbridge broker",
            code="no-systemd",
        )
    changes = {
        init: _install(init, root, _program(root), args.broker) if install else _removal(init, root) for init in inits
    }
    acts = [act for each in changes.values() for act in each]
    if not args.force:
        _refuse_changed(acts, root)
    if args.dry_run:
        return Result(document=_document("planned", acts, root), text=_preview(acts, root))
    if not acts:
        return Result(
            document=_document("nothing", acts, root),
            text=f"{_subject(args.broker)} {'installed' if install else 'not installed'}; nothing to do.",
        )
    if root == _LIVE and world.uid != 0:
        raise Forbidden(f"service {args.verb} needs root", hint="run it with sudo", code="not-permitted")
    for init, each in changes.items():
        _carry_out(each, init, root, enabled=install)
    text = f"{_subject(any(_is_broker(act) for act in acts))} {'installed' if install else 'removed'}."
    return Result(document=_document("done", acts, root), text=text, findings=_to_do(inits[0], root) if install else ())


def _init(root: Path) -> Init:
    init = find_init(root)
    if init is None:
        raise Refused(
            f"there is neither systemd nor an init of System V with update-rc.d below {root}",
            hint="let your own init run, before it configures the network: tapbridge recover --boot",
            code="no-init",
        )
    return init


def _install(init: Init, root: Path, python: str, broker: bool) -> list[_Act]:
    wanted = pieces(init, python)
    acts = [_Act(find_piece(root, piece), piece) for piece in wanted]
    if init == "sysv" and find_rc_links(root):
        acts.pop()  # update-rc.d leaves links that are there as they are
    if broker:
        acts += [_Act(find_piece(root, piece), piece) for piece in broker_pieces(python)]
    return [act for act in acts if act.before != act.after]


def _removal(init: Init, root: Path) -> list[_Act]:
    wanted = pieces(init, sys.executable)
    wanted = (*wanted, *broker_pieces(sys.executable)) if init == "systemd" else wanted[:1]
    found = [find_piece(root, piece) for piece in wanted]
    links = find_rc_links(root) if init == "sysv" else []
    return [_Act(piece, None) for piece in (*found, *links) if piece is not None]


def _program(root: Path) -> str:
    """The interpreter that the service starts. Raises Refused where it could not, or where it would be unsafe."""
    python = os.path.abspath(sys.executable)
    if re.search(r"[^A-Za-z0-9/._+-]", python):
        raise Refused(
            f"the path of this Python has a character that an init system reads in another way: {python}",
            hint="install tapbridge below a plain path such as /opt/tapbridge",
            code="program-path",
        )
    if root != _LIVE:
        return python
    stranger = find_stranger((Path(python), Path(__file__).parent.parent))
    if stranger is not None:
        raise Refused(
            f"the boot service would run as root what others than root may change: {stranger}",
            hint="install tapbridge as root, for example below /opt, and run that one",
            code="program-not-of-root",
            subject=str(stranger),
        )
    import subprocess

    words = [python, "-I", "-m", "tapbridge", "--version"]
    if subprocess.run(words, env={}, capture_output=True, timeout=30, check=False).returncode != 0:
        raise Refused(
            f"{python} finds tapbridge here only with PYTHONPATH or in this folder, and at boot it has neither",
            hint="install tapbridge for that Python, and run that one",
            code="program-not-installed",
        )
    return python


def _refuse_changed(acts: list[_Act], root: Path) -> None:
    for before, after in acts:
        if before is None or (before.text is not None and is_as_made(before.text)):
            continue
        if after is None and before.target is not None and "tapbridge-" in before.target:
            continue
        what = "was changed by hand, or is not ours" if before.target is None else f"is a link to {before.target}"
        raise Refused(
            f"{root / before.path} {what}",
            hint="look at it; --force goes on all the same",
            code="changed-by-hand",
            subject=str(root / before.path),
        )


def _carry_out(acts: list[_Act], init: Init, root: Path, *, enabled: bool) -> None:
    broker = any(_is_broker(act) for act in acts)
    done: list[_Act] = []
    try:
        if root == _LIVE and broker:
            stop_units(BROKER_UNITS)  # while systemd knows what belongs to them
        for act in acts:
            done.append(act)
            _put(root, act.before, act.after)
        if root == _LIVE and acts:
            take_notice(init, enabled=enabled)
            if broker and enabled:
                start_unit(BROKER_UNITS[0])
    except HostError as error:
        _take_back(done, root, error)
        if error.errno in (errno.EPERM, errno.EACCES):
            raise Forbidden(error.message, hint="run it with sudo", code="not-permitted") from None
        raise


def _is_broker(act: _Act) -> bool:
    piece = act.after or act.before
    return piece is not None and BROKER in piece.path


def _subject(broker: bool) -> str:
    return "The boot service and the broker are" if broker else "The boot service is"


def _take_back(done: list[_Act], root: Path, error: HostError) -> None:
    try:
        for before, after in reversed(done):
            _put(root, after, before)
    except HostError as second:
        raise Stuck(
            f"{error.message}; and what was done already stays, for {second.message}",
            hint="make these places writable, and run the command again",
        ) from None


def _put(root: Path, before: Piece | None, after: Piece | None) -> None:
    if before is not None and (after is None or before.target is not None):
        remove_piece(root, before)
    if after is not None:
        put_piece(root, after)


def _to_do(init: Init, root: Path) -> tuple[Finding, ...]:
    if init == "systemd" or root == _LIVE:
        return ()
    finding = Finding(
        code="order-not-computed",
        severity=Severity.INFO,
        subject="service",
        message="the link has the number 01; insserv, where it is used, finds the right place when it runs",
        fix=f"chroot {root} update-rc.d tapbridge-recover defaults",
    )
    return (finding,)


def _preview(acts: list[_Act], root: Path) -> str:
    return "\n".join(line for act in acts for line in _shown(act, root)) or "Nothing to do."


def _shown(act: _Act, root: Path) -> list[str]:
    import difflib

    before, after = act
    piece = after or before
    assert piece is not None, "an act changes something"
    path = str(root / piece.path)
    if piece.target is not None:
        return [f"{'-' if after is None else '+'} {path} -> {piece.target}"]
    old, new = (one.text.splitlines() if one is not None and one.text is not None else [] for one in act)
    names = (path if before is not None else "/dev/null", path if after is not None else "/dev/null")
    return list(difflib.unified_diff(old, new, *names, lineterm=""))


def _document(outcome: str, acts: list[_Act], root: Path) -> dict[str, Any]:
    return {"outcome": outcome, "steps": [{**_step(act, root), "done": outcome == "done"} for act in acts]}


def _step(act: _Act, root: Path) -> dict[str, Any]:
    piece = act.after or act.before
    assert piece is not None, "an act changes something"
    path = root / piece.path
    if act.after is None:
        return {"text": f"remove {path}", "command": f"rm {path}"}
    if piece.target is not None:
        return {"text": f"link {path} to {piece.target}", "command": f"ln -s {piece.target} {path}"}
    return {"text": f"write {path}", "command": None}
