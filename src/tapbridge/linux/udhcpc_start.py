"""udhcpc, of busybox, started in such a way that it leaves the link alone until it has a lease.

Theory of operation. Its first act is the event `deconfig`, by which its script takes everything from the link; and it
keeps no lease, so it does not know what to ask for. Hence a link that has an address gets a udhcpc with a few words
behind its own: it asks for that address, it never gives up asking, it stays the same process, and its script is a
shell. `sh EVENT` reads the file EVENT in its folder, one of ours: that for `deconfig` does nothing until the process
has had a lease, the others call the script that was meant. (A script of ours would have to be executable, and /run
often is not.) The words are taken off again whenever a command line is read, so nobody else knows of all this.
"""

from __future__ import annotations

import os
import shlex
from typing import Final

from tapbridge.core.udhcpc import read_invocation
from tapbridge.linux.files import write_file
from tapbridge.model.noun import replace
from tapbridge.model.state import Client

_SHELL: Final = "/bin/sh"
_SCRIPTS: Final = ("/etc/udhcpc/default.script", "/usr/share/udhcpc/default.script")
_EVENTS: Final = ("bound", "renew", "nak", "leasefail")
_LEASED: Final = "leased"  # has the PID of the process that had a lease last
_SIOCGIFADDR: Final = 0x8915  # include/uapi/linux/sockios.h


def without_ours(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command line without the words that we have put behind it."""
    own = _words("")
    ours = argv[-len(own) :]
    same = len(ours) == len(own) and all(mine in ("", word) for mine, word in zip(own, ours, strict=True))
    return argv[: -len(own)] if same else argv


def left_alone(client: Client) -> Client:
    """The client as it is started where its link has an address. Writes the files that it needs. Raises HostError."""
    assert client.link is not None, "a udhcpc always has a link"
    address = _find_address(client.link)
    if address is None:
        return client
    script = read_invocation(client.argv).script or next(filter(os.path.exists, _SCRIPTS), _SCRIPTS[0])
    folder = _folder(client.link)
    os.makedirs(folder, exist_ok=True)
    begin = f"cd {shlex.quote(client.cwd)}\n"
    call = f"exec {shlex.quote(script)}"
    for event in _EVENTS:
        write_file(f"{folder}/{event}", f'echo "$PPID" >{_LEASED}\n{begin}{call} {event}\n')
    known = f'read -r pid <{_LEASED} && [ "$pid" = "$PPID" ] || exit 0\n'
    write_file(f"{folder}/deconfig", f"{known}{begin}{call} deconfig\n")
    return replace(client, argv=(*client.argv, *_words(address)), cwd=folder)


def forget(client: Client) -> None:
    """Remove the files of a client that has ended."""
    import shutil

    if client.link is not None:
        shutil.rmtree(_folder(client.link), ignore_errors=True)


def _folder(link: str) -> str:
    return f"/run/udhcpc.{link}"


def _words(address: str) -> tuple[str, ...]:
    """Our words: with any address for "". `-t 0` asks for ever, so neither -n nor -b comes to bear."""
    return "-s", _SHELL, "-t", "0", "-f", "-r", address


def _find_address(link: str) -> str | None:
    """The first IPv4 address of a link."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("16s24x", link.encode()))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])
