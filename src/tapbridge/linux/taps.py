"""Taps that wait for guests: made with their mark, and deleted many at once.

Deleting a link waits for RCU, some 20 ms for each; a link group (rtnl_group_dellink(), net/core/rtnetlink.c) is
deleted in one act that waits once. The links join a group of their own in the same message in which it is deleted, so
no one else's link is in it and nothing is left of it whenever we are killed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import decode_u32, pack_u32, walk
from tapbridge.linux.channel import Channel, Request
from tapbridge.linux.decode_links import LINK
from tapbridge.linux.encode import encode_tap
from tapbridge.linux.observe import find_links
from tapbridge.linux.tun import new_tap
from tapbridge.model.state import TAP_GROUP
from tapbridge.model.step import AddTap, DeleteTaps

_SIOCGIFINDEX: Final = 0x8933
_IFREQ: Final = struct.Struct("16si20x")


def add_tap(channel: Channel, step: AddTap) -> None:
    """Make a tap. Killed at any moment, it is there whole and marked, or not at all. Raises OSError."""
    with new_tap(step.name, step.mac, step.tap):
        _carry_out(channel, encode_tap(step, partial(_number, channel.socket)))


def _number(asked: socket.socket, name: str) -> int:
    """The ifindex of a link: if_nametoindex(3) by a socket that is open already. Netlink, which tells all of a link,
    takes ten times as long."""
    import fcntl

    try:
        answer = fcntl.ioctl(asked, _SIOCGIFINDEX, _IFREQ.pack(os.fsencode(name), 0))
    except OSError:  # it does not say of what
        raise OSError(errno.ENODEV, f"there is no link '{name}'") from None
    number: int = _IFREQ.unpack(answer)[1]
    return number


def delete_taps(channel: Channel, step: DeleteTaps) -> None:
    """Delete the taps that are ours at this moment; of a name that is another link's by now it is said.

    Raises OSError, and has deleted none then.
    """
    found = find_links(channel, step.taps)
    for link in found:
        if link.kind != "tap" or not link.ours:
            raise OSError(errno.EPERM, f"{link.name} is no tap of ours any more")
    delete_numbered(channel, [link.index for link in found])


def delete_numbered(channel: Channel, numbers: Sequence[int]) -> None:
    """Delete links by their ifindex, several in one act; one that is gone is no error. Raises OSError."""
    if not numbers:
        return
    headers = [LINK.pack(0, 0, number, 0, 0) for number in numbers]
    if len(headers) == 1:
        _carry_out(channel, [Request(uapi.RTM_DELLINK, 0, headers[0], (errno.ENODEV,))])
        return
    group = pack_u32(uapi.IFLA_GROUP, _free_group(channel))
    requests = [Request(uapi.RTM_NEWLINK, 0, header + group, (errno.ENODEV,)) for header in headers]
    _carry_out(channel, [*requests, Request(uapi.RTM_DELLINK, 0, LINK.pack(0, 0, 0, 0, 0) + group, (errno.ENODEV,))])


def _free_group(channel: Channel) -> int:
    lean = pack_u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)
    told = channel.dump(uapi.RTM_GETLINK, bytes(LINK.size) + lean)
    taken = {decode_u32(walk(body, LINK.size).get(uapi.IFLA_GROUP)) for body in told}
    return next(group for group in count(TAP_GROUP) if group not in taken)


def _carry_out(channel: Channel, requests: list[Request]) -> None:
    for refusal in channel.carry_out(requests):
        if refusal is not None:
            raise refusal
