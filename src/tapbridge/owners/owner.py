"""An owner of a link: what configures it and would go on doing so, and what every file of this folder offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tapbridge.core.adopt import HandOver
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.noun import dataclass, field
from tapbridge.model.state import Client, State
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity

Read = Callable[[str], str | None]
"""The text of a file, None where there is none. Raises HostError for what cannot be read."""

Ask = Callable[..., str]
"""What a program that is called with these words says; `text` is for it to read. Raises HostError where it fails."""


def nobody(*words: str, text: str = "") -> str:
    """The Ask that calls no program."""
    raise HostError(f"{words[0]} is not asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who holds a link, by which processes, and how we know: `proof` is one sentence."""

    name: str
    link: IfName
    clients: tuple[Client, ...]
    proof: str
    kind: Kind = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From which link to which. The two names are equal when the target takes over the name of the source: then `port`
    is what the NIC is called as a port, and `bridge` what the bridge is called as long as the NIC has that name."""

    state: State
    source: IfName
    target: IfName
    port: IfName
    bridge: IfName
    read: Read = field(repr=False)
    ask: Ask = field(repr=False, default=nobody)
    force: bool = False

    @property
    def renames(self) -> bool:
        """Whether the target takes over the name of the source."""
        return self.source == self.target

    @property
    def back(self) -> bool:
        """Whether this is the way back, off a bridge that is then deleted."""
        return is_bridge(self.state, self.source)


class Kind(Protocol):
    """A kind of owner: one row of the table."""

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner of that kind, if one holds the link."""
        ...

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """What must be done before and after the move. Raises Refused where it cannot be done."""
        ...


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A kind of owner that is detected and named, and whose hand-over is not built yet.

    `programs` are its processes; `does` is the verb between process and link; `hint` says what to do instead, and may
    name the link as {link}.
    """

    name: str
    programs: tuple[str, ...]
    does: str
    hint: str

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner, by its process in our network namespace."""
        return find_among(clients_of(state, link, *self.programs), link, self, self.name, self.does)

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """Raises Refused."""
        raise refusal(owner, "handing it over is not built yet", self.hint.format(link=move.source))


def is_bridge(state: State, link: str) -> bool:
    """Whether there is such a bridge."""
    found = state.link(link)
    return found is not None and found.kind == "bridge"


def clients_of(state: State, link: str, *programs: str) -> tuple[Client, ...]:
    """The clients of those programs that hold a link. One that may hold any link counts for a NIC, not for a bridge."""
    found = state.link(link)
    any_too = found is None or found.kind != "bridge"
    return tuple(c for c in state.clients if c.program in programs and (c.link == link or (c.link is None and any_too)))


def find_among(clients: tuple[Client, ...], link: IfName, kind: Kind, name: str, does: str) -> Owner | None:
    """The owner that these clients of a link are; None without any. `does` is the verb between process and link."""
    if not clients:
        return None
    return Owner(name=name, link=link, clients=clients, proof=_tell(clients, link, does), kind=kind)


def _tell(clients: tuple[Client, ...], link: str, does: str) -> str:
    """A proof: which process does what to the link, and which files say so."""
    one = clients[0]
    pids = ", ".join(dict.fromkeys(str(client.pid) for client in clients))
    if one.link is None:
        return f"{one.program} (PID {pids}) runs and may configure any link"
    files = ", ".join(dict.fromkeys(file.path for client in clients for file in client.files))
    return f"{one.program} (PID {pids}) {does} {link}" + (f", see {files}" if files else "")


def renamed(path: str, move: Move) -> str:
    """A path whose last part has the target's name where it had the source's, as a word of its own."""
    import re

    folder, slash, name = path.rpartition("/")
    word = rf"(?<![A-Za-z0-9]){re.escape(move.source)}(?![A-Za-z0-9])"
    return folder + slash + re.sub(word, lambda _: move.target, name)


def refusal(owner: Owner, why: str, hint: str) -> Refused:
    """The error that says why this owner's link is not moved."""
    return Refused(
        f"{owner.link} is held by {owner.name}, and {why}: {owner.proof}",
        hint=f"{hint}; --force moves {owner.link} all the same and leaves {owner.name} as it is",
        code="owner-holds-nic",
        subject=owner.link,
    )


def left_alone(owner: Owner, move: Move) -> HandOver:
    """Nothing is done to the owner, and that is told."""
    where = f"goes on configuring {move.source}, and nobody renews a lease on {move.target}"
    if move.back:
        where = f"looks after {move.source}, which goes away, and not after {move.target}"
    message = f"{owner.name} is left alone: it {where}"
    return HandOver(risks=(warn("owner-left-alone", move.source, message, evidence=(owner.proof,)),))


def warn(code: str, subject: str, message: str, *, fix: str | None = None, evidence: tuple[str, ...] = ()) -> Finding:
    """A finding of severity warning."""
    return Finding(code=code, severity=Severity.WARNING, subject=subject, message=message, evidence=evidence, fix=fix)
