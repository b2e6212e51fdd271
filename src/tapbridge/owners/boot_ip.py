"""An address from the kernel's command line, `ip=`: nobody holds the link, and the next boot configures it again.

The kernel itself reads the word where it was built to (CONFIG_IP_PNP), otherwise an initramfs does, before anything
else runs. See Documentation/admin-guide/nfs/nfsroot.rst of Linux, initramfs-tools(7), ipconfig of klibc,
dracut.cmdline(7). What comes of it stays, also what DHCP has lent: nobody renews it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.model.noun import dataclass
from tapbridge.model.state import SCOPE_GLOBAL, Address, State
from tapbridge.model.verdict import Finding
from tapbridge.owners.owner import Move, Read, warn

COMMAND_LINE: Final = "/proc/cmdline"
_REPORT: Final = "/run/net-{link}.conf"
"""What ipconfig has done to a link, as assignments of a shell."""
_CONTAINER: Final = "/run/systemd/container"

_KEYS: Final = ("ip", "nfsaddrs")
_BY_SERVER: Final = frozenset(("dhcp", "on", "any", "both", "bootp", "rarp", "dhcp4", "single-dhcp"))
_BY_NOBODY: Final = frozenset(("", "off", "none", "static"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BootAddress:
    """How a boot configures a link: the word on the command line, and whether a server lends the address."""

    word: str
    leased: bool

    @property
    def proof(self) -> str:
        """Where it stands."""
        return f"{COMMAND_LINE}: {self.word}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """One `ip=`: the addresses and the link that it names ("" for none), and whether a server is asked."""

    text: str
    ip: str
    link: str
    leased: bool


def find_boot_address(read: Read, state: State, holder: str, nic: str) -> BootAddress | None:
    """What the command line makes of the NIC at boot; None where it says nothing of it. `holder` is the link that has
    the NIC's addresses now.

    The address that the word names, or that was lent, must be there and last: which was lent is known from what
    ipconfig has left, or else any will do. In a container it is the command line of another system.
    """
    if read(_CONTAINER) is not None:
        return None
    lasting = [one for one in state.addresses_of(holder) if one.valid_lft is None and one.scope == SCOPE_GLOBAL]
    for word in _words(read(COMMAND_LINE) or ""):
        if word.link in ("", nic) and _is_its_work(word, read, nic, lasting):
            return BootAddress(word=word.text, leased=word.leased)
    return None


def tell_boot_address(move: Move) -> Iterator[Finding]:
    """The finding `lease-not-renewed`, of a NIC whose address was lent at boot; there is nobody to hand over."""
    if move.back:
        return
    found = find_boot_address(move.read, move.state, move.source, move.source)
    if found is not None and found.leased:
        message = (
            f"{move.source} was lent its address when the host booted, and nobody has renewed it since: "
            f"nobody will on {move.target} either, and the server may lend it to another machine"
        )
        fix = f"let a DHCP client hold {move.source}, before the change"
        yield warn("lease-not-renewed", move.source, message, evidence=(found.proof,), fix=fix)


def _is_its_work(word: _Word, read: Read, nic: str, lasting: list[Address]) -> bool:
    if word.ip:
        return any(one.ip == word.ip for one in lasting)
    report = read(_REPORT.format(link=nic))
    lent = _value(report, "IPV4ADDR") if report is not None else None
    return any(one.family == 4 and lent in (None, one.ip) for one in lasting)


def _value(report: str, key: str) -> str | None:
    lines = (line.partition("=") for line in report.splitlines())
    return next((value.strip("'\"") for name, _, value in lines if name == key), None)


def _words(line: str) -> Iterator[_Word]:
    """The words that configure something."""
    own = line.partition(" -- ")[0]  # what stands behind is for init
    for text in own.split():
        key, _, value = text.partition("=")
        if key not in _KEYS or value in _BY_NOBODY:
            continue
        fields = _fields(value)
        if value in _BY_SERVER:
            found = _Word(text=text, ip="", link="", leased=True)
        elif 1 < len(fields) < 6 and fields[1] in _BY_SERVER:  # dracut's, as in ip=eth0:dhcp
            found = _Word(text=text, ip="", link=fields[0], leased=True)
        else:
            fields += [""] * 7
            found = _Word(
                text=text, ip=fields[0], link=fields[5], leased=not fields[0] and (fields[6] or "any") not in _BY_NOBODY
            )
        if found.leased or found.ip:
            yield found


def _fields(value: str) -> list[str]:
    """What stands between the colons; an IPv6 address is in brackets."""
    fields, inside = [""], False
    for letter in value:
        inside = (inside or letter == "[") and letter != "]"
        if letter == ":" and not inside:
            fields.append("")
        elif letter not in "[]":
            fields[-1] += letter
    return fields
