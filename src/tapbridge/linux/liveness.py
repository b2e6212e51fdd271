"""Whether a neighbour is alive: the kernel asks it, by ARP or ND, and tells how that ended.

An entry that is put into the state NUD_PROBE makes the kernel send a unicast request at once and another every
second (neigh_timer_handler(), net/core/neighbour.c). The answer, and who gave it, comes as a notification.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import replace
from typing import Final

from tapbridge.linux.channel import Channel, decode_messages
from tapbridge.linux.decode_addresses import decode_neighbours
from tapbridge.linux.encode import encode_step
from tapbridge.model.errors import HostError
from tapbridge.model.state import Neighbour
from tapbridge.model.step import PutNeighbour

_INDEX: Final = struct.Struct("=i")  # of struct ndmsg
_NEWNEIGH: Final = 28  # RTM_NEWNEIGH
_GROUP_NEIGHBOURS: Final = 1 << 2  # RTMGRP_NEIGH
_REACHABLE, _PROBE, _FAILED = 0x02, 0x10, 0x20  # NUD_*


def answers(neighbour: Neighbour, limit_s: float = 1.0) -> bool:
    """Whether a learnt neighbour answers, with the same MAC, within the limit. Raises HostError."""
    channel = Channel(groups=_GROUP_NEIGHBOURS)
    try:
        index = socket.if_nametoindex(neighbour.link)
        question = PutNeighbour(neighbour=replace(neighbour, state=_PROBE))
        for refusal in channel.carry_out(encode_step(question, lambda _: index)):
            if refusal is not None:
                raise refusal
        return _is_answered(channel, neighbour, index, time.monotonic() + limit_s)
    except OSError as error:
        raise HostError(f"{neighbour.ip} could not be asked: {error.strerror}", errno=error.errno or 0) from None
    finally:
        channel.close()


def _is_answered(channel: Channel, asked: Neighbour, index: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(channel.socket, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        told = [body for kind, _, _, body in decode_messages(channel.receive()) if kind == _NEWNEIGH]
        told = [body for body in told if _INDEX.unpack_from(body, 4)[0] == index]
        for neighbour in decode_neighbours(told, {index: asked.link}):
            if neighbour.ip == asked.ip and neighbour.state & (_REACHABLE | _FAILED):
                return neighbour.state == _REACHABLE and neighbour.mac == asked.mac
    return False
