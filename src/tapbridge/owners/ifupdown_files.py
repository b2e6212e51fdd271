"""ifupdown's files (/etc/network/interfaces and what it includes), rewritten so that a bridge has the place of the NIC.

Text in, text out. A file is a row of statements, one a line; a line that ends with a backslash goes on in the next, and
one that begins with # says nothing. `iface NAME FAMILY METHOD` begins a stanza, to which belong the lines up to the
next word that begins something. What is not about the NIC stays as it is, byte for byte. See interfaces(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from tapbridge.core.outlook import Outlook, canonical
from tapbridge.model.noun import dataclass
from tapbridge.model.values import Family

_BEGIN: Final = ("iface", "auto", "mapping", "source", "source-directory", "rename", "template", "no-auto-down",
                 "no-scripts", "allow-")  # fmt: skip
_METHODS: Final = {"inet": ("dhcp", "static", "manual"), "inet6": ("dhcp", "static", "manual", "auto")}
_OF_THE_CARD: Final = re.compile(
    r"(hwaddress|provider|ethernet|offload|hardware|link|wpa|wireless|bridge|bond|slaves|vlan|ovs)(?![a-z])"
)
"""Options that configure the card, or make it part of something else."""

_COMMANDS: Final = ("pre-up", "up", "post-up")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement: its lines, from the one of number `first` to that before `end`, its words, and the head of the
    stanza that it stands in."""

    first: int
    end: int
    words: tuple[str, ...]
    head: tuple[str, ...]

    @property
    def begins(self) -> bool:
        """Whether it begins a stanza of its own."""
        return self.words is self.head


def statements(text: str) -> Iterator[Statement]:
    """The statements of a file, in order."""
    lines = text.split("\n")
    head: tuple[str, ...] = ()
    number = 0
    while number < len(lines):
        first = number
        number += 1
        line = lines[first].strip()
        if not line or line.startswith("#"):
            continue
        while line.endswith("\\") and number < len(lines):
            line = f"{line[:-1]} {lines[number].strip()}"
            number += 1
        words = tuple(line.rstrip("\\").split())
        if not words:
            continue
        if words[0] in _BEGIN or words[0].startswith("allow-"):
            head = words if words[0] == "iface" else ()
        yield Statement(first, number, words, head)


def includes(text: str) -> Iterator[tuple[str, str]]:
    """What a file includes: `source` or `source-directory`, and each pattern."""
    for one in statements(text):
        if one.words[0] in ("source", "source-directory"):
            yield from ((one.words[0], pattern) for pattern in one.words[1:])


def configures(text: str, link: str) -> bool:
    """Whether a file gives the link more than a name."""
    return any(one.begins and is_of(one.head, link) and one.words[3:4] != ("manual",) for one in statements(text))


def names(text: str, link: str) -> bool:
    """Whether a file has a stanza for the link, of whatever method."""
    return any(one.begins and is_of(one.head, link) for one in statements(text))


def is_started(text: str, link: str) -> bool:
    """Whether a file has the link brought up at boot."""
    return any(
        one.words[0] in ("auto", "allow-hotplug", "allow-auto") and link in one.words for one in statements(text)
    )


def find_obstacle(text: str, nic: str) -> str | None:
    """Why the stanzas of a NIC cannot be those of a bridge, as a clause; None if they can."""
    for one in statements(text):
        told = " ".join(one.words)
        if one.words[0] == "mapping" and any(fnmatchcase(nic, pattern) for pattern in one.words[1:]):
            return f"a mapping chooses what {nic} is: '{told}'"
        if one.begins and "inherits" in one.words[4:] and not is_of(one.head, nic) and nic in one.words:
            return f"another stanza inherits from that of {nic}: '{told}'"
        if not is_of(one.head, nic):
            continue
        if one.begins and (len(one.words) < 4 or one.words[3] not in _METHODS.get(one.words[2], ())):
            return f"its stanza is of a kind that a bridge cannot have: '{told}'"
        bound = None if one.begins else find_bound(one, nic)
        if bound is not None:
            return bound
    return None


def find_bound(one: Statement, nic: str) -> str | None:
    """Why an option in the stanza of a NIC cannot be one of a bridge's, as a clause; None if it can."""
    told = " ".join(one.words)
    if _OF_THE_CARD.match(one.words[0]):
        return f"its stanza has an option for the card: '{told}'"
    if re.search(rf"(?<![\w.-]){re.escape(nic)}(?![\w-])", told):
        return f"its stanza names the link itself, where $IFACE could stand: '{told}'"
    return None


def bridged(text: str, nic: str, bridge: str, mac: str, mark: str, *, vlan_aware: bool = False) -> str:
    """The text with the bridge in the place of the NIC; the NIC itself is `manual`. `mark` is the bridge's alias."""
    return with_options(
        text, nic, bridge, [*_options(nic, bridge, mac, mark), *([_aware(bridge)] if vlan_aware else [])]
    )


def with_options(text: str, nic: str, bridge: str, options: Sequence[str], of_the_nic: Sequence[str] = ()) -> str:
    """The text with a bridge of these options in the place of the NIC; the NIC is `manual`, with its own."""
    lines = text.split("\n")
    found = list(statements(text))
    first = next((one for one in found if one.begins and one.head[1] == nic), None)
    for one in reversed(found):
        block = "\n".join(lines[one.first : one.end])
        if one.begins and is_of(one.head, nic):
            block = _renamed(block, nic, bridge, count=1)
            if one is first:
                block = "\n".join([f"iface {nic} inet manual", *of_the_nic, "", block, *options])
        elif one.words[0] in ("auto", "allow-auto", "no-auto-down"):
            block = _renamed(block, nic, bridge)
        elif one.words[0] == "allow-hotplug" and nic in one.words[1:]:  # nobody plugs a bridge in
            others = [word for word in one.words if word != nic]
            block = "\n".join([*([" ".join(others)] if len(others) > 1 else []), f"auto {bridge}"])
        lines[one.first : one.end] = block.split("\n")
    return "\n".join(lines)


def _options(nic: str, bridge: str, mac: str, mark: str) -> list[str]:
    """What makes a link a bridge with this port, as bridge-utils-interfaces(5) has it."""
    return [
        f"    bridge_ports {nic}",
        f"    bridge_hw {mac}",
        "    bridge_stp off",
        "    bridge_fd 0",
        "    bridge_maxwait 0",
        f'    up ip link set dev {bridge} alias "{mark}" type bridge mcast_snooping 0',
    ]


def _aware(bridge: str) -> str:
    return f"    up ip link set dev {bridge} type bridge vlan_filtering 1"


def outlook(text: str, link: str) -> Outlook:
    """What the stanzas of a link make of it."""
    addresses: set[str] = set()
    gateways: set[str] = set()
    words: set[str] = set()
    asked: set[Family] = set()
    own = [one for one in statements(text) if is_of(one.head, link)]
    for number, head in enumerate(own):
        if not head.begins or len(head.words) < 4:
            continue
        family: Family = 6 if head.words[2] == "inet6" else 4
        if head.words[3] in ("dhcp", "auto"):
            asked.add(family)
        options: dict[str, str] = {}
        for one in own[number + 1 :]:
            if one.begins:
                break
            words |= set(one.words[1:]) if one.words[0] in _COMMANDS else set()
            options.setdefault(one.words[0], one.words[1] if len(one.words) > 1 else "")
        if head.words[3] == "static":
            addresses |= set(_address(options, family))
            gateways |= {canonical(options["gateway"])} if "gateway" in options else set()
    return Outlook(
        addresses=frozenset(addresses), gateways=frozenset(gateways), asked=frozenset(asked), words=frozenset(words)
    )


def _address(options: dict[str, str], family: Family) -> Iterator[str]:
    ip, _, prefix = options.get("address", "").partition("/")
    prefix = prefix or options.get("netmask", "64" if family == 6 else "")
    if "." in prefix:
        prefix = str(sum(bin(int(part)).count("1") for part in prefix.split(".") if part.isdigit()))
    if ip and prefix.isdigit():
        yield f"{canonical(ip)}/{int(prefix)}"


def state_renamed(text: str, link: str, to: str) -> str:
    """The file in which ifupdown keeps what is up, with another link in the place of one."""
    return "".join(
        f"{to}={to}\n" if line.partition("=")[0] == link else f"{line}\n" for line in text.splitlines() if line
    )


def is_of(head: Sequence[str], link: str) -> bool:
    """Whether the head of a stanza is that of a link, or of a label on it (eth0:1)."""
    return len(head) > 1 and head[1].partition(":")[0] == link


def _renamed(block: str, nic: str, bridge: str, count: int = 0) -> str:
    return re.sub(rf"(?<!\S){re.escape(nic)}(?=[:\s]|$)", bridge, block, count=count)
