"""A limit for both directions of a tap, by the kernel's traffic control. It is gone with the tap.

Theory of operation. What the guest gets is what the tap transmits: a queue (tbf) lets it go at the rate, holds
back as much as may come at once, and drops what is more. What the guest sends is what the tap receives, and there is no
queue: what is more than the rate is dropped at once (police), before the bridge sees it. TCP adapts to both.

Some kernels lack one of the four parts. The whole is asked for while the tap is down and no port of any bridge, so that
a refusal leaves nothing behind.

Read back, a limit is what neither direction exceeds, whoever has set it: of the two rates the higher one.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from tapbridge.core.rate import burst_bytes
from tapbridge.linux import uapi
from tapbridge.linux.attributes import careful, nest, pack, pack_name, pack_u32, walk, walk_each
from tapbridge.linux.channel import Channel, Request
from tapbridge.model.errors import Refused

_TRAFFIC: Final = struct.Struct("=BxxxiIII")  # struct tcmsg: family, link, handle, parent, priority and protocol
_SPEC: Final = struct.Struct("=BBHhHI")  # struct tc_ratespec: its last is bytes per second
_TBF: Final = struct.Struct("=12s12xIII")  # struct tc_tbf_qopt: rate, limit, buffer, mtu
_POLICE: Final = struct.Struct("=IiIII12s12xiiI")  # struct tc_police: index, action, limit, burst, mtu, rate, …
_TICK_NS: Final = 64  # PSCHED_SHIFT, include/net/pkt_sched.h
_TABLE: Final = bytes(1024)  # the kernel wants it, and has computed by itself since Linux 3.8
_CELL: Final = 9
_PACKET_BYTES: Final = 1 << 17
_ALL: Final = 1 << 16 | 0x0300  # the first of the filters, for every protocol (ETH_P_ALL in network order)
_INGRESS: Final = 0xFFFF0000
_ABSENT: Final = (errno.ENOENT, errno.EINVAL)
_LIMIT: Final = struct.Struct("=4xi12x12s")  # of struct tc_police: action, rate
_UNKNOWN: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT, errno.ENODEV)
_U64: Final = struct.Struct("=Q")


def limit_rate(channel: Channel, index: int, rate: int) -> None:
    """Limit a link to so many bits per second in each direction. Raises Refused where the kernel cannot, OSError."""
    for refusal in channel.carry_out(encode_rate(index, rate)):
        if refusal is None:
            continue
        if refusal.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            raise Refused(
                f"this kernel cannot limit the rate of a guest: {refusal.strerror}",
                hint="root may find what it lacks: modprobe -a sch_tbf sch_ingress cls_matchall act_police; or do "
                "without a rate",
                code="no-rate",
            )
        raise refusal


def encode_rate(index: int, rate: int) -> list[Request]:
    """The requests that limit a link: what it transmits, then what it receives, whatever limited that before."""
    burst = burst_bytes(rate)
    spec = _SPEC.pack(_CELL, uapi.TC_LINKLAYER_ETHERNET, 0, -1, 0, rate // 8)
    ticks = burst * 8 * 1_000_000_000 // rate // _TICK_NS
    queue = nest(
        uapi.TCA_OPTIONS,
        pack(uapi.TCA_TBF_PARMS, _TBF.pack(spec, burst, ticks, 0)),
        pack_u32(uapi.TCA_TBF_BURST, burst),
    )
    police = nest(
        uapi.TCA_ACT_OPTIONS,
        pack(uapi.TCA_POLICE_TBF, _POLICE.pack(0, uapi.TC_ACT_SHOT, 0, ticks, _PACKET_BYTES, spec, 0, 0, 0)),
        pack(uapi.TCA_POLICE_RATE, _TABLE),
    )
    act = nest(uapi.TCA_MATCHALL_ACT, nest(1, pack_name(uapi.TCA_ACT_KIND, "police"), police))
    put = uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE
    make = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
    transmit = _TRAFFIC.pack(0, index, 0, uapi.TC_H_ROOT, 0)
    receive = _TRAFFIC.pack(0, index, _INGRESS, uapi.TC_H_INGRESS, 0)
    filtered = _TRAFFIC.pack(0, index, 0, _INGRESS, _ALL)
    return [
        Request(uapi.RTM_NEWQDISC, put, transmit + pack_name(uapi.TCA_KIND, "tbf") + queue),
        Request(uapi.RTM_DELQDISC, 0, receive, _ABSENT),
        Request(uapi.RTM_NEWQDISC, make, receive + pack_name(uapi.TCA_KIND, "ingress")),
        Request(
            uapi.RTM_NEWTFILTER,
            make,
            filtered + pack_name(uapi.TCA_KIND, "matchall") + nest(uapi.TCA_OPTIONS, act),
        ),
    ]


def read_rates(channel: Channel, indices: Collection[int]) -> dict[int, int]:
    """The limits of those links of these that have one for each direction. Raises OSError, Malformed."""
    sent = decode_queues(channel.dump(uapi.RTM_GETQDISC, bytes(_TRAFFIC.size)))
    found = {}
    for index in sent.keys() & set(indices):
        received = decode_polices(_read_filters(channel, index))
        if received:
            found[index] = max(sent[index], min(received))
    return found


def _read_filters(channel: Channel, index: int) -> list[bytes]:
    try:
        return channel.dump(uapi.RTM_GETTFILTER, _TRAFFIC.pack(0, index, 0, _INGRESS, 0))
    except OSError as error:
        if error.errno in _UNKNOWN:  # a kernel without filters, or the link has gone
            return []
        raise


@careful
def decode_queues(bodies: Iterable[bytes]) -> dict[int, int]:
    """The links whose own queue is a tbf, by number, with its rate. Raises Malformed."""
    found = {}
    for body in bodies:
        _, index, _, parent, _ = _TRAFFIC.unpack_from(body)
        attributes = walk(body, _TRAFFIC.size)
        if parent == uapi.TC_H_ROOT and attributes.get(uapi.TCA_KIND) == b"tbf\0":
            options = walk(attributes[uapi.TCA_OPTIONS])
            rate = _SPEC.unpack_from(options[uapi.TCA_TBF_PARMS])
            found[index] = _bits(rate, options.get(uapi.TCA_TBF_RATE64))
    return found


@careful
def decode_polices(bodies: Iterable[bytes]) -> tuple[int, ...]:
    """The rates above which filters that look at every frame drop it. Raises Malformed."""
    return tuple(rate for body in bodies for rate in _polices(body))


def _polices(body: bytes) -> Iterator[int]:
    attributes, told = walk(body, _TRAFFIC.size), _TRAFFIC.unpack_from(body)[-1]
    if attributes.get(uapi.TCA_KIND) != b"matchall\0" or told & 0xFFFF != _ALL & 0xFFFF:
        return
    acts = walk(attributes.get(uapi.TCA_OPTIONS, b"")).get(uapi.TCA_MATCHALL_ACT, b"")  # none in a list's first
    for _, act in walk_each(acts):
        words = walk(act)
        if words.get(uapi.TCA_ACT_KIND) == b"police\0":
            options = walk(words[uapi.TCA_ACT_OPTIONS])
            action, spec = _LIMIT.unpack_from(options[uapi.TCA_POLICE_TBF])
            rate = _bits(_SPEC.unpack(spec), options.get(uapi.TCA_POLICE_RATE64))
            if action == uapi.TC_ACT_SHOT and rate:  # one that counts packets has no rate of bits
                yield rate


def _bits(spec: tuple[int, ...], larger: bytes | None) -> int:
    """Bits per second; what 32 bits of bytes do not hold stands in an attribute of its own."""
    rate: int = _U64.unpack(larger)[0] if larger is not None else spec[-1]
    return rate * 8
