"""Steps that have to do with the owner of a link: its processes, its units, its files. A part of step.py."""

from __future__ import annotations

from tapbridge.model.noun import dataclass
from tapbridge.model.state import Address, Client, Route
from tapbridge.model.values import IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class StopClient:
    """End a client's process without letting it deconfigure: SIGKILL by pidfd, and wait for its death."""

    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class StartClient:
    """Start a client in the cgroup of its predecessor."""

    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseClient:
    """Stop a client by SIGSTOP until ResumeClient, so that it does not act on what it sees half done."""

    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeClient:
    """Let a client that was stopped go on, or to its end if StopClient was cut off; nothing to do where it is not
    stopped. Every way back begins with it."""

    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadClient:
    """Let a manager read its files anew, by its own command."""

    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitClient:
    """Wait until a manager has its link in hand by its file, or (`left`) has let go of it; `limit_s` seconds at most.

    It must have a lease for one of the IPv4 addresses `leased`. For the `addresses` and `routes` no more than the time
    is given: some may be somebody else's, or not be told to it this time.
    """

    client: Client
    left: bool = False
    leased: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    limit_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopUnit:
    """Stop the systemd unit of a manager that leaves its links as they are. `clients` are what it is of these links."""

    unit: str
    clients: tuple[Client, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUnit:
    """Start the systemd unit of a manager, and wait until it holds each of `clients`' links by that profile."""

    unit: str
    clients: tuple[Client, ...]
    limit_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """Put a file in place by fsync and rename; None takes it away.

    A file that exists keeps its mode and owner; one that is new gets `mode` and, where it is told, `owner` (uid, gid).
    """

    path: str
    content: str | None
    mode: int = 0o644
    owner: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLinkFile:
    """Put a file in place whose name is the number of a link that the plan makes.

    Nobody knows the number before. The folder does not outlive the boot, and its owner clears it of links that are
    gone.
    """

    folder: str
    link: IfName
    content: str
