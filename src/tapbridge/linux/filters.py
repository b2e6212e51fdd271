"""The filters of guests' ports: set by nft, read back by netlink, and swept away when their taps are gone.

Theory of operation. nft loads all of a port's rules in one act, or none. They are counted before the tap is made a
port, in case somebody else has taken them away. Nobody need be there when the guest ends: the rules are for a number
that no other link gets. Whoever sets a filter, and every command that changes something, takes away what is left.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from tapbridge.linux.attributes import Malformed, decode_name, decode_u32, pack_name, walk, walk_each
from tapbridge.linux.questions import NETFILTER, dump
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.state import ALIAS

if TYPE_CHECKING:  # every command that changes something sweeps, and few have to
    from tapbridge.model.intent import Guard

# include/uapi/linux/netfilter/nf_tables.h; the subsystem is the upper byte of the message's type
_NFTABLES: Final = 10
_CHAINS, _RULES, _ELEMENTS = (_NFTABLES << 8 | number for number in (4, 7, 13))
_NEWS: Final = 1 << 6  # NFNLGRP_NFTABLES is the seventh group
_BATCH_BEGIN, _BATCH_END, _REQUEST, _IF_EMPTY = 0x10, 0x11, 0x1, 0x100
_BRIDGE: Final = bytes((7, 0, 0, 0))  # struct nfgenmsg: NFPROTO_BRIDGE
_OF_TABLE, _NAME, _USE, _CHAIN, _SET = 1, 3, 6, 2, 2  # NFTA_…_TABLE, _CHAIN_NAME, _CHAIN_USE, _RULE_CHAIN, …_LIST_SET
_OF_OURS: Final = _BRIDGE + pack_name(_OF_TABLE, ALIAS)


def set_filter(index: int, guard: Guard) -> None:
    """Hold the guest behind this link. Raises Refused where that cannot be had."""
    from tapbridge.core.filters import dump_filter
    from tapbridge.linux.programs import ask

    sweep_filters()
    try:
        ask("nft", "-f", "-", text=dump_filter(index, guard))
        whole = _is_whole(index, guard)
    except (HostError, OSError, struct.error, Malformed) as error:
        raise Refused(
            f"the filter of a guest cannot be set: {error}",
            hint="it needs nft, and a kernel with nf_tables for bridges; or do without a guard",
            code="no-filter",
        ) from None
    if not whole:
        raise Refused(
            "the filter of a guest was taken away while it was set",
            hint="somebody else changes the rules of this host (nft monitor); try again",
            code="filter-lost",
        )


def sweep_filters() -> tuple[int, ...]:
    """Take away the filters of links that are gone; their numbers. One that cannot be taken away harms nobody."""
    chains = _chains()
    ports = _ports(chains)
    gone = tuple(sorted(number for number in ports if not _lives(number)))
    if gone:
        from tapbridge.core.filters import dump_removal
        from tapbridge.linux.programs import ask

        with suppress(HostError):  # another has swept at the same time
            ask("nft", "-f", "-", text=dump_removal(gone))
    if chains and len(gone) == len(ports):
        _drop_empty_table()
    return gone


def watch_rules() -> socket.socket | None:
    """What is readable when somebody has changed rules. None where the kernel tells nobody of that, or not us."""
    try:
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETFILTER)
    except OSError:
        return None
    try:
        news.bind((0, _NEWS))
    except OSError:
        news.close()
        return None
    return news


def find_unguarded(indices: Iterable[int]) -> frozenset[int] | None:
    """Which of these links, if they are still there, have no filter any more. None where the kernel does not tell us.

    Whoever takes rules away takes all of them (`nft flush ruleset`, `flush table`), so a port's are not counted one by
    one; but the table may have been made whole again for another port.
    """
    from tapbridge.core.filters import HOOK, chain_name

    guarded: set[int] = set()
    try:
        uses = _uses()
        if uses.get(HOOK):
            guarded = {index for index in _leading() if uses.get(chain_name(index), 0) > 1}  # one use is the map's
    except FileNotFoundError:  # the table has gone meanwhile
        guarded = set()
    except (OSError, struct.error, Malformed):
        return None
    return frozenset(index for index in indices if index not in guarded and _lives(index))


def _chains() -> list[str]:
    """The chains of our table. None for whoever may not ask, and on a kernel without nf_tables."""
    try:
        return list(_uses())
    except (OSError, struct.error, Malformed):
        return []


def _uses() -> dict[str, int]:
    """The chains of our table; how many rules each has, and by how many it is reached, together."""
    found = [walk(message, len(_BRIDGE)) for message in dump(NETFILTER, _CHAINS, _BRIDGE)]
    ours = [chain for chain in found if decode_name(chain.get(_OF_TABLE, b"")) == ALIAS]
    return {decode_name(chain[_NAME]): int.from_bytes(chain.get(_USE, b""), "big") for chain in ours if _NAME in chain}


def _ports(chains: list[str]) -> set[int]:
    """The links that have a filter."""
    digits = ("".join(takewhile(str.isdigit, name[1:])) for name in chains if name.startswith("g"))
    return {int(number) for number in digits if number.isascii() and 0 < len(number) < 11}


def _lives(index: int) -> bool:
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


def _drop_empty_table() -> None:
    """Take our table away, in one act, if there is no port in it by now: the broker may just be setting a filter.

    nft cannot say "if it is empty" (NLM_F_NONREC). The kernel carries the batch out within send().
    """
    from tapbridge.core.filters import HOOK, PORTS

    begin, end = ((number, 0, struct.pack("!BBH", 0, 0, _NFTABLES)) for number in (_BATCH_BEGIN, _BATCH_END))
    acts = (
        (_NFTABLES << 8 | 5, 0, _OF_OURS + pack_name(_NAME, HOOK)),  # NFT_MSG_DELCHAIN, with its rule
        (_NFTABLES << 8 | 11, _IF_EMPTY, _OF_OURS + pack_name(_SET, PORTS)),  # NFT_MSG_DELSET
        (_NFTABLES << 8 | 2, _IF_EMPTY, _OF_OURS),  # NFT_MSG_DELTABLE
    )
    batch = b"".join(
        struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, number, 0) + body
        for number, (kind, flags, body) in enumerate((begin, *acts, end))
    )
    with (
        suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER) as kernel,
    ):
        kernel.send(batch)


def _is_whole(index: int, guard: Guard) -> bool:
    """Whether each chain has as many rules as it was given, and the port leads to them."""
    from tapbridge.core.filters import filter_rules

    for chain, rules in filter_rules(index, guard).items():
        if len(dump(NETFILTER, _RULES, _OF_OURS + pack_name(_CHAIN, chain))) != len(rules):
            return False
    return index in _leading()


def _leading() -> set[int]:
    """The ports that lead to rules: the keys of the map."""
    from tapbridge.core.filters import PORTS

    body = _OF_OURS + pack_name(_SET, PORTS)
    keys: set[int] = set()
    for message in dump(NETFILTER, _ELEMENTS, body):
        for _, element in walk_each(walk(message, len(_BRIDGE)).get(3, b"")):  # NFTA_SET_ELEM_LIST_ELEMENTS
            key = walk(walk(element).get(1, b"")).get(1, b"")  # NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
            keys.add(decode_u32(key))
    return keys
