"""Fuzzing by coverage (atheris, libFuzzer): `python -m kit.fuzzing TARGET FOLDER RUNS`. Exit 0, or what broke it.

The inputs come from a fixed seed, so one commit has one verdict; FOLDER is the corpus, and gets the input that broke.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tapbridge", "kit"]):
    from kit.targets import PLANTED, TARGETS

_LONGEST = 4200  # a message of the broker has 4,096 bytes at most


def main(argv: Sequence[str]) -> None:
    """Ends the process."""
    name, place, runs = argv
    target, folder = (TARGETS | PLANTED)[name], Path(place)
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    limits = (
        f"-runs={runs}",
        "-seed=1",
        f"-max_len={_LONGEST}",
        "-len_control=20",
        "-timeout=10",
        "-rss_limit_mb=1024",
    )
    atheris.Setup([name, *limits, f"-artifact_prefix={folder}/broke-", place], target.read)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
