"""ifupdown-ng's files: those of ifupdown, where other words count.

It reads the same statements. What stands behind the name of a stanza is a hint at most (`iface eth0` is enough), all
stanzas of a name are one, and an option with a hyphen has what is before the hyphen run as an executor (`bridge-ports`:
/usr/libexec/ifupdown-ng/bridge). See interfaces(5) and interfaces-bridge(5) of that package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tapbridge.core.outlook import Outlook, canonical
from tapbridge.model.values import Family
from tapbridge.owners.ifupdown_files import Statement, find_bound, is_of, statements, with_options

_HINTS: Final = ("inet", "inet6", "static", "dhcp", "manual", "auto")
_EXECUTORS: Final = ("link", "static", "dhcp", "forward", "ipv6", "ipv6-ra", "ipv6-tempaddr")
"""Those that do to a bridge what they do to a NIC."""

_OF_A_LINK: Final = re.compile(
    r"(alias|ethtool|wifi|ppp|batman|tunnel|gre|vrf|vrrp|vxlan|veth|wireguard|mpls)(?![a-z])"
)
_FROM_ELSEWHERE: Final = ("inherit", "requires")
_BETWEEN: Final = ("source", "template", "allow-", "mapping", "rename", "no-")
"""What may stand between `auto` and a stanza: nothing else does, for ifupdown-ng, or it is an option."""

_COMMANDS: Final = ("pre-up", "up", "post-up")


def is_started(text: str, link: str) -> bool:
    """Whether a file has the link brought up at boot."""
    return any(one.words[:2] == ("auto", link) for one in statements(text))


def find_obstacle(text: str, nic: str) -> str | None:
    """Why the stanzas of a NIC cannot be those of a bridge, as a clause; None if they can."""
    auto: tuple[str, ...] = ()
    for one in statements(text):
        told = " ".join(one.words)
        if one.words[0] in ("defaults", "interface"):
            return f"it has a stanza of a kind that is not understood here: '{told}'"
        inherits = "inherits" in one.words[2:] or one.words[0] == "inherit"
        if inherits and nic in one.words and not is_of(one.head, nic):
            return f"another stanza inherits from that of {nic}: '{told}'"
        if one.words[0] == "auto":
            auto = one.words[1:2]
        elif one.head or one.words[0].startswith(_BETWEEN):
            auto = ()
        elif auto == (nic,):
            return f"an option of {nic} stands below 'auto {nic}', not in its stanza: '{told}'"
        obstacle = _find_obstacle(one, nic) if is_of(one.head, nic) else None
        if obstacle is not None:
            return obstacle
    return None


def _find_obstacle(one: Statement, nic: str) -> str | None:
    told = " ".join(one.words)
    if one.begins:
        strange = "inherits" in one.words or not {*one.words[2:]} <= {*_HINTS}
        return f"its stanza is of a kind that a bridge cannot have: '{told}'" if strange else None
    if one.words[0] in _FROM_ELSEWHERE:
        return f"its stanza is not alone: '{told}'"
    if one.words[0] == "use":
        own = one.words[1:2] and one.words[1] in _EXECUTORS
        return None if own else f"its stanza is of a kind that a bridge cannot have: '{told}'"
    if _OF_A_LINK.match(one.words[0]):
        return f"its stanza has an option for the card: '{told}'"
    return find_bound(one, nic)


def bridged(text: str, nic: str, bridge: str, mac: str, mark: str, *, vlan_aware: bool = False) -> str:
    """The text with the bridge in the place of the NIC; the NIC itself has no address. `mark` is the bridge's alias.

    Not by `bridge-hw`: that is the address of the ports, and the bridge's would follow theirs. And not by `hwaddress`
    alone: that comes when the bridge is up, and has made a link-local address of what udev gave it meanwhile.
    """
    options = [
        "    use bridge",
        f"    bridge-ports {nic}",
        "    bridge-stp off",
        "    bridge-fd 0",
        "    bridge-maxwait 0",
        *(["    bridge-vlan-aware yes"] if vlan_aware else []),
        f"    create ip link set dev {bridge} address {mac}",
        f"    hwaddress {mac}",
        f'    up ip link set dev {bridge} alias "{mark}" type bridge mcast_snooping 0',
    ]
    mtu = options_of(text, nic).get("mtu")  # the executor leaves the ports' as it is
    of_the_nic = [f"    pre-up ip link set dev {nic} addrgenmode none", *([f"    mtu {mtu}"] if mtu else [])]
    return with_options(text, nic, bridge, options, of_the_nic)


def options_of(text: str, link: str) -> dict[str, str]:
    """The options of a link, the first of each name."""
    found: dict[str, str] = {}
    for one in statements(text):
        if is_of(one.head, link) and not one.begins:
            found.setdefault(one.words[0], " ".join(one.words[1:]))
    return found


def outlook(text: str, link: str) -> Outlook:
    """What the stanzas of a link make of it."""
    own = [one for one in statements(text) if is_of(one.head, link)]
    heads = [one.head for one in own if one.begins]
    leased = ("use", "dhcp") in [one.words for one in own] or any("dhcp" in head[2:] for head in heads)
    asked: frozenset[Family] = frozenset((4,) if leased else ())
    words = {word for one in own if one.words[0] in _COMMANDS for word in one.words[1:]}
    gateways = {canonical(one.words[1]) for one in own if one.words[0] == "gateway" and len(one.words) > 1}
    return Outlook(
        addresses=frozenset(_addresses(own)), gateways=frozenset(gateways), asked=asked, words=frozenset(words)
    )


def _addresses(own: list[Statement]) -> Iterator[str]:
    for one in own:
        if one.words[0] != "address" or len(one.words) < 2:
            continue
        ip, _, prefix = one.words[1].partition("/")
        masks = [x.words[1] for x in own if x.head is one.head and x.words[0] == "netmask" and len(x.words) > 1]
        prefix = prefix or (masks or ["64" if ":" in ip else "24"])[0]
        if "." in prefix:
            prefix = str(sum(bin(int(part)).count("1") for part in prefix.split(".") if part.isdigit()))
        if prefix.isdigit():
            yield f"{canonical(ip)}/{int(prefix)}"


def find_count(text: str, link: str) -> int | None:
    """How often a link is up, by the file in which ifupdown-ng keeps that; None if it is not up. See ifstate(5)."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0].partition("=")[0] == link:
            return int(words[1]) if words[1:2] and words[1].isdigit() else 1
    return None


def with_counts(text: str, nic: str, counts: dict[str, str]) -> str:
    """That file with these links up so often, in the place of the NIC; those that have no count are not up."""
    lines: list[str] = []
    for line in text.splitlines():
        name = line.partition("=")[0]
        if name == nic:
            lines += [f"{link}={link} {count}" for link, count in counts.items() if count]
        elif name not in counts:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)
