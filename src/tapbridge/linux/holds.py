"""What holds guests back on their taps, as the kernel has it now: limits of their rate, and filters.

Asked for only where the links tell that there is something: a tap whose own queue is a tbf, or one whose alias speaks
of a guard. A host without such taps pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tapbridge.core.mark import find_guard
from tapbridge.linux import uapi
from tapbridge.linux.attributes import pack_name
from tapbridge.model.hold import Hold
from tapbridge.model.state import Link

if TYPE_CHECKING:
    from tapbridge.linux.channel import Channel

_QUEUED: Final = pack_name(uapi.IFLA_QDISC, "tbf")


def observe_holds(channel: Channel, told: Sequence[bytes], links: Sequence[Link]) -> tuple[Hold, ...]:
    """Those of these links that are held; `told` are the messages that they were made from.

    Raises OSError, Malformed.
    """
    queued = [link.index for body, link in zip(told, links, strict=True) if link.tap is not None and _QUEUED in body]
    guards = {link.index: guard for link in links if (guard := find_guard(link)) is not None}
    rates: dict[int, int] = {}
    if queued:
        from tapbridge.linux.rates import read_rates

        rates = read_rates(channel, queued)
    lost: frozenset[int] | None = frozenset()
    if guards:
        from tapbridge.linux.filters import find_unguarded

        lost = find_unguarded(guards)
    return tuple(
        Hold(
            link=link.name,
            rate=rates.get(link.index),
            guard=guards.get(link.index) if lost is not None and link.index not in lost else None,
            lost=link.index in guards and (None if lost is None else link.index in lost),
        )
        for link in links
        if link.index in guards or link.index in rates
    )
