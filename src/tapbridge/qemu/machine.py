"""Which card fits which machine. Pure.

virtio is one kind of card on several buses: PCI, the memory-mapped one of microvm and of m68k's `virt`, and the
channels of s390. A machine without any of them has the card that is soldered on it, which QEMU attaches by `-nic`
alone: the model `board`. Tried on QEMU 7.2 with a machine of each kind.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tapbridge.model.errors import Refused, UsageError
from tapbridge.qemu.argv import CommandLine, Pairs, parse_pairs

BOARD: Final = "board"
VIRTIO: Final = "virtio"
OLD: Final = "old"
_PRESETS: Final = frozenset({VIRTIO, OLD, "ne2k"})

_PROGRAM: Final = re.compile(r"qemu-system-([a-z0-9_]+)(?:-(microvm))?")
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_VIRT: Final = re.compile(r"virt(?:-\d+\.\d+)?\Z")
_BARREN: Final = frozenset({"none", "spike"})
_DEFAULTS: Final = {"riscv32": "spike", "riscv64": "spike"}  # what QEMU starts without -machine, where it matters
_BOARDS_ONLY: Final = frozenset({"avr", "cris", "microblaze", "microblazeel", "rx", "sparc", "tricore", "xtensaeb"})
_OURS: Final = frozenset({"netdev", "mac", "mq", "vectors", "host_mtu", "id"})


class Machine(NamedTuple):
    """A machine of QEMU's: the architecture of its program, and what `-machine` says; "" where it says nothing."""

    arch: str
    name: str = ""
    pcie: bool = False


class Model(NamedTuple):
    """A card: QEMU's name for it, and properties that the user adds (`bootindex=1`)."""

    name: str
    properties: Pairs = ()

    @property
    def virtio(self) -> bool:
        """Whether it can have several queues, vhost, and be told its MTU."""
        return self.name.startswith("virtio-net")

    @property
    def pci(self) -> bool:
        """Whether it is a virtio card with interrupt vectors to count."""
        return self.name.startswith("virtio-net-pci")


def machine_of(line: CommandLine, native: str = "x86_64") -> Machine:
    """The machine of a command line. `native` is this host's own architecture, which `qemu-kvm` means."""
    found = _PROGRAM.match(line.program)
    arch = found[1] if found else native if line.program in ("kvm", "qemu-kvm") else ""
    given = line.last(("machine", "M"), "type", "type") or (found[2] if found else None)
    name = given or _DEFAULTS.get(arch, "")
    pcie = line.last(("machine", "M"), "type", "pcie") in ("on", "yes", "true")
    return Machine(arch, name, pcie)


def choose_model(machine: Machine, asked: str | None) -> Model:
    """The card for a machine: what was asked for, else the machine's virtio, else what comes nearest.

    `virtio`, `old` and `ne2k` mean another card on another machine. Raises UsageError for what cannot be a model,
    Refused for a machine without any place for a card.
    """
    model = parse_model(asked) if asked is not None else None
    if model is not None and model.name not in _PRESETS:
        return model
    if machine.name in _BARREN:
        raise Refused(
            f"the machine {machine.name!r} has no place for a NIC",
            hint="choose another -machine, for example -machine virt",
            code="machine-without-nic",
        )
    if model is not None:
        return Model(_preset(machine, model.name), model.properties)
    if machine.name.startswith("raspi"):  # its own card sits on a USB hub that QEMU leaves empty
        return Model("usb-net")
    return Model("ne2k_isa" if machine.name == "isapc" else virtio_of(machine) or BOARD)


def _preset(machine: Machine, name: str) -> str:
    """The card that a name means on a machine. rtl8139 and ne2k have drivers in what is older than virtio."""
    virtio = virtio_of(machine)
    if name == VIRTIO:
        return virtio or "virtio-net-pci"
    if machine.name == "isapc":
        return "ne2k_isa"
    if virtio is None and name == OLD:
        return choose_model(machine, None).name  # as old as the machine
    if virtio != "virtio-net-pci":
        raise Refused(
            f"the machine {machine.name or machine.arch!r} has no bus for a card as old as {name!r}",
            hint="choose another -machine, or leave --model out",
            code="machine-without-bus",
        )
    return "rtl8139" if name == OLD else "ne2k_pci"


def virtio_of(machine: Machine) -> str | None:
    """The virtio card of a machine; None if it has no bus for one that we know of."""
    arch, name = machine.arch, machine.name
    if name == "microvm":
        return "virtio-net-pci" if machine.pcie else "virtio-net-device"
    if arch == "s390x":
        return "virtio-net-ccw"
    if name in ("isapc", *_BARREN) or arch in _BOARDS_ONLY:
        return None
    if arch in ("m68k", "or1k"):
        return "virtio-net-device" if _VIRT.match(name) else None
    if arch in ("arm", "aarch64", "riscv32", "riscv64", "xtensa"):
        return "virtio-net-pci" if _VIRT.match(name) or name == "sbsa-ref" else None
    return "virtio-net-pci"


def parse_model(text: str) -> Model:
    """Read MODEL[,property=value…]. Raises UsageError."""
    pairs = parse_pairs(text, "driver")
    if not pairs or pairs[0][0] != "driver" or not _MODEL.match(pairs[0][1]):
        raise UsageError(f"{text!r} is no model of a NIC", hint="qemu-system-x86_64 -nic model=help", code="usage")
    for key, _ in pairs[1:]:
        if key in _OURS:
            raise UsageError(f"{key}= in --model is set by tapbridge itself", hint=_instead(key), code="usage")
    return Model(pairs[0][1], pairs[1:])


def _instead(key: str) -> str | None:
    options = {"mac": "--mac", "mq": "--queues", "vectors": "--queues", "host_mtu": "--mtu"}
    return f"use {options[key]}" if key in options else None
