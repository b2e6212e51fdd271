"""A running guest, found by its name and spoken to through its monitor: what `attach` and `detach` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tapbridge.core.macs import tap_mac
from tapbridge.guests.procfs import PROC, Process, find_namespace
from tapbridge.guests.running import Running, find_running
from tapbridge.model.errors import Refused, TapbridgeError
from tapbridge.model.noun import dataclass
from tapbridge.model.state import Link, State
from tapbridge.model.verdict import Finding, Severity
from tapbridge.qemu.argv import CommandLine, ids, parse_command
from tapbridge.qemu.cards import Card, Fittings, read_fittings, take_back
from tapbridge.qemu.monitor import find_sockets, has_monitor
from tapbridge.qemu.qmp import Monitor, open_monitor
from tapbridge.transact.signals import Interrupted, Stopped, shielded_from_signals

if TYPE_CHECKING:
    from tapbridge.model.step import Step

_SAID = {
    "getfd": "give QEMU an open file of the tap",
    "closefd": "let QEMU close an open file of the tap",
    "netdev_add": "let QEMU take the tap",
    "netdev_del": "let QEMU close the tap",
    "device_add": "plug the card into the guest",
    "device_del": "ask the guest to let the card go",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A running guest in conversation at `path`. `taps` are by the id of their netdev; `loose` are netdevs whose card
    is gone."""

    running: Running
    line: CommandLine
    path: str
    monitor: Monitor
    fittings: Fittings
    taps: Mapping[str, Link]
    loose: tuple[Card, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """The guest's name."""
        return self.running.name

    def tap(self, card: Card) -> Link | None:
        """The tap of a card."""
        return self.taps.get(card.netdev or "")

    def take_back(self, tap: str) -> None:
        """Take back what was done for a tap when the conversation broke off, in another one, if there can be one."""
        self.monitor.close()
        with suppress(TapbridgeError), closing(open_monitor(self.path, self.running.process.pid, self.name)) as again:
            take_back(again, tap)

    def steps(self, steps: Sequence[Step] = ()) -> list[dict[str, Any]]:
        """What was done on the host and what QEMU has carried out, for the document."""
        import json

        from tapbridge.core.describe import describe

        done = [(one.sentence, one.command) for one in map(describe, steps)]
        done += [(_SAID[json.loads(said)["execute"]], said) for said in self.monitor.said]
        return [{"text": text, "command": command, "done": True} for text, command in done]


@contextmanager
def conversation(guest: str, state: State) -> Iterator[Guest]:
    """Speak to the guest of that name. What an `attach` has left that was cut off is taken back first.

    Raises Refused, Forbidden, HostError.
    """
    running = find_running(guest, state)
    process = running.process
    line = parse_command((process.program, *process.argv[1:]))
    path = _find_socket(running, line)
    monitor = open_monitor(path, process.pid, running.name)
    try:
        fittings = read_fittings(monitor)
        taps = _find_taps(fittings, running)
        findings = _sweep(running, taps, monitor)
        loose = _find_loose(fittings, line, taps)
        yield Guest(
            running=running,
            line=line,
            path=path,
            monitor=monitor,
            fittings=fittings,
            taps=taps,
            loose=loose,
            findings=findings,
        )
    finally:
        monitor.close()


@contextmanager
def unhurried() -> Iterator[Callable[[], None]]:
    """Hold signals back; what is yielded raises if one waits. Once the block has ended well, they come too late."""
    with shielded_from_signals() as signals:
        try:
            yield signals.raise_if_pending
        except Interrupted as interrupted:
            raise Stopped(interrupted.number) from None
        signals.drop()


def _find_socket(running: Running, line: CommandLine) -> str:
    sockets = find_sockets(line)
    if sockets:
        return _seen_from_here(sockets[0], running.process)
    extra = "-qmp unix:/run/NAME.qmp,server=on,wait=off"
    who = f"the guest {running.name!r} (PID {running.process.pid})"
    if has_monitor(line):
        raise Refused(
            f"{who} has a monitor for programs, but none at a unix socket of its own",
            hint=f"whoever started it can use it (virsh attach-interface); or start the guest with one more: {extra}",
            code="no-monitor",
            subject=running.name,
        )
    raise Refused(
        f"{who} has no monitor for programs, so nothing can be plugged into it",
        hint=f"start it with one: tapbridge run … -- qemu-system-… {extra}",
        code="no-monitor",
        subject=running.name,
    )


def _seen_from_here(path: str, process: Process) -> str:
    """The path of a process as it is for us: its folder and its mounts may be others."""
    folder = f"{PROC}/{process.pid}"
    if not path.startswith("/"):
        return f"{folder}/cwd/{path}"
    theirs = find_namespace("mnt", folder)
    return path if theirs in (find_namespace("mnt"), None) else f"{folder}/root{path}"


def _find_taps(fittings: Fittings, running: Running) -> dict[str, Link]:
    """The tap behind each netdev that has one: by the command line, by the netdev's id, or by the card's address."""
    found = dict(running.named)
    held = {str(link.name): link for link in running.held}
    macs = {link.mac: link for link in running.held}
    for card in fittings.cards:
        tap = held.get(card.netdev or "") or (macs.get(tap_mac(card.mac)) if card.mac is not None else None)
        if card.netdev is not None and tap is not None:
            found.setdefault(card.netdev, tap)
    return found


def _find_loose(fittings: Fittings, line: CommandLine, taps: Mapping[str, Link]) -> tuple[Card, ...]:
    """The netdevs of the command line whose card is gone, so that only the tap is left."""
    gone = sorted((taps.keys() & ids(line)) - {card.netdev for card in fittings.cards})
    return tuple(Card(path="", id=None, model=None, netdev=name, mac=None, pluggable=True) for name in gone)


def _sweep(running: Running, taps: Mapping[str, Link], monitor: Monitor) -> tuple[Finding, ...]:
    """Take back what a killed `attach` has left: a tap that QEMU holds, and that no card and no word explains."""
    used = {link.name for link in taps.values()}
    swept = []
    for tap in sorted({link.name for link in running.held} - used):
        take_back(monitor, tap)
        if monitor.said:
            swept.append(tap)
            monitor.said.clear()
    return tuple(
        Finding(
            code="recovered",
            severity=Severity.INFO,
            subject=tap,
            message=f"a NIC with the tap {tap} that an earlier attach had not finished was taken back first",
        )
        for tap in swept
    )


def card_document(
    card_id: str, model: str | None, mac: str | None, tap: str | None, bridge: str | None
) -> dict[str, Any]:
    """A NIC for the document."""
    return {"id": card_id, "model": model, "mac": mac, "tap": tap, "bridge": bridge}


def told_card(card: Card, tap: Link | None) -> str:
    """A card for a sentence."""
    return f"{card.name} ({card.mac or 'no address'}{f', tap {tap.name}' if tap is not None else ''})"
