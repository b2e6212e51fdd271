"""What a launcher calls its guest where the hypervisor was not told a name: in its command line otherwise, in the
path of a socket, or in the name of its control group. Pure.

All of these are strangers' texts, and only a name is taken from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tapbridge.guests.cmdline import ARGUMENTS, options
from tapbridge.model.guest import HYPERVISORS

Options = Sequence[tuple[str, str]]

_MULTIPASS = re.compile(r"/multipassd/vault/instances/([^/,]+)/")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_PLACES = ("api-sock", "api-socket", "config-file", "socket", "s")  # Firecracker's, cloud-hypervisor's, crosvm's
_SUFFIX = re.compile(r"[.-](sock|socket|api|json|qmp|config)\Z")
_NOBODY_S = frozenset(
    {"api", "ch", "clh", "cloud-hypervisor", "config", "crosvm", "fc", "firecracker", "socket", "sock", "vm", "vmm"}
)
_FOLDERS = frozenset({"", "etc", "opt", "root", "run", "srv", "tmp", "usr", "var"})


def find_name(hypervisor: str, argv: Sequence[str], cgroup: str) -> str | None:
    """The guest's name by the first rule that knows one. `cgroup` is the text of /proc/PID/cgroup."""
    said = list(options(argv[:ARGUMENTS]))
    groups = [line.rpartition("/")[2] for line in cgroup.split("\n")]
    rules = (rule for _, whose, rule in RULES if hypervisor in whose)
    return next((name for rule in rules if (name := rule(said, groups)) is not None), None)


def _proxmox(said: Options, groups: Sequence[str]) -> str | None:
    """`kvm -id 101`; a name it has nearly always as well."""
    return next((value for option, value in said if option == "id" and value), None)


def _multipass(said: Options, groups: Sequence[str]) -> str | None:
    """`-drive file=/var/snap/multipass/common/data/multipassd/vault/instances/NAME/…`."""
    found = (_MULTIPASS.search(value) for _, value in said)
    return next((match[1] for match in found if match is not None), None)


def _socket(said: Options, groups: Sequence[str]) -> str | None:
    """`--api-socket /run/vms/NAME.sock`, or `/run/vms/NAME/api.sock`, where the file's own name is everybody's."""
    for option, value in said:
        if option in _PLACES:
            for part in reversed(value.removeprefix("path=").partition(",")[0].split("/")[-3:]):
                name = part
                while (shorter := _SUFFIX.sub("", name)) != name:
                    name = shorter
                if name in _FOLDERS or name.startswith("fd="):
                    break
                if name not in _NOBODY_S:
                    return name
    return None


def _machine(said: Options, groups: Sequence[str]) -> str | None:
    """`machine-qemu\\x2d3\\x2dNAME.scope` of libvirt, `machine-NAME.scope` of whoever else registers a machine;
    where there is no systemd, libvirt's `qemu-3-NAME.libvirt-qemu`."""
    for group in groups:
        name = None
        if group.startswith("machine-") and group.endswith(".scope"):
            name = _ESCAPED.sub(_unescape, group.removeprefix("machine-").removesuffix(".scope"))
        elif group.endswith((".libvirt-qemu", ".libvirt-ch")):
            name = group.rpartition(".")[0]
        if name:
            return re.sub(r"\A(qemu|ch)-[0-9]+-", "", name)
    return None


def _instance(said: Options, groups: Sequence[str]) -> str | None:
    """`qemu@NAME.service`, `microvm@NAME.service`: a unit made from a template, one for each guest."""
    for group in groups:
        _, at, instance = group.removesuffix(".service").partition("@")
        if at and instance and group.endswith(".service"):
            return _ESCAPED.sub(_unescape, instance)
    return None


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


RULES: tuple[tuple[str, Sequence[str], Callable[[Options, Sequence[str]], str | None]], ...] = (
    ("Proxmox", ("qemu",), _proxmox),
    ("multipass", ("qemu",), _multipass),
    ("libvirt, systemd-machined", HYPERVISORS, _machine),
    ("a systemd template", HYPERVISORS, _instance),
    ("by hand, Kata", ("firecracker", "cloud-hypervisor", "crosvm"), _socket),
)
"""Launchers, their hypervisors, and the rule; the first that finds a name counts. libvirt, Proxmox, Incus, quickemu and
Kata tell QEMU the name by -name, which is found without these."""
