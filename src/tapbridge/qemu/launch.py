"""Becoming QEMU: the program is found first, and then takes this process's place.

What execve(2) keeps is QEMU's from then on: the PID, the terminal, the process group, the working directory, the
environment, and the open files that are not closed on exec. Signals that we ignore would stay ignored; Python ignores
two of them for itself.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Final, NoReturn

from tapbridge.model.errors import HostError, Refused

_PACKAGES: Final = {
    "x86_64": "x86", "i386": "x86", "aarch64": "arm", "arm": "arm", "ppc64": "ppc", "ppc": "ppc", "sparc": "sparc",
    "sparc64": "sparc", "mips": "mips", "mipsel": "mips", "mips64": "mips", "mips64el": "mips",
}  # fmt: skip


def find_program(word: str, environ: Mapping[str, str]) -> str:
    """The path of a command, looked for as a shell does. Raises Refused if there is none that can be run."""
    folders = [""] if "/" in word else environ.get("PATH", os.defpath).split(os.pathsep)
    found = None
    for folder in folders:
        path = os.path.join(folder, word)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            found = found or path
    if found is not None:
        raise Refused(f"{found} cannot be executed", hint=f"chmod +x {found}", code="command-not-found", subject=word)
    raise Refused(f"there is no command {word!r}", hint=_advice(word), code="command-not-found", subject=word)


def _advice(word: str) -> str:
    if word in ("kvm", "qemu-kvm"):
        return "apt install qemu-system-x86"
    arch = word.rpartition("/")[2].removeprefix("qemu-system-")
    if arch in word and arch != word.rpartition("/")[2]:
        return f"apt install qemu-system-{_PACKAGES.get(arch, 'misc')}"
    return "behind -- stands the command that runs QEMU, for example: -- qemu-system-x86_64 -m 512 disk.img"


def become(path: str, words: list[str], descriptors: Collection[int]) -> NoReturn:
    """Replace this process. Of the open files only 0, 1, 2 and `descriptors` go along.

    Raises HostError, with everything as it was, if the kernel does not take the program.
    """
    import signal

    for number in _open_files():
        if number > 2 or number in descriptors:  # the terminal stays as it was given to us, also where it is closed
            os.set_inheritable(number, number in descriptors)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        os.execv(path, words)
    except OSError as error:
        for number, handler in before.items():
            signal.signal(number, handler)
        raise HostError(
            f"{path} could not be started: {error.strerror}",
            errno=error.errno or 0,
            hint="is it a program for this machine, or a script that begins with #!?",
        ) from None


def _open_files() -> list[int]:
    listed = [int(number) for number in os.listdir("/proc/self/fd")]
    return [number for number in listed if _is_open(number)]  # the listing's own file is closed by now


def _is_open(number: int) -> bool:
    try:
        os.get_inheritable(number)
    except OSError:
        return False
    return True
