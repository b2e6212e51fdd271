"""NetworkManager's files: profiles (keyfiles) and the state that it keeps of each link. Text in, text out.

Both are GKeyFile texts: `[section]` and `key=value` lines. A value is escaped, so that a line is always one value; what
is taken over from another profile stays as it is there. See nm-settings-keyfile(5).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

from tapbridge.model.values import IfName, Mac

Keyfile = Mapping[str, Mapping[str, str]]
"""Sections, of which each has its keys with their values as they are written."""

NIC_PROFILE: Final = "org.tapbridge.nic-profile"
"""Where a bridge's profile says by which profile the NIC was held before: [user] is for that."""

PRIORITY: Final = "999"  # the highest: no other profile takes the links
_CARRIED: Final = ("zone", "metered", "mdns", "llmnr", "dns-over-tls", "secondaries", "dns", "stable-id")
_ESCAPES: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ALIASES: Final = {"802-3-ethernet": "ethernet"}


def escape(value: str) -> str:
    """A value as a keyfile has it: one line, and no blank at its beginning gets lost."""
    text = "".join(_ESCAPES.get(character, character) for character in value)
    return "\\s" + text[1:] if text.startswith(" ") else text


def read_keyfile(text: str) -> Keyfile:
    """The sections of a keyfile. Comments are left out; of a key that is there twice the last counts."""
    found: dict[str, dict[str, str]] = {}
    section = found.setdefault("", {})
    for line in text.split("\n"):
        line = line.strip(" \t\r")
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(_ALIASES.get(line[1:-1], line[1:-1]), {})
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key.rstrip(" \t")] = value.lstrip(" \t")
    return found


def write_keyfile(sections: Keyfile) -> str:
    """The text of a keyfile; the values are escaped already."""
    return "\n".join(
        "".join((f"[{name}]\n", *(f"{key}={value}\n" for key, value in keys.items())))
        for name, keys in sections.items()
    )


def bridge_profile(
    nic: Keyfile, state: Keyfile, *, bridge: IfName, mac: Mac, uuid: str, token: str | None = None
) -> Keyfile:
    """The profile of a bridge that is to the network what the NIC was by the profile `nic`.

    `state` is the state file of the NIC: it has the metric and the DHCP identity that are in use. `token` is the last
    half of its IPv6 address, where that would be another one on another link.
    """
    connection = nic["connection"]
    ipv4, ipv6 = dict(nic.get("ipv4", {"method": "auto"})), dict(nic.get("ipv6", {"method": "auto"}))
    for keys in (ipv4, ipv6):
        if int(keys.get("route-metric", "-1")) < 0:
            keys["route-metric"] = default_metric(state)
    if (client_id := state.get("dhcp4", {}).get("dhcp4.dhcp_client_identifier")) is not None:
        ipv4["dhcp-client-id"] = client_id
    dhcp6 = state.get("dhcp6", {})
    if (duid := dhcp6.get("dhcp6.dhcp6_client_id")) is not None:
        ipv6["dhcp-duid"] = duid
    if (iaid := dhcp6.get("dhcp6.iaid")) is not None:  # else it would be made of the link's name
        ipv6["dhcp-iaid"] = str(int(iaid.replace(":", ""), 16))
    if token is not None:
        ipv6 |= {"addr-gen-mode": "eui64", "token": token}
    return {
        "connection": {
            "id": escape(bridge),
            "uuid": uuid,
            "type": "bridge",
            "interface-name": escape(bridge),
            "autoconnect-priority": PRIORITY,
            "autoconnect-slaves": "1",
            "stable-id": connection["uuid"],  # what is made of it stays the same
            **{key: connection[key] for key in _CARRIED if key in connection},
        },
        "bridge": {"mac-address": mac.upper(), "multicast-snooping": "false", "stp": "false"},
        "ipv4": ipv4,
        "ipv6": ipv6,
        "proxy": nic.get("proxy", {}),
        "user": {NIC_PROFILE: connection["uuid"]},
    }


def default_metric(state: Keyfile) -> str:
    """The metric of the routes of a link whose profile says none."""
    return state.get("device", {}).get("route-metric-default-effective", "100")


def port_profile(nic: Keyfile, *, port: IfName, bridge: IfName, uuid: str, master: str) -> Keyfile:
    """The profile of the NIC as a port: the card's own settings stay as they are."""
    connection = nic["connection"]
    return {
        "connection": {
            "id": escape(f"{bridge} port {port}"),
            "uuid": uuid,
            "type": "ethernet",
            "interface-name": escape(port),
            "autoconnect-priority": PRIORITY,
            "master": master,
            "slave-type": "bridge",
            "stable-id": connection.get("stable-id", connection["uuid"]),
        },
        "ethernet": nic.get("ethernet", {}),
    }


def tombstone(profile: str) -> str:
    """The file that hides a profile. It could be a link to /dev/null as well. See nms_keyfile_nmmeta_read()."""
    return write_keyfile({"nmmeta": {"uuid": profile, "loaded-path": "/dev/null"}})


def last_half(ip: str) -> str:
    """The last 64 bits of an IPv6 address, as an address."""
    packed = socket.inet_pton(socket.AF_INET6, ip)
    return socket.inet_ntop(socket.AF_INET6, bytes(8) + packed[8:])


def link_state(profile: str, *, made: bool, metric: str | None = None) -> str:
    """The file of a link in /run/NetworkManager/devices that makes NetworkManager take it, as it is, by a profile.

    `made` says that NetworkManager has made the link, so that it is its own. `metric` is the one that it has given to
    the link's routes.
    """
    keys = {"managed": "true", "connection-uuid": profile, "nm-owned": "true" if made else "false"}
    if metric is not None:
        keys["route-metric-default-effective"] = metric
    return write_keyfile({"device": keys})
