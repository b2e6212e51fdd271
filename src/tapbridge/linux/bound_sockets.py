"""Sockets that are bound to a link, and multicast groups that are joined on one.

The kernel filters: sock_diag runs a byte code of ours over its sockets, so a busy server's thousands of connections
are not sent here. It does not say which socket joined a group; the well-known groups are told by their port.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from tapbridge.linux.attributes import Malformed, decode_ip, pack, walk
from tapbridge.linux.processes import Holder, find_holders, read_bytes
from tapbridge.linux.sock_diag import INET, INET6, RAW, TCP, UDP, dump_sockets, inet_sockets
from tapbridge.model.state import Attachment
from tapbridge.model.values import IfName

_PACKET: Final = 17
_WORDS: Final = {TCP: "TCP socket", UDP: "UDP socket", RAW: "raw socket"}
_NO_LINK, _JUMP = 9, 1  # INET_DIAG_BC_DEV_COND, INET_DIAG_BC_JMP
_IF_BOUND: Final = pack(1, struct.pack("=BBHIBBH", _NO_LINK, 8, 12, 0, _JUMP, 4, 8))
"""INET_DIAG_REQ_BYTECODE: where the link is 0, go on 8 bytes, to a jump beyond the end (left out); else 12 bytes, which
is the end (taken)."""
_PACKET_REQUEST: Final = struct.Struct("=BBHIIII")  # struct packet_diag_req
_PACKET_ANSWER: Final = struct.Struct("=BBHI8x")  # struct packet_diag_msg
_SHOW_INFO: Final = 1

_ALIVE: Final = frozenset({0, 0x0003, 0x8809, 0x888E, 0x88CC})
"""Protocols of packet sockets that go on receiving on a port of a bridge: none, all of them (they are served before
the bridge takes the frame), and what is sent to the bridge's reserved group addresses: LACP, EAPOL, LLDP."""

_GROUP_PORTS: Final = {
    "224.0.0.9": 520,
    "224.0.0.251": 5353,
    "224.0.0.252": 5355,
    "224.0.1.1": 123,
    "239.255.255.250": 1900,
    "ff02::9": 521,
    "ff02::c": 1900,
    "ff02::fb": 5353,
    "ff02::1:2": 547,
    "ff02::1:3": 5355,
    "ff05::1:3": 547,
}
_KERNELS_OWN: Final = frozenset({"224.0.0.1", "ff01::1", "ff02::1", "ff01::2", "ff02::2", "ff05::2"})
_ANY: Final = frozenset({"0.0.0.0", "::"})
_SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")


class _Socket(NamedTuple):
    link: int
    kind: str
    words: str
    inode: int
    local: str = ""
    port: int = 0


def observe_sockets(links: Mapping[int, IfName]) -> list[Attachment]:
    """What sockets and memberships there are on the links, given by ifindex, and whose they are.

    Left out is what survives, and what the kernel does by itself. A kernel without sock_diag tells nothing.
    """
    bound = list(_bound_to(links))
    bound += _packet_sockets(links)
    groups = [(index, group) for index, group in (*_groups(), *_groups6()) if index in links]
    joined = _candidates(groups)
    inodes = {item.inode for item in bound} | {item.inode for _, _, sockets in joined for item in sockets}
    holders = find_holders(inodes)
    found = [_attachment(links[item.link], item.kind, item.words, holders.get(item.inode)) for item in bound]
    for index, group, sockets in joined:
        owners = {holder for item in sockets if (holder := holders.get(item.inode)) is not None}
        words = f"multicast group {group}"
        found += [_attachment(links[index], "membership", words, owner) for owner in sorted(owners)]
        if not owners:
            found.append(_attachment(links[index], "membership", words, None))
    return found


def _attachment(link: IfName, kind: str, words: str, holder: Holder | None) -> Attachment:
    program, pid = holder if holder is not None else (None, None)
    return Attachment(link=link, kind=kind, detail=words, program=program, pid=pid)


def _bound_to(links: Collection[int]) -> Iterator[_Socket]:
    """Sockets with sk_bound_dev_if: SO_BINDTODEVICE, or a link-local address of the link."""
    for protocol in (TCP, UDP, RAW):
        for family in (INET, INET6):
            for found in inet_sockets(family, protocol, which=_IF_BOUND):
                if found.bound_to in links:
                    words = f"{_WORDS[protocol]} {_endpoint(found.local, found.port)}"
                    words += f" to {_endpoint(found.remote, found.remote_port)}" if found.remote_port else ""
                    yield _Socket(found.bound_to, "socket", words, found.inode)


def _packet_sockets(links: Collection[int]) -> Iterator[_Socket]:
    for message in dump_sockets(_PACKET_REQUEST.pack(_PACKET, 0, 0, 0, _SHOW_INFO, 0, 0)):
        try:
            _, _, protocol, inode = _PACKET_ANSWER.unpack_from(message)
            index = struct.unpack_from("=i", walk(message, _PACKET_ANSWER.size)[0])[0]
        except (struct.error, KeyError, Malformed):
            continue
        if index in links and protocol not in _ALIVE:
            yield _Socket(index, "packet-socket", f"packet socket for protocol {protocol:#06x}", inode)


def _groups() -> Iterator[tuple[int, str]]:
    """The IPv4 groups joined on each link; the group is the kernel's be32, printed in our byte order."""
    index = 0
    for line in read_bytes("/proc/thread-self/net/igmp", 1 << 20).decode(errors="replace").splitlines()[1:]:
        fields = line.split()
        if not line.startswith("\t"):
            index = int(fields[0])
        elif (group := decode_ip(struct.pack("=I", int(fields[0], 16)))) not in _KERNELS_OWN:
            yield index, group


def _groups6() -> Iterator[tuple[int, str]]:
    for line in read_bytes("/proc/thread-self/net/igmp6", 1 << 20).decode(errors="replace").splitlines():
        fields = line.split()
        group = bytes.fromhex(fields[2])
        if not group.startswith(_SOLICITED_NODE) and (text := decode_ip(group)) not in _KERNELS_OWN:
            yield int(fields[0]), text


def _candidates(groups: list[tuple[int, str]]) -> list[tuple[int, str, list[_Socket]]]:
    """For each group the UDP sockets that may have joined it: bound to it, or to its well-known port."""
    families = {INET6 if ":" in group else INET for _, group in groups}
    sockets = [
        _Socket(0, "membership", "", found.inode, found.local, found.port)
        for family in families
        for found in inet_sockets(family, UDP)
    ]
    return [
        (
            index,
            group,
            [x for x in sockets if x.local == group or (x.port == _GROUP_PORTS.get(group) and x.local in _ANY)],
        )
        for index, group in groups
    ]


def _endpoint(address: str, port: int) -> str:
    text = f"[{address}]" if ":" in address else address
    return f"{text}:{port}" if port else text
