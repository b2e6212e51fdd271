"""The NICs of a running QEMU: which it has, one more, one less. `qmp.py` has the conversation.

Nothing is remembered between two commands. A NIC that is plugged in has its tap's name for the id of its netdev, and
with `-nic` behind it for the id of its card, and its open files have that name too while QEMU keeps them. So whoever
finds a tap that QEMU holds and no card uses knows what was cut off in the middle, and how to take it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from tapbridge.model.errors import HostError, Refused, UsageError
from tapbridge.model.noun import dataclass
from tapbridge.model.values import Mac, parse_mac
from tapbridge.qemu.machine import Machine, Model
from tapbridge.qemu.nics import Nic, TapDescriptors, card_pairs
from tapbridge.qemu.qmp import Monitor, MonitorLost

_FOLDERS: Final = ("/machine/peripheral", "/machine/peripheral-anon")
QUEUES: Final = 256
"""MAX_TAP_QUEUES of drivers/net/tun.c."""

_SOLDERED: Final = frozenset({"board", "virtio-net-device", "ne2k_isa"})
_PORTS: Final = frozenset({"pcie-root-port", "ioh3420", "xio3130-downstream"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A NIC as the guest has it: its place in QOM, what somebody called it, its model, and what is behind it.

    Without a `path` there is no card, and only the netdev is left.
    """

    path: str
    id: str | None
    model: str | None
    netdev: str | None
    mac: Mac | None
    pluggable: bool

    @property
    def name(self) -> str:
        """What the user may call it."""
        return self.id or self.netdev or self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Fittings:
    """What is plugged into a running QEMU: its cards, every id, and its PCIe ports, each with whether it is free."""

    cards: tuple[Card, ...]
    ids: frozenset[str]
    ports: tuple[tuple[str, bool], ...]


def read_fittings(monitor: Monitor) -> Fittings:
    """Ask QEMU what is plugged into it. Raises HostError."""
    cards: list[Card] = []
    ids: set[str] = set()
    ports: list[str] = []
    used: set[str] = set()
    for path, name, model in _children(monitor):
        anonymous = path.startswith(_FOLDERS[1])
        asked = {item["name"] for item in monitor.ask("qom-list", path=path)}
        found = {
            key: monitor.ask("qom-get", path=path, property=key)
            for key in ("netdev", "mac", "parent_bus", "hotpluggable")
            if key in asked
        }
        used.add(str(found.get("parent_bus")).rpartition("/")[2])
        if not anonymous:
            ids.add(name)
        if model in _PORTS and not anonymous:
            ports.append(name)
        if "netdev" in found and "mac" in found:
            cards.append(
                Card(
                    path=path,
                    id=None if anonymous else name,
                    model=model,
                    netdev=found["netdev"] or None,
                    mac=_find_mac(found["mac"]),
                    pluggable=bool(found.get("hotpluggable", True)),
                )
            )
    ids.update(card.netdev for card in cards if card.netdev)
    return Fittings(cards=tuple(cards), ids=frozenset(ids), ports=tuple((port, port not in used) for port in ports))


def _children(monitor: Monitor) -> Iterator[tuple[str, str, str]]:
    """Path, name and type of everything that was made by `-device` or `device_add`."""
    for folder in _FOLDERS:
        for item in monitor.ask("qom-list", path=folder):
            kind = str(item["type"])
            if kind.startswith("child<"):
                yield f"{folder}/{item['name']}", str(item["name"]), kind.removeprefix("child<").removesuffix(">")


def _find_mac(text: object) -> Mac | None:
    try:
        return parse_mac(str(text))
    except ValueError:
        return None


def choose_port(model: Model, fittings: Fittings, guest: str) -> str | None:
    """The PCIe port for a new card; None where it needs none, or the user chose one, or the guest has none.

    Raises Refused.
    """
    if model.name.startswith("usb-") or "bus" in dict(model.properties) or not fittings.ports:
        return None
    free = [port for port, is_free in fittings.ports if is_free]
    if not free:
        raise Refused(
            f"the guest {guest!r} has no free PCIe port (taken: {', '.join(port for port, _ in fittings.ports)})",
            hint="detach a NIC first, or start the guest with more of them: -device pcie-root-port,id=rp9,chassis=9",
            code="no-free-port",
            subject=guest,
        )
    return free[0]


def read_types(monitor: Monitor, model: str) -> dict[str, str]:
    """The properties of a card with their types. Raises Refused for one that this QEMU does not know."""
    try:
        found = monitor.ask("device-list-properties", typename=model)
    except HostError as error:
        raise Refused(
            f"the guest's QEMU has no card of the model {model!r}",
            hint=f"--model virtio, or see what it has: qemu-system-… -device help ({error.message})",
            code="no-such-model",
            subject=model,
        ) from None
    return {str(item["name"]): str(item["type"]) for item in found}


def require_bus(machine: Machine, model: str) -> None:
    """Raises Refused for a card that no running machine takes."""
    if model in _SOLDERED:
        what = f"the machine {machine.name}" if machine.name else "this machine"
        raise Refused(
            f"{what} takes a NIC only when it is started ({model} sits on no bus for hot-plug)",
            hint="give it all its NICs at once: tapbridge run --net … --net …",
            code="no-hot-plug",
            subject=machine.name,
        )


def netdev_arguments(nic: Nic) -> dict[str, Any]:
    """The arguments of `netdev_add`, with open files that QEMU was given under the names of `file_names`."""
    if not isinstance(nic.backend, TapDescriptors):
        return {"type": "user", "id": nic.id}
    taps, vhosts = file_names(nic)
    found: dict[str, Any] = {"type": "tap", "id": nic.id, "fds": ":".join(taps), "vhost": nic.backend.vhost}
    return found | ({"vhostfds": ":".join(vhosts)} if vhosts else {})


def device_arguments(nic: Nic, types: Mapping[str, str], port: str | None) -> dict[str, Any]:
    """The arguments of `device_add`. From QEMU 9.2 on it takes no text for a number any more. Raises UsageError."""
    pairs = [*card_pairs(nic), *([("bus", port)] if port is not None else [])]
    return {"driver": nic.model.name} | {key: _typed(key, value, types.get(key, "str")) for key, value in pairs}


def _typed(key: str, value: str, kind: str) -> str | int | bool:
    # addr's type is a number, yet as text it names slot and function, and as a number something else
    if key == "addr" or not (kind == "bool" or kind.startswith(("int", "uint", "size"))):
        return value
    try:
        return {"on": True, "yes": True, "off": False, "no": False}[value] if kind == "bool" else int(value, 0)
    except (KeyError, ValueError):
        what = "on or off" if kind == "bool" else "a number"
        raise UsageError(f"{key}={value} in --model is not {what}", code="usage") from None


def file_names(nic: Nic) -> tuple[list[str], list[str]]:
    """Under which names QEMU keeps the open files of a tap, and those of vhost, until its netdev takes them."""
    assert isinstance(nic.backend, TapDescriptors), "user mode has no open files"
    taps, vhosts = len(nic.backend.taps), len(nic.backend.vhost_files)
    return [_file(nic.id, number) for number in range(taps)], [_vhost_file(nic.id, number) for number in range(vhosts)]


def _file(tap: str, number: int) -> str:
    return tap if number == 0 else f"{tap}-{number}"


def _vhost_file(tap: str, number: int) -> str:
    return f"{tap}-vhost{number}"


def plug(monitor: Monitor, nic: Nic, types: Mapping[str, str], port: str | None, look: Callable[[], None]) -> None:
    """Give a running QEMU a NIC; `look` is called before each command, and may raise.

    Raises HostError, UsageError; then QEMU is as it was, unless it does not answer any more (MonitorLost).
    """
    device = device_arguments(nic, types, port)
    files: list[tuple[str, int]] = []
    if isinstance(nic.backend, TapDescriptors):
        taps, vhosts = file_names(nic)
        files = [*zip(taps, nic.backend.taps, strict=True), *zip(vhosts, nic.backend.vhost_files, strict=True)]
    take_back(monitor, nic.id, len(files))  # no card has this name, so what has it was left by somebody who was cut off
    monitor.said.clear()
    try:
        for name, descriptor in files:
            look()
            monitor.give(name, descriptor)
        look()
        monitor.tell("netdev_add", **netdev_arguments(nic))
        look()
        monitor.tell("device_add", **device)
    except MonitorLost:  # nobody is there to take it back
        raise
    except BaseException as error:
        with suppress(MonitorLost):
            take_back(monitor, nic.id, len(files))
        if isinstance(error, HostError) and "hotplug" in error.message:
            error.hint = "q35 and virt take a card in a free port alone; start it with -device pcie-root-port,id=rp1"
        raise


def take_back(monitor: Monitor, tap: str, files: int = QUEUES) -> None:
    """Take back whatever `plug` has done for the tap of that name. Raises MonitorLost."""
    undone = [("device_del", {"id": f"{tap}-nic"}), ("netdev_del", {"id": tap})]
    undone += [("closefd", {"fdname": name}) for at in range(files) for name in (_file(tap, at), _vhost_file(tap, at))]
    for command, arguments in undone:
        try:
            monitor.tell(command, **arguments)
        except MonitorLost:
            raise
        except HostError:  # there is none, or it went with its netdev
            continue


def unplug(monitor: Monitor, card: Card, limit_s: float, look: Callable[[], None]) -> None:
    """Take a card from the guest, and then what is behind it. Raises HostError if the guest does not let it go."""
    if card.path:
        monitor.unplug(card.path, limit_s, look)
    if card.netdev is not None:
        monitor.tell("netdev_del", id=card.netdev)
