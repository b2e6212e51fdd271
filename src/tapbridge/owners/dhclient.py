"""dhclient (ISC DHCP 4.x): its process is replaced by one on the other link that keeps the same lease.

Theory of operation. Killed, it releases nothing and deconfigures nothing (`dhclient -x` would). A new one that finds
the lease in its file under the name of its own link does not discover: it asks for that address (INIT-REBOOT,
RFC 2131 3.2), or confirms it (DHCPv6). The server knows it by what it sends: nothing but the MAC, which the bridge has
from the NIC, unless its configuration says otherwise; with -i, `ff`, the last four bytes of the MAC and the DUID, which
is in the lease file. So the argument vector stays as it is but for the link's name, and so do the paths, but for the
file names that hold the link's name. Where the target takes over the NIC's name, nothing changes at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.core.dhclient import VALUED, Invocation, read_invocation
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import PERMANENT, SCOPE_GLOBAL, Client, State
from tapbridge.model.step import PutAddress, StartClient, Step, StopClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding
from tapbridge.owners.dhclient_files import carry_leases, leased_addresses, names_link, rename_links
from tapbridge.owners.networkmanager import works_for_networkmanager
from tapbridge.owners.owner import Move, Owner, clients_of, find_among, refusal, renamed, warn

_CONFIGURATIONS: Final = ("/etc/dhcp/dhclient.conf", "/etc/dhclient.conf")
_PIDS: Final = {4: "/run/dhclient.pid", 6: "/run/dhclient6.pid"}
_ELSEWHERE: Final = "/proc/"
_BY_HAND: Final = "start one dhclient for each link"


@dataclass(frozen=True, slots=True)
class Dhclient:
    """The clients of one link: one for IPv4, one for DHCPv6, or both."""

    name: str = "dhclient"

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner, by its process; a dhclient of NetworkManager's is not one of its own."""
        clients = tuple(c for c in clients_of(state, link, self.name) if not works_for_networkmanager(c))
        return find_among(clients, link, self, self.name, "holds the lease of")

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """Stop before the move; after it the lease file, and a start on the target. Raises Refused."""
        _require_movable(owner, move)
        found = [_replace_client(client, move) for client in owner.clients]
        return HandOver(
            before=tuple(step for one in found for step in one.before),
            after=tuple(step for one in found for step in one.after),
            risks=tuple(risk for one in found for risk in one.risks),
        )


DHCLIENT: Final = Dhclient()


def _require_movable(owner: Owner, move: Move) -> None:
    families: set[int] = set()
    for client in owner.clients:
        told = read_invocation(client.argv, client.environment)
        others = [c.link for c in move.state.clients if c.pid == client.pid and c.link != client.link and c.link]
        if client.link is None:
            raise refusal(owner, "it does not say which links it serves", _BY_HAND)
        if others or len(told.links) > 1:
            names = ", ".join(others or [name for name in told.links if name != client.link])
            raise refusal(owner, f"the same process serves {names}", _BY_HAND)
        if told.family in families:
            raise refusal(owner, f"two of them serve it for IPv{told.family}", "end the one that should not be there")
        if any(file.path.startswith(_ELSEWHERE) for file in client.files):
            raise refusal(owner, "its files are in a file system of its own", "start it outside of its container")
        families.add(told.family)


def _replace_client(client: Client, move: Move) -> HandOver:
    told = read_invocation(client.argv, client.environment)
    stop, again = StopClient(client=client), _permanent_again(told, move)
    if move.renames:
        return HandOver(before=(stop,), after=(StartClient(client=replace(client, pid=0)), *again))
    files, tidy, risks = _carry_files(client, told, move)
    argv, conf = _carry_configuration(_rename_words(client, told, move), told, move)
    pid_path = told.pid_path or _PIDS[told.family]
    # The new one too: dhclient writes it by itself, and what a step has named is put back as it was.
    files += [WriteFile(path=path, content=None) for path in dict.fromkeys((pid_path, renamed(pid_path, move)))]
    environment = tuple(
        renamed(item, move) if item.startswith("PATH_DHCLIENT_") else item for item in client.environment
    )
    start = StartClient(client=replace(client, pid=0, link=move.target, argv=argv, environment=environment, files=()))
    return HandOver(before=(stop,), after=(*files, *conf, start, *again, *tidy), risks=tuple(risks))


def _carry_files(client: Client, told: Invocation, move: Move) -> tuple[list[Step], list[Step], list[Finding]]:
    """The lease file under the target's name, or in place where the name is not in its path; what to delete at last."""
    files: list[Step] = []
    tidy: list[Step] = []
    risks: list[Finding] = []
    for file in client.files:
        path, text = renamed(file.path, move), move.read(file.path) or ""
        keep = path == file.path and not move.back
        files.append(WriteFile(path=path, content=carry_leases(text, move.source, move.target, keep=keep)))
        if move.back and path != file.path:
            tidy.append(WriteFile(path=file.path, content=None))
        if not _has_lease(text, told, move):
            message = f"no lease of {move.source} for its addresses is in {file.path}: the server may give another one"
            risks.append(warn("lease-not-found", move.source, message))
    if not client.files and not told.stateless:
        message = f"dhclient (PID {client.pid}) has no lease file: the server may give another address"
        risks.append(warn("lease-not-found", move.source, message))
    return files, tidy, risks


def _has_lease(text: str, told: Invocation, move: Move) -> bool:
    """Whether every address of the link that ends some day, or none at all, can come from this file."""
    addresses = move.state.addresses_of(move.source, told.family)
    if told.family == 6:
        return True  # others, by router advertisement, end some day as well
    leased = leased_addresses(text, move.source)
    return all(address.valid_lft is None or address.ip in leased for address in addresses)


def _rename_words(client: Client, told: Invocation, move: Move) -> tuple[str, ...]:
    """The argument vector on the target. A dhclient that found its link by itself is told which one it is."""
    words = [client.argv[0]]
    rest = iter(client.argv[1:])
    for word in rest:
        if word not in VALUED:
            words.append(move.target if word == move.source else word)
            continue
        value = next(rest, "")
        if word == "-lf" and client.files:
            value = client.files[0].path  # what is told may be relative to a folder that is not known any more
        words += [word, renamed(value, move) if word in ("-lf", "-pf") else value]
    return tuple(words) if told.links else (*words, move.target)


def _carry_configuration(
    argv: tuple[str, ...], told: Invocation, move: Move
) -> tuple[tuple[str, ...], tuple[Step, ...]]:
    """A configuration that says something of the link alone is followed by a copy of it that says so of the target."""
    if move.back and told.conf_path == _own_configuration(move.source):
        return argv[:-2], (WriteFile(path=told.conf_path, content=None),)
    for path in (told.conf_path,) if told.conf_path else _CONFIGURATIONS:
        text = move.read(path)
        if text is not None and names_link(text, move.source):
            own = _own_configuration(move.target)
            return (*argv, "-cf", own), (WriteFile(path=own, content=rename_links(text, move.source, move.target)),)
        if text is not None:
            break
    return argv, ()


def _own_configuration(link: str) -> str:
    """A place under /run where Ubuntu's AppArmor profile lets dhclient read: dhclient*.lease*."""
    return f"/run/dhclient.{link}.lease-conf"


def _permanent_again(told: Invocation, move: Move) -> Iterator[Step]:
    """dhclient-script flushes the permanent global IPv6 addresses when a DHCPv6 client starts (PREINIT6)."""
    if told.family == 4:
        return
    for address in move.state.addresses_of(move.source, 6):
        if address.flags & PERMANENT and address.scope == SCOPE_GLOBAL and not address.temporary:
            yield PutAddress(address=replace(address, link=move.target))
            yield PutAddress(address=replace(address, link=move.target), dad=True)
