"""A world of our own to measure in: fresh network, mount and PID namespaces, which end with the bench."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
PROBE = CACHE / "probe"

_STARTER = "TAPBRIDGE_BENCH_STARTER"
_FIRST_PROCESS = '"$@"; exit $?'  # PID 1 is a shell: it reaps the daemons that our commands leave


def enter() -> None:
    """Start this program again in namespaces of its own, or return where that has been done.

    Exits with a sentence without root. Nothing is ever measured in the namespace the bench was started in.
    """
    here = str(os.stat("/proc/self/ns/net").st_ino)
    starter = os.environ.get(_STARTER)
    if starter is None:
        if os.geteuid() != 0:
            raise SystemExit(
                "error: the bench makes network namespaces and real-time processes\n\nhint: run it as root"
            )
        unshare = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        shell = ["--mount-proc", "sh", "-c", _FIRST_PROCESS, "sh"]
        os.environ[_STARTER] = here
        os.execvp("unshare", [*unshare, *shell, sys.executable, *sys.argv])
    if starter == here:
        raise SystemExit("error: this is still the network namespace that the bench was started in")
    _cover("/run", "/etc")
    Path("/run/netns").mkdir()


def prepare() -> None:
    """Compile the probe into .cache (needs gcc), and the program to bytecode, as an installed one is."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", ROOT / "src" / "tapbridge"], check=True)
    build_probe()


def build_probe() -> None:
    """Compile the probe where it is not there yet or older than its source."""
    folder = Path(__file__).with_name("probe")
    newest = max(source.stat().st_mtime for source in folder.iterdir())
    if PROBE.exists() and PROBE.stat().st_mtime > newest:
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    sources = sorted(folder.glob("*.c"))
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", PROBE, *sources], check=True)


def _cover(run: str, etc: str) -> None:
    """An empty /run, and an /etc that can be written without a trace (dhclient-script writes resolv.conf)."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", run], check=True)
    upper, work = Path(run, "etc"), Path(run, "etc-work")
    upper.mkdir()
    work.mkdir()
    layers = f"lowerdir={etc},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, etc], check=True)
