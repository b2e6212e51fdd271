"""Commands with a limit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def run(
    *words: str | Path,
    check: bool = True,
    timeout_s: float = 30,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in the network namespace of this thread. `env` is added to the environment.

    Raises AssertionError with the command's own words if it fails while `check` is set, and
    subprocess.TimeoutExpired, after killing it, if it outlives the limit.
    """
    done = subprocess.run(
        [str(word) for word in words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    if check and done.returncode != 0:
        line = " ".join(str(word) for word in words)
        raise AssertionError(f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done
