"""QEMU's command line, read as QEMU reads it. Pure.

QEMU has no `--` and no abbreviations: an option begins with `-` or `--`, is known by its whole name, and either takes
the next word, whatever that looks like, or none (lookup_opt() in system/vl.c). Words that are no option are disk
images. So a reader that does not know which options take a word takes values for options, and the reverse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tapbridge.model.errors import UsageError
from tapbridge.model.noun import dataclass

VALUED: Final = frozenset({
    "D", "L", "M", "accel", "acpitable", "action", "add-fd", "append", "audio", "audiodev", "balloon", "bios",
    "blockdev", "boot", "bt", "cdrom", "chardev", "chroot", "clock", "compat", "cpu", "d", "debugcon", "device",
    "dfilter", "display", "drive", "dtb", "dump-vmstate", "echr", "fda", "fdb", "fsdev", "fw_cfg", "g", "gdb",
    "global", "hda", "hdb", "hdc", "hdd", "icount", "igd-passthru", "incoming", "initrd", "iscsi", "k", "kernel",
    "loadvm", "m", "machine", "mem-path", "mon", "monitor", "msg", "mtdblock", "name", "net", "netdev", "nic",
    "numa", "object", "option-rom", "overcommit", "parallel", "pflash", "pidfile", "plugin", "prom-env", "qmp",
    "qmp-pretty", "qtest", "qtest-log", "readconfig", "realtime", "redir", "rotate", "rtc", "run-with", "runas",
    "sandbox", "sd", "seed", "semihosting-config", "serial", "set", "shim", "smb", "smbios", "smp", "soundhw",
    "spice", "startdate", "tb-size", "tftp", "tpmdev", "trace", "usbdevice", "uuid", "vga", "virtfs",
    "virtfs_synth", "virtioconsole", "vnc", "watchdog", "watchdog-action", "writeconfig", "xen-domid",
})  # fmt: skip
"""The options that take a word, of QEMU 2 to 10."""

BARE: Final = frozenset({
    "S", "alt-grab", "async-teardown", "audio-help", "ctrl-grab", "curses", "daemonize", "enable-fips",
    "enable-hax", "enable-kvm", "enable-nesting", "enable-sync-profile", "full-screen", "h", "help", "jitdump",
    "localtime", "mem-prealloc", "no-acpi", "no-fd-bootchk", "no-frame", "no-hpet", "no-kvm", "no-kvm-irqchip",
    "no-quit", "no-reboot", "no-shutdown", "no-user-config", "nodefaults", "nodefconfig", "nographic", "old-param",
    "only-migratable", "perfmap", "portrait", "preconfig", "s", "sdl", "semihosting", "show-cursor", "singlestep",
    "snapshot", "tdf", "usb", "version", "win2k-hack", "xen-attach", "xen-domid-restrict",
})  # fmt: skip
"""The options that take none."""

_QEMU: Final = re.compile(r"(?:qemu-system-[a-z0-9_]+(?:-[a-z0-9.+-]+)?|qemu-kvm|kvm)\Z")
_DESCRIPTOR: Final = re.compile(r"(?:(?:fds?|\bstr)\"?\s*[=:]\s*\"?|/fd/)(\d{1,7}(?::\d{1,7})*)")
_SECTION: Final = re.compile(r"\s*\[\s*([\w-]+)(?:\s+\"([^\"]*)\")?\s*\]")
_SETTING: Final = re.compile(r"\s*([\w.-]+)\s*=\s*\"([^\"]*)\"")

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option as it stands in the command line; `name` is without dashes, `value` None where it takes none."""

    name: str
    value: str | None = None

    @property
    def text(self) -> str:
        """The option as it would be typed."""
        return f"-{self.name}" if self.value is None else f"-{self.name} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command that runs QEMU. `qemu` is the place of QEMU's own word: it may stand behind nice(1) or a debugger."""

    words: tuple[str, ...]
    qemu: int = 0
    options: tuple[Option, ...] = ()

    @property
    def program(self) -> str:
        """The name of QEMU's program, without its folder."""
        return self.words[self.qemu].rpartition("/")[2]

    def values(self, *names: str) -> tuple[str, ...]:
        """The values of the options of these names, in order."""
        return tuple(o.value for o in self.options if o.name in names and o.value is not None)

    def last(self, names: Iterable[str], implied: str, key: str) -> str | None:
        """The last value of a key over all options of these names, as QEMU merges them."""
        found = None
        for value in self.values(*names):
            found = dict(parse_pairs(value, implied)).get(key, found)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of a file that `-readconfig` names: `[group "id"]` and its settings."""

    group: str
    id: str | None
    pairs: Pairs


def parse_command(words: Sequence[str]) -> CommandLine:
    """Read a command line. Raises UsageError if it is empty or ends within an option."""
    if not words:
        raise UsageError("no command was given", code="usage")
    qemu = next((at for at, word in enumerate(words) if _QEMU.match(word.rpartition("/")[2])), 0)
    options: list[Option] = []
    at = qemu + 1
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-"):
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        if name in BARE or (name not in VALUED and (at == len(words) or words[at].startswith("-"))):
            options.append(Option(name=name))
        elif at == len(words):
            raise UsageError(f"QEMU's option {word} needs a value, and none follows", code="usage")
        else:
            options.append(Option(name=name, value=words[at]))
            at += 1
    return CommandLine(words=tuple(words), qemu=qemu, options=tuple(options))


def parse_pairs(text: str, implied: str) -> Pairs:
    """Read `value,key=value,…` as QEMU does: the first may leave its key (`implied`) out, `,,` is a comma in a value,
    a lone word is a switch that is on (or, with `no` before it, off). JSON objects are read too."""
    if text.startswith("{"):
        return _parse_json(text)
    pairs: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        end = next((i for i in range(at, len(text)) if text[i] in "=,"), len(text))
        word = text[at:end]
        if end < len(text) and text[end] == "=":
            value, at = _parse_value(text, end + 1)
            pairs.append((word, value))
        elif not pairs:
            value, at = _parse_value(text, at)
            pairs.append((implied, value))
        else:
            off = word.startswith("no")
            pairs.append((word[2:] if off else word, "off" if off else "on"))
            at = end + 1
    return tuple(pairs)


def _parse_value(text: str, at: int) -> tuple[str, int]:
    """A value up to its comma, and the place behind that comma."""
    value = ""
    while True:
        comma = text.find(",", at)
        if comma < 0:
            return value + text[at:], len(text)
        value += text[at:comma]
        if text[comma : comma + 2] != ",,":
            return value, comma + 1
        value += ","
        at = comma + 2


def _parse_json(text: str) -> Pairs:
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, dict):
        return ()
    words = {True: "on", False: "off"}
    return tuple(
        (key, words[value] if isinstance(value, bool) else str(value))
        for key, value in found.items()
        if isinstance(value, str | int | float)
    )


def dump_pairs(pairs: Iterable[tuple[str, str]], first: str | None = None) -> str:
    """The inverse of `parse_pairs`; `first` is the value whose key is implied."""
    words = [] if first is None else [first.replace(",", ",,")]
    return ",".join([*words, *(f"{key}={value.replace(',', ',,')}" for key, value in pairs)])


def parse_config(text: str) -> tuple[Section, ...]:
    """Read the file of a `-readconfig`. What is no section and no setting is QEMU's to complain of."""
    sections: list[Section] = []
    for line in text.splitlines():
        if head := _SECTION.match(line):
            sections.append(Section(group=head[1], id=head[2], pairs=()))
        elif sections and (setting := _SETTING.match(line)):
            last = sections.pop()
            sections.append(Section(group=last.group, id=last.id, pairs=(*last.pairs, (setting[1], setting[2]))))
    return tuple(sections)


def find_name(line: CommandLine) -> str | None:
    """The guest's name: QEMU's `-name [guest=]NAME`, the last one that says it."""
    return line.last(("name",), "guest", "guest") or None


def ids(line: CommandLine, sections: Iterable[Section] = ()) -> frozenset[str]:
    """Every id that the command line gives to anything."""
    given = {section.id for section in sections if section.id}
    for option in line.options:
        if option.value is not None:
            given.update(value for key, value in parse_pairs(option.value, "") if key == "id")
    return frozenset(given)


def descriptors(line: CommandLine) -> frozenset[int]:
    """The file descriptors that the command line names (`-add-fd fd=7`, `fd:7`, `/dev/fd/7`): inherited on purpose."""
    found: set[int] = set()
    for word in line.words[line.qemu + 1 :]:
        for match in _DESCRIPTOR.finditer(word):
            found.update(int(number) for number in match[1].split(":"))
    return frozenset(found)
