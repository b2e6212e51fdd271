"""The programs by which managers are told what to do, each behind a stand-in of ours that counts the calls of all of
them, and lets one of these fail, or give no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from kit.container import Container
from kit.injection import Call

Fault = Literal["fails", "hangs"]
FAULTS: Final[tuple[Fault, ...]] = ("fails", "hangs")

_PROGRAMS: Final = ("systemctl", "networkctl", "nmcli")
_FOLDER: Final = "/usr/local/sbin"  # it comes first wherever somebody looks for a program
_SEEN: Final = "/run/stand-in.seen"
_FAULTS: Final[dict[Fault, str]] = {"fails": "echo it was made to fail >&2; exit 1", "hangs": "exec sleep 60"}
_SCRIPT: Final = """\
#!/bin/sh
name=${{0##*/}}
echo "$name $*" >>{seen}
[ "$(wc -l <{seen})" != {at} ] || {{ {fault}; }}
exec "/usr/bin/$name" "$@"
"""


@contextmanager
def stand_ins(host: Container, fault: Fault = "fails", *, at: int = 0) -> Iterator[Callable[[], list[Call]]]:
    """Let the call of this number, counted from now, have the fault; 0: none. Yields what tells the calls until now."""
    seen = host.path(_SEEN)
    seen.write_text("")
    paths = [host.path(f"{_FOLDER}/{name}") for name in _PROGRAMS]
    for path in paths:
        path.write_text(_SCRIPT.format(seen=_SEEN, at=at, fault=_FAULTS[fault]))
        path.chmod(0o755)
    try:
        yield lambda: _calls(seen)
    finally:
        for path in (*paths, seen):
            path.unlink()


def _calls(seen: Path) -> list[Call]:
    return [
        Call(kind=line.partition(" ")[0], number=number, role="starts", text=line)
        for number, line in enumerate(seen.read_text().splitlines(), 1)
    ]
