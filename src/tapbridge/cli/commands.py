"""The table of commands: the one source of the parser, of `--help` and of the reference in docs/."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command: `module` has `options(parser)` and `run(args, world) -> Result`."""

    name: str
    module: str
    summary: str


COMMANDS = (
    Command("up", "up", "make a NIC a port of a bridge, without losing a packet"),
    Command("confirm", "confirm", "keep the change that waits to be confirmed"),
    Command("rollback", "rollback", "take back the change that waits to be confirmed"),
    Command("down", "down", "give the NIC its place back"),
    Command("save", "save", "let the next boot make the bridge, by the files of whoever configures this host"),
    Command("unsave", "unsave", "let the next boot know nothing of the bridge: every file as it was"),
    Command("recover", "recover", "finish or take back what a crash has left"),
    Command("status", "status", "show bridges, uplinks, ports and addresses as a tree"),
    Command("ps", "ps", "show every guest NIC: who, which tap, which bridge, which addresses"),
    Command("run", "run", "attach QEMU to a network and become it"),
    Command("args", "args", "print the QEMU arguments that `run` would use"),
    Command("attach", "attach", "give a running guest one more NIC"),
    Command("detach", "detach", "take a NIC out of a running guest"),
    Command("tap", "tap", "taps that wait for guests: make, delete and list them"),
    Command("install-ifup", "install_ifup", "the scripts that QEMU runs for taps that it opens by name"),
    Command("broker", "broker", "lend taps to users without rights, as a policy says"),
    Command("service", "service", "let the next boot take back what a crash has left in files; start the broker"),
    Command("explain", "explain", "the missing documentation, in the terminal"),
    Command("lab", "lab", "a LAN and a host in namespaces, to try everything safely"),
)


def find_command(name: str) -> Command | None:
    """The command of that name."""
    return next((command for command in COMMANDS if command.name == name), None)
