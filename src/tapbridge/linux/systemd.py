"""systemd, where it runs this machine: a timer that outlives whoever sets it, by systemd-run(1) and systemctl(1).

Both talk to PID 1 by its own socket, /run/systemd/private: no D-Bus daemon is needed, and nothing of the network.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tapbridge.linux import processes
from tapbridge.linux.files import write_file
from tapbridge.model.errors import HostError

if TYPE_CHECKING:
    from subprocess import CompletedProcess

_LIMIT_S: Final = 5.0
_RESTING: Final = ("dead", "failed", "exited")
_HELD: Final = "zz-tapbridge-held.conf"
"""The drop-in of a service whose program is just being ended: of all, the last by its name counts."""

_NOT_LOADED: Final = 5  # of `systemctl stop`, the LSB's "program is not installed"

# No dependency of any kind: what waits for a target waits for the network as soon as somebody's override says so,
# and what conflicts with shutdown.target is stopped while the host can still be cut off.
# Five starts within ten seconds are systemd's own limit for Restart=.
_TIMER: Final = ("AccuracySec=100ms", "RemainAfterElapse=no")
_SERVICE: Final = ("Restart=on-failure", "RestartSec=1s", "TimeoutStopSec=2s", "OOMScoreAdjust=-1000")


def is_here() -> bool:
    """Whether systemd is PID 1 as we see it, and what it starts is in our network namespace."""
    return os.path.isdir("/run/systemd/system") and processes.command_name(1) == "systemd" and processes.in_our_netns(1)


def arm_timer(unit: str, after_s: float, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Let systemd run a program as root `after_s` seconds from now, in a service that nobody else's end takes along.

    The timer is UNIT.timer, the service UNIT.service; both are gone when they are done. The program is started again
    if it fails, five times at most. The clock stands still while the machine sleeps. Raises HostError.
    """
    words = [
        *("systemd-run", "--quiet", "--collect", f"--unit={unit}", "--description=tapbridge: take a change back"),
        *(f"--on-active={after_s:.3f}s", *(f"--timer-property={text}" for text in (*_TIMER, "DefaultDependencies=no"))),
        *(f"--property={text}" for text in (*_SERVICE, "DefaultDependencies=no")),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        *("--", *argv),
    ]
    code, said = _run(words)
    if code != 0:
        raise HostError(f"systemd does not set the timer {unit}: {said}", hint=f"see: systemctl status {unit}.timer")


def disarm_timer(unit: str) -> None:
    """Stop a timer and its service, whether they are there or not. A service does not stop itself. Raises HostError."""
    units = [f"{unit}.timer", f"{unit}.service"]
    if processes.control_group(os.getpid()).endswith(f"/{unit}.service"):
        units.pop()
    stop(units)


def stop(units: Sequence[str]) -> None:
    """Stop units, whether they are there or not. Raises HostError."""
    for one in units:
        code, said = _run(["systemctl", "stop", "--quiet", one])
        if code not in (0, _NOT_LOADED):
            raise HostError(f"systemd does not stop {one}: {said}", hint=f"stop it: systemctl stop {one}")


def is_armed(unit: str) -> bool:
    """Whether a timer waits, or its service runs. Raises HostError."""
    return _run(["systemctl", "is-active", "--quiet", f"{unit}.timer", f"{unit}.service"])[0] == 0


@contextmanager
def held_down(cgroup: str) -> Iterator[None]:
    """Meanwhile the service whose processes are in a control group is not started again if they end (`Restart=`).

    A file below /run says so; whoever is killed in between leaves it for `let_start`. Raises HostError.
    """
    unit = os.path.basename(cgroup)
    if not unit.endswith(".service") or not is_here() or _restart(unit) in ("no", ""):
        yield
        return
    path = _held_path(unit)
    write_file(path, "# Written by tapbridge: for a moment.\n[Service]\nRestart=no\n")
    try:
        reload()
        if _restart(unit) != "no":
            raise HostError(f"systemd would start {unit} again", hint=f"see: systemctl cat {unit}")
        yield
    finally:
        let_start(cgroup)


def let_start(cgroup: str) -> None:
    """Take away what `held_down` has left, if it has. Raises HostError."""
    path = _held_path(os.path.basename(cgroup))
    if os.path.exists(path):
        write_file(path, None)
        reload()


def _held_path(unit: str) -> str:
    return f"/run/systemd/system/{unit}.d/{_HELD}"


def _restart(unit: str) -> str:
    return _ask(["systemctl", "show", "--property=Restart", "--value", unit]).strip()


def await_end(cgroup: str) -> None:
    """Wait until systemd has seen the end of the service whose processes were in a control group, and cleared up
    behind it: what it runs then, and the folders that it removes, are not for a successor. Raises HostError."""
    unit = os.path.basename(cgroup)
    if not unit.endswith(".service") or not is_here():
        return
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        if _ask(["systemctl", "show", "--property=SubState", "--value", unit]).strip() in _RESTING:
            return
        time.sleep(0.02)


def find_command(unit: str) -> tuple[str, ...]:
    """The words by which a unit starts its program; none where there is no such unit. Raises HostError."""
    said = _ask(["systemctl", "show", "--property=ExecStart", "--value", unit])
    _, _, rest = said.partition(" argv[]=")
    return tuple(rest.partition(" ; ")[0].split())


def stop_or_kill(unit: str) -> None:
    """Stop a unit, and wait until it has ended; one that does not end is killed. Raises HostError."""
    try:
        stop([unit])
    except HostError:  # its own limit is 90 s, and then it would end after all
        _run(["systemctl", "kill", "--signal=KILL", unit])
        stop([unit])


def start(unit: str, limit_s: float = _LIMIT_S) -> None:
    """Start a unit, and wait until it says that it is up. Raises HostError."""
    code, said = _run(["systemctl", "start", unit], limit_s)
    if code != 0:  # for one thing systemd starts none six times within ten seconds
        _run(["systemctl", "reset-failed", unit])
        code, said = _run(["systemctl", "start", unit], limit_s)
    if code != 0:
        raise HostError(f"systemd does not start {unit}: {said}", hint=f"see: systemctl status {unit}")


def let_come_up(unit: str, limit_s: float) -> None:
    """Start a unit, and wait until it is up, `limit_s` seconds at most: then it goes on trying. Raises HostError."""
    try:
        start(unit, limit_s)
    except HostError as error:
        if error.errno != errno.ETIMEDOUT:
            raise


def reload() -> None:
    """Let systemd read its units anew. Raises HostError."""
    code, said = _run(["systemctl", "daemon-reload"])
    if code != 0:
        raise HostError(f"systemd does not read its units anew: {said}", hint="see: journalctl -b _PID=1")


def _run(words: Sequence[str], limit_s: float = _LIMIT_S) -> tuple[int, str]:
    done = _finished(words, limit_s)
    return done.returncode, " ".join(done.stderr.split())[-300:] or f"{words[0]} ended with {done.returncode}"


def _ask(words: Sequence[str]) -> str:
    return _finished(words).stdout


def _finished(words: Sequence[str], limit_s: float = _LIMIT_S) -> CompletedProcess[str]:
    import subprocess

    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        message = f"{words[0]} does not answer within {limit_s:g} s"
        raise HostError(message, errno=errno.ETIMEDOUT, hint="is systemd alive?") from None
    except OSError as error:
        raise HostError(f"{words[0]} cannot be started: {error.strerror}", errno=error.errno or 0) from None
