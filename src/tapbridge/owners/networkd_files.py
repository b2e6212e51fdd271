"""The files of systemd-networkd: one link's settings, written for another. Text in, text out. See systemd.network(5).

A file is a row of sections of KEY=VALUE lines; a line that ends with a backslash goes on in the next. A drop-in counts
as if it stood behind the file: lists grow, and an empty value begins them anew. So texts in their order, one behind the
other, mean what the file and its drop-ins meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tapbridge.core.outlook import Outlook, canonical
from tapbridge.model.values import Family

_FROM: Final = "# Its own file: "
_SECTIONS: Final = (
    "Match", "Link", "Network", "Address", "Neighbor", "IPv6AddressLabel", "Route", "DHCP", "DHCPv4", "DHCPv6",
    "DHCPPrefixDelegation", "IPv6AcceptRA",
)  # fmt: skip
"""What a bridge can have in the NIC's stead. The others configure the card, or serve others, or have no link."""

_OF_THE_NIC: Final = (
    "Bridge", "Bond", "VRF", "BatmanAdvanced", "MACVLAN", "MACVTAP", "IPVLAN", "IPVTAP", "VXLAN", "Tunnel",
    "Xfrm", "MACsec", "IPoIB", "ActiveSlave", "PrimarySlave", "BindCarrier", "DHCPServer", "IPv6SendRA",
    "DHCPPrefixDelegation", "KeepConfiguration",
)  # fmt: skip
"""Settings of [Network] that lead to or from the NIC itself; or keep what is found, and with it what is to go."""

_DHCP: Final[dict[str, frozenset[Family]]] = {
    **dict.fromkeys(("yes", "true", "on", "1", "both"), frozenset((4, 6))),
    "ipv4": frozenset((4,)),
    "ipv6": frozenset((6,)),
}
STAYS: Final = ("Network", "VLAN")
"""The setting that stays with the NIC: a VLAN link that is there goes on, and networkd makes it only if it is not."""

_NOTHING: Final = ("", "no", "false", "off", "0", "n", "f")


def settings(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of every line that says something; the head of a section has an empty key."""
    section = ""
    for line in _lines(text):
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            yield section, "", ""
        elif section and equals and key.strip():
            yield section, key.strip(), value.strip()


def find_obstacle(texts: Sequence[str], link: str) -> str | None:
    """Why a link's settings cannot be another's, as a clause; None if they can."""
    for text in texts:
        for section, key, value in settings(text):
            if section not in _SECTIONS and not section.startswith("X-"):
                return f"its file for {link} has a section [{section}], which a bridge cannot take over"
            if section == "Network" and key in _OF_THE_NIC and value.lower() not in _NOTHING:
                return f"its file for {link} says {key}={value}, which a bridge cannot take over"
            if section != "Match" and link in value.split():
                return f"its file for {link} names the link itself: {key}={value}"
    return None


def bridge_file(texts: Sequence[str], nic: str, names: Sequence[str], iaid: int | None) -> str:
    """The file for the bridge of these names, of which the first is to stay: the settings of the NIC, with the identity
    by which DHCP servers know it, and without a word that would make them forget it."""
    bridge = names[0]
    lines = [f"# Written by tapbridge: {bridge} has the place of {nic} until tapbridge down {bridge}.", "[Match]"]
    lines.append(f"Name={' '.join(names)}")
    if bridge == nic:
        lines.append("Type=bridge")  # as long as the NIC has that name as well
    for text in texts:
        for section, key, value in settings(text):
            if section != "Match" and not section.startswith("X-") and (section, key) != STAYS:
                lines.append(f"{key}={value}" if key else f"\n[{section}]")
    own = [] if iaid is None else [f"IAID={iaid}"]
    for section in ("DHCPv4", "DHCPv6"):
        lines += [f"\n[{section}]", *own, "SendRelease=no"]
    return "\n".join([*lines, ""])


def port_file(nic: str, bridge: str, original: str) -> str:
    """The file that takes the NIC out of its hands, and remembers by which one it was configured."""
    told = f"# Written by tapbridge: {nic} is a port of {bridge} until tapbridge down {bridge}."
    return f"{told}\n{_FROM}{original}\n{unmanaged_file(nic)}"


def unmanaged_file(link: str) -> str:
    """The file of a link that it is to leave alone."""
    return f"[Match]\nName={link}\n\n[Link]\nUnmanaged=yes\n"


def netdev_file(bridge: str, mac: str, *, vlan_aware: bool = False) -> str:
    """The file that makes the bridge, as `up` makes it."""
    told = f"# Written by tapbridge save: {bridge} is made at boot until tapbridge unsave."
    made = f"[NetDev]\nName={bridge}\nKind=bridge\nMACAddress={mac}\n"
    aware = "VLANFiltering=yes\n" if vlan_aware else ""
    return f"{told}\n{made}\n[Bridge]\nSTP=no\nMulticastSnooping=no\n{aware}"


def saved_port_file(nic: str, bridge: str, original: str, match: str, held: str, vlans: Sequence[str] = ()) -> str:
    """The file that makes the NIC a port at boot, with the settings of the card that it has in the bridge's file, and
    the VLAN links on it."""
    told = f"# Written by tapbridge save: {nic} is a port of {bridge} until tapbridge unsave."
    card = [f"{key}={value}\n" for section, key, value in settings(held) if section == "Link" and key]
    of_card = f"\n[Link]\n{''.join(card)}" if card else ""
    of_network = "".join(f"VLAN={vlan}\n" for vlan in vlans)
    network = f"[Network]\nBridge={bridge}\nLinkLocalAddressing=no\n{of_network}"
    return f"{told}\n{_FROM}{original}\n[Match]\n{match}\n\n{network}{of_card}"


def outlook(text: str) -> Outlook:
    """What a file makes of its link."""
    addresses: list[str] = []
    gateways: list[str] = []
    asked: frozenset[Family] = frozenset()
    route: dict[str, str] = {}
    for section, key, value in (*settings(text), ("", "", "")):
        if not key:
            gateways += [route["Gateway"]] if _is_default(route) else []
            route = {}
        elif section == "Route":
            route[key] = value
        elif (section, key) == ("Network", "DHCP"):
            asked = _DHCP.get(value.lower(), frozenset())
        elif section in ("Network", "Address") and key == "Address":
            addresses = [*addresses, value] if value else []
        elif (section, key) == ("Network", "Gateway"):
            gateways = [*gateways, value] if value else []
    return Outlook(
        addresses=frozenset(map(canonical, addresses)), gateways=frozenset(map(canonical, gateways)), asked=asked
    )


def _is_default(route: Mapping[str, str]) -> bool:
    told = route.get("Gateway", "_")[:1] != "_"  # _dhcp4 and the like
    return told and route.get("Destination", "::/0") in ("0.0.0.0/0", "::/0")


def original_of(text: str) -> str | None:
    """The file by which the NIC of a port_file was configured."""
    return next((line.removeprefix(_FROM) for line in text.splitlines() if line.startswith(_FROM)), None)


def _lines(text: str) -> Iterator[str]:
    """The lines that mean something, each with those in which it goes on (config_parse() of systemd)."""
    begun = ""
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped and not begun:
            continue
        if stripped.startswith(("#", ";")):
            continue
        begun += line.lstrip() if not begun else line
        if (len(line) - len(line.rstrip("\\"))) % 2:
            begun = begun[:-1] + " "
            continue
        if begun.strip():
            yield begun.strip()
        begun = ""
    if begun.strip():
        yield begun.strip()
