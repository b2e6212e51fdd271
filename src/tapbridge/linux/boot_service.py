"""The boot service's files below a root: found, put in place, taken away; and the init system that reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tapbridge.core.service import NAME, Init, Piece
from tapbridge.linux.files import read_text, write_file
from tapbridge.model.errors import HostError

_RC_LEVELS: Final = "0123456S"


def find_init(root: Path) -> Init | None:
    """Which init system starts the system below a root, by its /sbin/init."""
    live = root == Path("/") and os.path.isdir("/run/systemd/system")
    if live or _target(root / "sbin/init").rpartition("/")[2] == "systemd":
        return "systemd"
    return "sysv" if (root / "usr/sbin/update-rc.d").exists() and os.path.lexists(root / "sbin/init") else None


def find_piece(root: Path, piece: Piece) -> Piece | None:
    """What stands in the place of a piece. Raises HostError."""
    path = root / piece.path
    if path.is_symlink():
        return Piece(path=piece.path, target=_target(path))
    return Piece(path=piece.path, text=read_text(str(path)), mode=piece.mode) if path.exists() else None


def find_rc_links(root: Path) -> list[Piece]:
    """The links to the init script, whatever numbers insserv has given them."""
    found = [path for level in _RC_LEVELS for path in (root / f"etc/rc{level}.d").glob(f"[SK][0-9][0-9]{NAME}")]
    return [Piece(path=str(path.relative_to(root)), target=_target(path)) for path in sorted(found)]


def put_piece(root: Path, piece: Piece) -> None:
    """Put a piece in place, with the folders above it. Raises HostError."""
    path = root / piece.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if piece.target is not None:
            path.unlink(missing_ok=True)
            path.symlink_to(piece.target)
            return
    except OSError as error:
        raise HostError(f"{path} cannot be made: {error.strerror}", errno=error.errno or 0) from None
    write_file(str(path), piece.text, piece.mode)


def remove_piece(root: Path, piece: Piece) -> None:
    """Take a piece away, and a folder of links that is empty then, as `systemctl disable` does. Raises HostError."""
    path = root / piece.path
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        if path.parent.name.endswith(".wants"):
            with suppress(OSError):  # it has other links in it
                path.parent.rmdir()
    except OSError as error:
        raise HostError(f"{path} cannot be removed: {error.strerror}", errno=error.errno or 0) from None


def take_notice(init: Init, *, enabled: bool) -> None:
    """Let the running init system see what was put in place or taken away. Raises HostError."""
    if init == "systemd":
        from tapbridge.linux.systemd import reload

        if os.path.isdir("/run/systemd/system"):
            reload()
        return
    import subprocess

    words = ["update-rc.d", NAME, "defaults" if enabled else "remove"]  # with insserv it also finds the place in order
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"update-rc.d does not do its work: {error}") from None
    if done.returncode != 0:
        raise HostError(f"update-rc.d {words[2]} fails: {done.stderr.strip()[-300:]}")


def start_unit(unit: str) -> None:
    """Start a unit, if it is systemd that runs. Raises HostError."""
    from tapbridge.linux.systemd import start

    if os.path.isdir("/run/systemd/system"):
        start(unit)


def stop_units(units: Sequence[str]) -> None:
    """Stop units, likewise. Raises HostError."""
    from tapbridge.linux.systemd import stop

    if os.path.isdir("/run/systemd/system"):
        stop(units)


def find_stranger(paths: Iterable[Path]) -> Path | None:
    """The first file or folder, of these or above them, that somebody other than root may change."""
    for path in paths:
        real = path.resolve()
        for place in (*reversed(real.parents), real):
            there = place.stat()
            sticky = there.st_mode & 0o1000 and place.is_dir()
            if there.st_uid != 0 or (there.st_mode & 0o022 and not sticky):
                return place
    return None


def _target(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
