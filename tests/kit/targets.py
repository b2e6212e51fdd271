"""Who reads what strangers send, for fuzzing: a client of the broker, a guest's frames, the kernel's answers, files of
others. Each reader is pure. A target gives bytes to one and lets through what that says it raises, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from kit.recorded import DECODERS, bodies
from tapbridge.broker.policy import parse_policy
from tapbridge.broker.protocol import Attach, dump_request, parse_request
from tapbridge.guests.cmdline import parse_launch
from tapbridge.guests.frames import read_frame
from tapbridge.guests.leases import parse_dnsmasq, parse_libvirt
from tapbridge.linux.attributes import Malformed
from tapbridge.linux.channel import decode_messages, decode_refusal
from tapbridge.linux.rates import decode_polices, decode_queues, encode_rate
from tapbridge.model.errors import Refused
from tapbridge.model.journal import load, read_line
from tapbridge.model.values import IfName


class Target(NamedTuple):
    """A reader of a stranger's bytes; `seeds` are good ones to begin with."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...] = ()


def _text(taken: bytes) -> str:
    return taken.decode(errors="surrogateescape")


def _decode(taken: bytes) -> None:
    """Every decoder of the kernel's answers, with the same bytes."""
    for decode in (*DECODERS.values(), decode_queues, decode_polices):
        with suppress(Malformed):
            decode([taken])


def _messages(taken: bytes) -> None:
    with suppress(Malformed):
        for _, flags, _, body in decode_messages(taken):
            decode_refusal(flags, body)


def _request(taken: bytes) -> None:
    with suppress(Refused):
        parse_request(taken)


def _policy(taken: bytes) -> None:
    with suppress(Refused):
        parse_policy(_text(taken), len, len)


def _journal(taken: bytes) -> None:
    with suppress(ValueError):
        read_line(taken)
    with suppress(ValueError):
        load(_text(taken))


def _leases(taken: bytes) -> None:
    parse_dnsmasq(_text(taken), now=0.0)
    parse_libvirt(_text(taken), now=0.0)


def _planted(taken: bytes) -> None:
    """What fuzzing must find: three right bytes in a row, which chance alone meets once in 16 million."""
    if len(taken) > 2 and taken[0] == 0x74 and taken[1] == 0x61 and taken[2] == 0x70:
        raise RuntimeError("planted")


TARGETS: Final = {
    "request": Target(_request, (dump_request(Attach(IfName("br0"), "web")),)),
    "policy": Target(
        _policy,
        (
            b"allow user alice bridge br0 taps 2 mac 52:54:00 isolated # why\n",
            b"allow group kvm bridge br0 rate 1M vlan 7 guard ip ip 192.0.2.10 allow dhcp,vlan\n",
        ),
    ),
    "frame": Target(read_frame),
    "decode": Target(
        _decode, (*bodies("links")[:2], *bodies("routes6")[:2], *(one.body for one in encode_rate(7, 1_000_000)))
    ),
    "messages": Target(_messages),
    "journal": Target(_journal),
    "leases": Target(_leases, (b"1700000000 52:54:00:00:00:01 192.0.2.7 web *\n", b'[{"ip-address": "192.0.2.7"}]')),
    "command-line": Target(lambda taken: parse_launch(_text(taken).split("\0"), "qemu-system-x86_64")),
}
PLANTED: Final = {"planted": Target(_planted)}
