"""Other network namespaces than ours, and what ours is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_NAMED: Final = Path("/run/netns")
_MOST: Final = 64
_LIMIT_S: Final = 2.0


def find_elsewhere(link: str) -> str | None:
    """The name of a namespace in /run/netns that has a link of that name."""
    import subprocess

    try:
        names = sorted(os.listdir(_NAMED))[:_MOST]
    except OSError:
        return None
    for name in names:
        argv = ["ip", "-n", name, "link", "show", "dev", link]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode == 0:
            return name
    return None


def own_name() -> str | None:
    """What our network namespace is called as long as it can be found again: `host` for that of process 1, else its
    name in /run/netns; None where it has no name."""
    from tapbridge.linux.processes import in_our_netns

    if in_our_netns(1):
        return "host"
    here = os.stat("/proc/thread-self/ns/net")
    try:
        names = sorted(os.listdir(_NAMED))
    except OSError:
        return None
    for name in names:
        try:
            if os.path.samestat(os.stat(_NAMED / name), here):
                return f"netns-{name}"
        except OSError:
            continue
    return None
