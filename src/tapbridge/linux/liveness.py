"""Whether a neighbour is alive: the kernel asks it, by ARP or ND, and tells how that ended.

An entry that is put into the state NUD_PROBE makes the kernel send a unicast request at its next tick and another
every second (neigh_timer_handler(), net/core/neighbour.c). One that has no MAC is resolved by a multicast request at
once if it is used, which NTF_USE does. Packets that are sent meanwhile wait in the entry's queue. The answer, and who
gave it, comes as a notification.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import Malformed, pack_ip
from tapbridge.linux.channel import Channel, decode_messages
from tapbridge.linux.decode_addresses import FAMILIES, NEIGHBOUR, decode_neighbours
from tapbridge.linux.encode import encode_step
from tapbridge.model.errors import HostError
from tapbridge.model.noun import replace
from tapbridge.model.state import Neighbour
from tapbridge.model.step import PutNeighbour
from tapbridge.model.values import Family, IfName

_INDEX: Final = struct.Struct("=i")  # of struct ndmsg
_AF: Final = {family: number for number, family in FAMILIES.items()}


def answers(neighbour: Neighbour, limit_s: float = 1.0) -> bool:
    """Whether a learnt neighbour answers, with the same MAC, within the limit. Raises HostError."""
    inquiry = Inquiry(neighbour.link)
    try:
        inquiry.ask(neighbour)
        poll = select.poll()
        poll.register(inquiry.socket, select.POLLIN)
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            for told in inquiry.hear():
                return told.mac == neighbour.mac
        return False
    finally:
        inquiry.close()


class Inquiry:
    """Neighbours on one link, with the number `index`, that the kernel is told to ask. `socket` is readable when it has
    something to tell.

    Two sockets, for an answer may come before the kernel has acknowledged the order to ask. Raises HostError.
    """

    def __init__(self, link: IfName) -> None:
        self._link = link
        self._asked: set[str] = set()
        self._forgotten: dict[str, Neighbour] = {}
        try:
            self.index = socket.if_nametoindex(link)
            self._news = Channel(groups=uapi.RTMGRP_NEIGH)
            self._channel = Channel()
        except OSError as error:
            raise _unaskable(link, error) from None
        self.socket = self._news.socket

    def close(self) -> None:
        """Give the sockets back."""
        self._news.close()
        self._channel.close()

    def find(self, family: Family, ip: str) -> Neighbour | None:
        """What the kernel knows of a neighbour."""
        key = NEIGHBOUR.pack(_AF[family], self.index, 0, 0, 0) + pack_ip(uapi.NDA_DST, ip)
        try:
            found = decode_neighbours([self._channel.ask(uapi.RTM_GETNEIGH, key)], {self.index: self._link})
        except (OSError, Malformed) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOENT:
                return None
            raise _unaskable(ip, error) from None
        return found[0] if found else None

    def ask(self, entry: Neighbour, *, anew: bool = False) -> None:
        """Ask whoever has the entry's MAC whether it is still there; without a MAC, or `anew`, all who may have the IP.

        `anew` makes the kernel forget a MAC, not by RTM_DELNEIGH: a packet that finds the entry as it dies is lost.
        Where the answer to that did not come, what waits is let go to the old MAC before all are asked once more.
        """
        forgotten = replace(entry, mac=None, state=uapi.NUD_FAILED, flags=0, protocol=0)
        used = replace(forgotten, state=0, flags=uapi.NTF_USE)
        puts: tuple[Neighbour, ...] = (used,)
        if entry.mac is not None and not anew:
            puts = (replace(entry, state=uapi.NUD_PROBE),)
        elif entry.mac is not None:
            self._forgotten[entry.ip] = entry
            puts = (forgotten, used)
        elif entry.ip in self._forgotten:
            puts = (replace(self._forgotten[entry.ip], state=uapi.NUD_STALE), forgotten, used)
        self._asked.add(entry.ip)
        requests = [request for put in puts for request in encode_step(PutNeighbour(neighbour=put), self._index_of)]
        try:
            refusals = [refusal for refusal in self._channel.carry_out(requests) if refusal is not None]
        except OSError as error:
            refusals = [error]
        if refusals:
            raise _unaskable(entry.ip, refusals[0])

    def hear(self) -> list[Neighbour]:
        """Who has answered, as the kernel tells by now."""
        try:
            told = [body for kind, _, _, body in decode_messages(self._news.receive()) if kind == uapi.RTM_NEWNEIGH]
            told = [body for body in told if _INDEX.unpack_from(body, 4)[0] == self.index]
            found = decode_neighbours(told, {self.index: self._link})
        except (OSError, Malformed) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOBUFS:
                return []  # more news than the queue holds; whoever is asked again answers again
            raise _unaskable(self._link, error) from None
        return [one for one in found if one.ip in self._asked and one.state & uapi.NUD_REACHABLE]

    def _index_of(self, _: str) -> int:
        return self.index


def _unaskable(whom: str, error: Exception) -> HostError:
    number = error.errno or 0 if isinstance(error, OSError) else errno.EBADMSG
    words = error.strerror if isinstance(error, OSError) else str(error)
    return HostError(f"{whom} could not be asked: {words}", errno=number)
