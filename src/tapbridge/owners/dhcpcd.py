"""dhcpcd (9 and 10): replaced by one that keeps the same lease on the other link.

Theory of operation. Killed, with all the processes that it divides itself among, it releases nothing and deconfigures
nothing (`dhcpcd -x` does, unless `persistent` is configured). A new one that finds a lease under the name of its own
link asks for that address (INIT-REBOOT, RFC 2131 3.2), or confirms it (DHCPv6). The server knows it by its DUID, which
is the host's, and its IAID, which is the end of the MAC that the bridge has from the NIC, unless the configuration says
otherwise. So the argument vector stays as it is but for the link's name, the lease goes to a file of the new name, and
a configuration that speaks of the link is followed by a copy of it that speaks of the other.

One that was told no link, or several, is a manager: it chooses links by itself, and no bridge that its configuration
does not name. So it always gets a copy, which names the bridge and forbids the NIC. Its other links keep what they have
meanwhile, and ask for it again likewise.
"""

from __future__ import annotations

import re
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.core.dhcpcd import (
    AT_ONCE,
    CONFIGURATION,
    own_configuration,
    read_invocation,
    with_configuration,
    with_link,
)
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import Client, State
from tapbridge.model.step import StartClient, Step, StopClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding
from tapbridge.owners.dhcpcd_files import carry_configuration, denies, manage, origin_of, with_origin
from tapbridge.owners.owner import Move, Owner, clients_of, find_among, refusal, renamed, warn

_ELSEWHERE: Final = "/proc/"
_SERVICE: Final = "dhcpcd.service"
_OF_A_LINK: Final = re.compile(r"dhcpcd@[^/]+\.service")
"""The service of one link, of which systemd has a template. The files of both are Debian's."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=,+-]+")
"""Words that mean in a unit what they mean to a program."""

_LEASE_MODE: Final = 0o640


@dataclass(frozen=True, slots=True)
class Dhcpcd:
    """The clients of one link: one for both families, or one for each."""

    name: str = "dhcpcd"

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner, by its process."""
        clients = clients_of(state, link, self.name)
        return find_among(clients, link, self, self.name, "holds the lease of")

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """Stop before the move; after it the lease file, and a start on the target. Raises Refused."""
        _require_movable(owner, move)
        found = [_replace_client(client, move) for client in owner.clients]
        leases, risks = _carry_leases(owner, move)
        return HandOver(
            before=tuple(StopClient(client=client) for client in owner.clients),
            after=(*leases, *(step for one in found for step in one)),
            risks=risks,
        )


DHCPCD: Final = Dhcpcd()


def _require_movable(owner: Owner, move: Move) -> None:
    for client in owner.clients:
        if client.link is None:
            raise refusal(owner, "it does not say which links it serves", _by_hand(owner))
        if client.argv[0].startswith("dhcpcd:"):  # its title
            raise refusal(owner, "its command line cannot be read", "let a root that may look into its memory do it")
        if move.renames and _OF_A_LINK.fullmatch(_unit(client)):
            raise refusal(owner, "its service ends when the NIC gets another name", "go without --take-name")
        if any(file.path.startswith(_ELSEWHERE) for file in client.files):
            raise refusal(owner, "its files are in a file system of its own", "start it outside of its container")
    if len({read_invocation(client.argv).family for client in owner.clients}) != len(owner.clients):
        raise refusal(owner, "several of them serve it", "end the one that should not be there")


def _by_hand(owner: Owner) -> str:
    return f"let a dhcpcd of its own hold it: dhcpcd {owner.link}"


def _replace_client(client: Client, move: Move) -> tuple[Step, ...]:
    if move.renames and read_invocation(client.argv).alone:
        return (StartClient(client=replace(client, pid=0)),)
    argv, conf = _carry_configuration(with_link(client.argv, move.source, move.target), move)
    start = StartClient(client=replace(client, pid=0, link=move.target, argv=argv, files=()))
    return (*conf, *_carry_unit(client, argv, move), start)


def _carry_unit(client: Client, argv: tuple[str, ...], move: Move) -> tuple[Step, ...]:
    """Its service starts it by these words until the next boot, whoever has it started.

    By its own words it would tell the one that runs to take every link, the port too, or serve the port itself.
    """
    told, unit = read_invocation(argv), _unit(client)
    of_a_link = _OF_A_LINK.fullmatch(unit) is not None
    path = f"/run/systemd/system/{unit if of_a_link else _SERVICE}.d/tapbridge.conf"
    if told.made_for is None and (move.back or not of_a_link):
        return (WriteFile(path=path, content=None),) if move.read(path) is not None else ()
    if not (of_a_link or unit == _SERVICE) or not all(map(_PLAIN.fullmatch, argv)):
        return ()
    lines = ["# Written by tapbridge.", "[Service]", "ExecStart=", _line("ExecStart", argv[0], AT_ONCE[0], *argv[1:])]
    if of_a_link:
        family = [f"-{told.family}"] if told.family else []
        lines += ["ExecStop=", _line("ExecStop", argv[0], "-x", *family, move.target)]
        lines.append(f"PIDFile=/run/dhcpcd/{told.stem}.pid")
    return (WriteFile(path=path, content="\n".join((*lines, ""))),)


def _unit(client: Client) -> str:
    """The unit of systemd's that it belongs to, if it does."""
    return client.cgroup.rpartition("/")[2]


def _line(key: str, *words: str) -> str:
    return f"{key}={' '.join(words)}"


def _carry_configuration(argv: tuple[str, ...], move: Move) -> tuple[tuple[str, ...], tuple[Step, ...]]:
    """A configuration that says something of the link is followed by a copy of it that says so of the target.

    A copy is not copied, but what it is one of: on the way back that will do, unless the bridge is saved in it.
    """
    told = read_invocation(argv)
    path = told.conf_path
    gone: tuple[Step, ...] = ()
    if path is not None and told.made_for == move.source:
        gone = (WriteFile(path=path, content=None),)
        path = origin_of(move.read(path) or "")
        argv = with_configuration(argv, path)
    text = move.read(path or CONFIGURATION) or ""
    if gone and move.back and not denies(text, move.target):
        return argv, gone
    carried = carry_configuration(text, move.source, move.target)
    if not told.alone:
        carried = manage(carried, move.source if move.back else move.port, move.target)
    if told.alone and carried == text:
        return argv, gone
    own = own_configuration(move.target)
    return with_configuration(argv, own), (*gone, WriteFile(path=own, content=with_origin(carried, path)))


def _carry_leases(owner: Owner, move: Move) -> tuple[tuple[Step, ...], tuple[Finding, ...]]:
    """The leases under the target's name; those of a bridge that goes away are deleted."""
    if move.renames:
        return (), ()
    files: list[Step] = []
    for path in dict.fromkeys(file.path for client in owner.clients for file in client.files):
        files.append(WriteFile(path=renamed(path, move), content=move.read(path), mode=_LEASE_MODE))
        if move.back:
            files.append(WriteFile(path=path, content=None))
    if files:
        return tuple(files), ()
    message = f"dhcpcd has no lease of {move.source}: the server may give another address"
    return (), (warn("lease-not-found", move.source, message),)
