"""What names or holds a link and cannot be moved with it: sockets, multicast groups, firewall rules, tc, XDP, LRO.

The user is told of these before anything is touched. On a host where nothing is bound the whole costs a few
milliseconds: a netlink request each, and no process is started.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from tapbridge.linux.attributes import Malformed, decode_name, walk
from tapbridge.linux.bound_sockets import observe_sockets
from tapbridge.linux.iptables import observe_legacy_rules
from tapbridge.linux.nft import observe_rules
from tapbridge.linux.questions import ROUTE, ask
from tapbridge.model.state import Attachment, Link
from tapbridge.model.values import IfName

_GETLINK: Final = 18  # RTM_GETLINK, include/uapi/linux/rtnetlink.h
_GETQDISC: Final = 38
_KIND: Final = 1  # TCA_KIND
_XDP: Final = 43  # IFLA_XDP
_TC_REQUEST: Final = struct.Struct("=B3xiIII")  # struct tcmsg
_LINK_REQUEST: Final = struct.Struct("=BxHiII")  # struct ifinfomsg
_AT_ROOT: Final = 0xFFFFFFFF
_AT_INGRESS: Final = 0xFFFFFFF1
_ORDINARY: Final = frozenset({"noqueue", "noop", "mq", "pfifo_fast", "pfifo", "fq_codel", "fq"})
_NOT_LOOKED_AT: Final = frozenset({"loopback", "tap", "tun"})
_ETHTOOL: Final = 0x8946  # SIOCETHTOOL
_GET_FLAGS: Final = 0x25  # ETHTOOL_GFLAGS
_LRO: Final = 1 << 15  # ETH_FLAG_LRO


def observe_attachments(links: Sequence[Link]) -> tuple[Attachment, ...]:
    """What is attached to the links, by link and kind. `detail` is a phrase that names the thing, without a verb.

    Seen are: `socket`, `packet-socket` and `membership` that will be deaf once the link is a port (what survives is
    left out), with the process where there is one; `nft-rule`, `iptables-rule`; `input-drop`, a rule without which
    the host's own traffic would be dropped (`nft-rule-by-number`, `input-drop-by-number`: the rule has the link's
    index, and no other link can have that); `tc`, `xdp`, `lro`. Links that can neither join a bridge nor be one, and
    ports, are not looked at, so five hundred taps cost nothing. Raises OSError where the kernel refuses what it
    should not.
    """
    names = {link.index: link.name for link in links if link.master is None and link.kind not in _NOT_LOOKED_AT}
    found = observe_sockets(names)
    found += observe_rules(names)
    found += observe_legacy_rules(tuple(names.values()))
    for index, name in names.items():
        found += _hooks(index, name)
    return tuple(sorted(found, key=lambda x: (x.link, x.kind, x.detail, x.program or "", x.pid or 0)))


def _hooks(index: int, name: IfName) -> Iterator[Attachment]:
    ingress = _queueing(index, _AT_INGRESS)
    if ingress:
        yield Attachment(link=name, kind="tc", detail=f"the {ingress} hook of tc")
    root = _queueing(index, _AT_ROOT)
    if root and root not in _ORDINARY:
        yield Attachment(link=name, kind="tc", detail=f"the {root} queue of tc")
    if _has_xdp(index):
        yield Attachment(link=name, kind="xdp", detail="an XDP program")
    if _has_lro(name):
        yield Attachment(link=name, kind="lro", detail="large receive offload (LRO)")


def _queueing(index: int, parent: int) -> str | None:
    for message in _ask(_GETQDISC, _TC_REQUEST.pack(0, index, 0, parent, 0)):
        kind = walk(message, _TC_REQUEST.size).get(_KIND)
        if kind is not None:
            return decode_name(kind)
    return None


def _has_xdp(index: int) -> bool:
    for message in _ask(_GETLINK, _LINK_REQUEST.pack(0, 0, index, 0, 0)):
        attached = walk(walk(message, _LINK_REQUEST.size).get(_XDP, b"")).get(2)  # IFLA_XDP_ATTACHED
        if attached and attached[0]:
            return True
    return False


def _ask(kind: int, request: bytes) -> list[bytes]:
    try:
        return ask(ROUTE, kind, request)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP):
            return []
        raise
    except Malformed:
        return []


def _has_lro(name: IfName) -> bool:
    """By ioctl: ethtool's netlink family has a number of its own on every kernel, and this answers in 5 µs."""
    import array
    import fcntl
    import socket

    value = array.array("I", (_GET_FLAGS, 0))
    request = struct.pack("16sP8x", name.encode(errors="surrogateescape"), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            fcntl.ioctl(any_socket, _ETHTOOL, request)
        except OSError:
            return False
    return bool(value[1] & _LRO)
