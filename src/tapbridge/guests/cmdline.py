"""What a hypervisor's command line says of its guest: the name, and which MAC is behind which tap. Pure.

QEMU's syntax is that of qemu-options: `type,key=value,key=value` with `,,` for a comma in a value, or one JSON
object (for -netdev and -device, as libvirt writes them). A command line is a stranger's text: whatever does not
parse is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tapbridge.model.guest import HYPERVISORS
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.values import Mac, parse_mac

ARGUMENTS = 4096
"""How many arguments of one command line are looked at; QEMU under libvirt has some hundred."""

QUEUES = 256
"""MAX_TAP_QUEUES of drivers/net/tun.c."""

QEMU_DEFAULT_MAC = Mac("52:54:00:12:34:56")
AGENT = "org.qemu.guest_agent.0"
"""What the port of the agent inside the guest is called."""

_ON, _OFF = ("on", "yes", "true", "y"), ("off", "no", "false", "n")
_HUB = "\0hub"  # what -net joins; no id can be called so
_LIST = re.compile(r"\[([0-9,]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Netdev:
    """One tap as a command line configures it. `ifname` and `fds` say which; both may be unknown.

    `id` is what QEMU calls it. `mac_source` is command-line or qemu-default, and None with the MAC.
    """

    id: str | None = None
    ifname: str | None = None
    fds: tuple[int, ...] = ()
    mac: Mac | None = None
    mac_source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a command line says of a guest. `monitors` and `agents` are paths of sockets at which QEMU listens: for QMP,
    and on behalf of the agent inside the guest."""

    hypervisor: str = "other"
    name: str | None = None
    netdevs: tuple[Netdev, ...] = ()
    monitors: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


def parse_launch(argv: Sequence[str], program: str) -> Launch:
    """Read a command line. `program` is the file name of the executable, which may have a version behind it, or be
    wrapped as NixOS does it. Raises nothing: what is not understood is not there."""
    words = argv[:ARGUMENTS]
    bare = program.removeprefix(".")
    if bare.startswith("qemu-system-") or bare in ("qemu-kvm", "kvm", "qemu"):
        return _qemu(words)
    hypervisor = next((name for name in HYPERVISORS if bare == name or bare.startswith(f"{name}-")), None)
    if hypervisor == "firecracker":
        names = [value for option, value in options(words) if option == "id"]
        return Launch(hypervisor=hypervisor, name=names[-1] if names else None)
    return _rust_vmm(words, hypervisor) if hypervisor in ("cloud-hypervisor", "crosvm") else Launch()


def _qemu(argv: Sequence[str]) -> Launch:
    name: str | None = None
    taps: list[tuple[str, Netdev]] = []
    cards: list[tuple[str, Mac | None]] = []
    for number, (option, value) in enumerate(options(argv)):
        if option == "name":
            name = _pairs(value, "guest").get("guest") or name
            continue
        if option not in ("netdev", "device", "nic", "net"):
            continue
        fields = _pairs(value, "driver" if option == "device" else "type")
        key = {"netdev": fields.get("id", ""), "device": fields.get("netdev", "")}.get(option, _HUB)
        if option == "nic":
            key = f"{_HUB}{number}"
        if option != "device" and fields.get("type") in ("tap", "bridge"):
            taps.append((key, _netdev(fields)))
        if option == "nic" or (option == "device" and key):
            cards.append((key, find_mac(fields.get("mac"))))
        elif option == "net" and fields.get("type") == "nic":
            cards.append((fields.get("netdev", _HUB), find_mac(fields.get("macaddr"))))
    monitors, agents = _sockets(argv)
    netdevs = tuple(_with_card(key, tap, cards) for key, tap in taps)
    return Launch(hypervisor="qemu", name=name, netdevs=netdevs, monitors=monitors, agents=agents)


def _sockets(argv: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where QEMU listens for QMP, and where for its guest's agent: `-qmp unix:PATH`, `-chardev socket` with `-mon` or
    with a port of a virtio-serial card."""
    paths: dict[str, str] = {}
    monitors: list[str] = []
    agents: list[str] = []
    for option, value in options(argv):
        if option == "qmp" and value.startswith("unix:"):
            fields = _pairs(value.removeprefix("unix:"), "path")
            monitors += [fields["path"]] if "path" in fields and _listens(value, fields) else []
        elif option == "chardev":
            fields = _pairs(value, "backend")
            if fields.get("backend") == "socket" and "path" in fields and _listens(value, fields):
                paths[fields.get("id", "")] = fields["path"]
    for option, value in options(argv):
        if option == "mon":
            fields = _pairs(value, "chardev")
            if fields.get("mode") == "control" and fields.get("chardev") in paths:
                monitors.append(paths[fields["chardev"]])
        elif option == "device":
            fields = _pairs(value, "driver")
            if fields.get("name") == AGENT and fields.get("chardev") in paths:
                agents.append(paths[fields["chardev"]])
    return tuple(monitors), tuple(agents)


def _listens(value: str, fields: Mapping[str, str]) -> bool:
    """Whether QEMU is the server, and runs without waiting for its first client, whom it would take us for."""
    words = value.split(",")
    server = fields.get("server") in _ON or "server" in words
    return server and (fields.get("wait") in _OFF or "nowait" in words) and fields["path"].startswith("/")


def _with_card(key: str, tap: Netdev, cards: Sequence[tuple[str, Mac | None]]) -> Netdev:
    """The tap with the MAC of the one card that names it. A guest's only card, given no MAC, has QEMU's first one
    (qemu_macaddr_default_if_unset); which of several gets which depends on the machine, so nothing is said."""
    mine = [mac for card, mac in cards if card == key]
    if len(mine) != 1:
        return tap
    if mine[0] is not None:
        return replace(tap, mac=mine[0], mac_source="command-line")
    return replace(tap, mac=QEMU_DEFAULT_MAC, mac_source="qemu-default") if len(cards) == 1 else tap


def _netdev(fields: Mapping[str, str]) -> Netdev:
    fds = parse_fds(fields.get("fd") or fields.get("fds") or "")
    return Netdev(id=fields.get("id") or None, ifname=fields.get("ifname") or None, fds=fds)


def _rust_vmm(argv: Sequence[str], program: str) -> Launch:
    """cloud-hypervisor (`--net tap=,mac=,fd=`, several values behind one --net) and crosvm (`--net tap-name=,mac=`)."""
    name: str | None = None
    netdevs: list[Netdev] = []
    for option, value in options(argv, many=program == "cloud-hypervisor"):
        if option == "name":
            name = value or None
        elif option == "net":
            fields = _pairs(_LIST.sub(lambda found: found[1].replace(",", ":"), value), "tap")
            mac = find_mac(fields.get("mac"))
            netdevs.append(
                Netdev(
                    ifname=fields.get("tap") or fields.get("tap-name") or None,
                    fds=parse_fds(fields.get("fd") or fields.get("tap-fd") or ""),
                    mac=mac,
                    mac_source="command-line" if mac is not None else None,
                )
            )
        elif option == "tap-name":
            netdevs.append(Netdev(ifname=value or None))
        elif option == "tap-fd":
            netdevs.append(Netdev(fds=parse_fds(value)))
    return Launch(hypervisor=program, name=name, netdevs=tuple(netdevs))


def options(argv: Sequence[str], *, many: bool = False) -> Iterator[tuple[str, str]]:
    """Every `-option value`, `--option value` and `--option=value`; with `many`, every value behind the option."""
    option = ""
    for word in argv[1:]:
        if word.startswith("-") and len(word) > 1:
            option, equals, value = word.lstrip("-").partition("=")
            if equals:
                yield option, value
                option = ""
        elif option:
            yield option, word
            option = option if many else ""


def _pairs(text: str, implied: str) -> dict[str, str]:
    """The fields of an option. What stands first without a key belongs to `implied`; the last value of a key counts."""
    if text.startswith("{"):
        return _json_pairs(text)
    fields: dict[str, str] = {}
    for place, part in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if equals:
            fields[key] = value
        elif place == 0:
            fields[implied] = key
    return fields


def _json_pairs(text: str) -> dict[str, str]:
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {key: str(value) for key, value in document.items() if isinstance(value, str | int)}


def parse_fds(text: str) -> tuple[int, ...]:
    """Descriptors, as `fds=` lists them; what is no number is passed over."""
    words = text.replace(",", ":").split(":")[:QUEUES]
    return tuple(int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 8)


def find_mac(text: str | None) -> Mac | None:
    """The text as a MAC; None if it is none."""
    try:
        return parse_mac(text) if text else None
    except ValueError:
        return None
