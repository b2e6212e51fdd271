"""What a command gets from outside: the environment, the terminal, the folders, and the Host, made when asked for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tapbridge.model.errors import Forbidden
from tapbridge.model.noun import dataclass, field

if TYPE_CHECKING:
    from tapbridge.linux.host import LinuxHost


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Seconds since boot, suspended time included (CLOCK_BOOTTIME)."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The outside of one command."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: SystemClock = field(default_factory=SystemClock)
    uid: int = field(default_factory=os.geteuid)

    def host(self) -> LinuxHost:
        """This machine, in the network namespace of this process."""
        from tapbridge.linux.host import LinuxHost

        return LinuxHost()

    def is_terminal(self) -> bool:
        """Whether somebody can be asked."""
        return sys.stdin is not None and sys.stdin.isatty()

    def colour(self) -> bool:
        """Whether stdout takes colours (NO_COLOR respected)."""
        return sys.stdout.isatty() and not self.environ.get("NO_COLOR") and self.environ.get("TERM") != "dumb"

    def run_dir(self) -> Path:
        """Where journals and sockets live until the next boot. Never in /tmp, which others may write to."""
        own = f"/run/user/{self.uid}"
        fallback = own if Path(own).is_dir() else self.environ.get("HOME", "/") + "/.local/state/run"
        return self._folder("TAPBRIDGE_RUN_DIR", "run/tapbridge", "XDG_RUNTIME_DIR", fallback)

    def state_dir(self) -> Path:
        """Where lives what outlives a boot."""
        home_state = str(Path(self.environ.get("HOME", "/")) / ".local/state")
        return self._folder("TAPBRIDGE_STATE_DIR", "var/lib/tapbridge", "XDG_STATE_HOME", home_state)

    def broker_socket(self) -> Path:
        """Where the broker listens: also for users, whose own folders are elsewhere."""
        return Path(self.environ.get("TAPBRIDGE_RUN_DIR") or self.root / "run/tapbridge") / "broker.sock"

    def journal_dir(self, host: LinuxHost) -> Path:
        """Where the journal and the lock of this network namespace are."""
        return self.run_dir() / f"netns-{host.cookie()}"

    def durable_journal(self) -> Path | None:
        """Where is kept what must outlive a boot; None in a namespace that no boot will have again."""
        from tapbridge.linux.elsewhere import own_name

        name = own_name()
        return None if name is None else self.state_dir() / f"journal-{name}"

    def saved_record(self, bridge: str) -> Path:
        """Where is written down what was saved of a bridge; by root, whoever asks."""
        folder = self.environ.get("TAPBRIDGE_STATE_DIR") or self.root / "var/lib/tapbridge"
        return Path(folder) / "saved" / bridge

    def _folder(self, variable: str, under_root: str, xdg: str, fallback: str) -> Path:
        chosen = self.environ.get(variable)
        if chosen:
            return Path(chosen)
        if self.root != Path("/") or self.uid == 0:
            return self.root / under_root
        return Path(self.environ.get(xdg) or fallback) / "tapbridge"

    def may_change_network(self) -> bool:
        """Whether we have CAP_NET_ADMIN here."""
        return _can_change_network()

    def require_root(self, what: str) -> None:
        """Raises Forbidden for whoever may not change this network namespace."""
        if not self.may_change_network():
            raise Forbidden(
                f"{what} needs the right to change this host's network (CAP_NET_ADMIN)",
                hint="run it with sudo, or try everything in a lab of your own: tapbridge lab up",
                code="not-permitted",
            )


def _can_change_network() -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> 12 & 1)  # CAP_NET_ADMIN
    return False
