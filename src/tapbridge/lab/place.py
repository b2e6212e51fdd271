"""A program in a place of a lab."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from tapbridge.lab import namespaces as ns
from tapbridge.lab.record import Keep
from tapbridge.model.errors import HostError, Refused

_SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
_OUTSIDE_ONLY = ("TAPBRIDGE_RUN_DIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS")
STATE_DIR = "/run/tapbridge-state"


def with_system_path(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which the programs of the system are found: a user's PATH often lacks /usr/sbin."""
    path = environ.get("PATH", "").split(":")
    return {**environ, "PATH": ":".join([*path, *(folder for folder in _SYSTEM_PATH if folder not in path)]).strip(":")}


def environment(outside: Mapping[str, str], lab: str, place: str) -> dict[str, str]:
    """The environment of a program in a place: nothing in it leads to the machine's own /run or state."""
    inside = {name: value for name, value in outside.items() if name not in _OUTSIDE_ONLY}
    return with_system_path(inside) | {"TAPBRIDGE_STATE_DIR": STATE_DIR, "TAPBRIDGE_LAB": lab, "TAPBRIDGE_PLACE": place}


def become(keep: Keep, argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Enter a place and become a program: terminal, signals and exit code are the program's own.

    Raises Refused if the place is gone or the program cannot be started, OSError if the place cannot be entered.
    """
    pidfd = ns.find_pidfd(keep.pid, keep.start)
    if pidfd is None:
        raise Refused(
            "this place of the lab is gone", hint="tapbridge lab down, then tapbridge lab up", code="lab-broken"
        )
    cwd = os.getcwd()
    ns.enter(keep.pid, pidfd)
    try:
        os.chdir(cwd)
    except OSError:
        os.chdir("/")
    try:
        os.execvpe(argv[0], list(argv), dict(environ))
    except OSError as error:
        raise Refused(f"{argv[0]!r} cannot be started: {error.strerror}", code="no-such-program") from error


def prefix(keep: Keep) -> list[str]:
    """The words that, put before a command line, run it in a place."""
    words = ["nsenter", f"--target={keep.pid}", "--net", "--mount", "--uts"]
    if os.stat("/proc/self/ns/user").st_ino != os.stat(f"/proc/{keep.pid}/ns/user").st_ino:
        words += ["--user", "--preserve-credentials"]
    cwd = os.getcwd()
    return [*words, *(() if cwd.startswith("/run") else (f"--wdns={cwd}",)), "--"]


def run_in(
    keep: Keep,
    argv: Sequence[str],
    *,
    text: str | None = None,
    limit_s: float = 30,
    env: Mapping[str, str] | None = None,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program in a place to its end, `text` on its stdin. Raises subprocess.TimeoutExpired."""
    return subprocess.run(
        [*prefix(keep), *argv],
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit_s,
        check=False,
        env=with_system_path(os.environ) if env is None else env,
        **more,
    )


def act(keep: Keep, argv: Sequence[str], *, text: str | None = None, limit_s: float = 30) -> str:
    """Run a program that must succeed; its stdout. Raises HostError with what the program said."""
    try:
        done = run_in(keep, argv, text=text, limit_s=limit_s)
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{argv[0]} did not end within {limit_s:g} s") from error
    if done.returncode != 0:
        raise HostError(f"{argv[0]} failed with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def batch(keep: Keep, lines: Sequence[str]) -> None:
    """Carry out lines of `ip -batch` in a place. Raises HostError."""
    if lines:
        act(keep, ["ip", "-batch", "-"], text="\n".join(lines) + "\n")
