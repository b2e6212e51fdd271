"""Taps that are lent to users without rights: made with everything that holds their guest, looked at, taken away.

Whoever has a tap's file may still change the tap's address, its user, and whether it is persistent (__tun_chr_ioctl(),
drivers/net/tun.c). None of these moves a bridge whose own address was set by somebody; one that was not follows the
lowest of its ports', so it gets no such port. A tap's new address, though, becomes an address of the host's on that
bridge, and takes away what was behind it: that is what `changed` is for.

Whoever changes the network of the host looks at it under a lock; a tap is looked for a change once it is on its bridge,
and for its bridge after that. So either the change has seen the tap, or there is none.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from tapbridge.core.access import require_access
from tapbridge.core.attach import NO_ADDRESS, join_steps
from tapbridge.core.filters import host_ips
from tapbridge.core.mark import LoanMark, read_loan_mark
from tapbridge.linux import uapi
from tapbridge.linux.attributes import Malformed, decode_u32, pack_mac, pack_u32, walk
from tapbridge.linux.channel import Channel, Request, decode_messages
from tapbridge.linux.decode_links import LINK, decode_links
from tapbridge.linux.encode import encode_step
from tapbridge.linux.filters import find_unguarded, set_filter, sweep_filters, watch_rules
from tapbridge.linux.observe import find_link, observe_kernel
from tapbridge.linux.rates import limit_rate
from tapbridge.linux.taps import delete_numbered
from tapbridge.linux.tun import OpenTap, open_tap
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.intent import Guard, LendTap
from tapbridge.model.noun import replace
from tapbridge.model.port import Port
from tapbridge.model.state import Link, Scope
from tapbridge.model.step import PutPortAddress, SetAddressGeneration, SetAlias, SetPort, SetUp, Step
from tapbridge.model.values import IfName, Mac

_LEAN: Final = pack_u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)
_PINNED: Final = "3"  # NET_ADDR_SET, include/uapi/linux/netdevice.h
_DATAGRAMS: Final = 64  # that are read at a time
_NEWS_BYTES: Final = 1 << 16


class LentTaps:
    """The taps of one broker, in the network namespace of the thread that makes this. Raises OSError.

    `require_quiet` raises Refused or HostError while somebody else changes that network.
    """

    def __init__(self, require_quiet: Callable[[], None]) -> None:
        self._require_quiet = require_quiet
        self._channel = Channel()
        self._news = Channel(uapi.RTMGRP_LINK)
        self._news.socket.setblocking(False)
        self._rules = watch_rules()

    def close(self) -> None:
        """Give the sockets back; the taps stay."""
        self._channel.close()
        self._news.close()
        if self._rules is not None:
            self._rules.close()

    def fileno(self) -> int:
        """What is readable when links have changed."""
        return self._news.socket.fileno()

    def lend(self, intent: LendTap) -> tuple[Link, tuple[int, ...]]:
        """Make a tap: down, marked, a port of its bridge, held to what it may do, up; and its open files.

        Raises Refused, HostError; then there is no tap.
        """
        self._require_quiet()
        try:
            bridge = self._require_bridge(intent.bridge)
            tap = open_tap(intent.mac, queues=intent.queues, vnet_hdr=intent.vnet_hdr, owner=intent.owner)
            try:
                return self._join(tap, bridge, intent), tap.descriptors
            except BaseException:
                tap.close()
                raise
        except (OSError, Malformed) as error:
            raise HostError(f"a tap cannot be made a port of {intent.bridge}: {error}") from None

    def find(self, index: int) -> Link | None:
        """The link of that number, without its bridge. Raises OSError."""
        try:
            return decode_links((self._ask(index),))[0]
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def _ask(self, index: int) -> bytes:
        return self._channel.ask(uapi.RTM_GETLINK, LINK.pack(0, 0, index, 0, 0) + _LEAN)

    def marked(self) -> list[tuple[Link, LoanMark, IfName | None]]:
        """The taps that some broker has lent, and their bridges."""
        links = decode_links(self._channel.dump(uapi.RTM_GETLINK, bytes(LINK.size) + _LEAN))
        found = [(link, read_loan_mark(link)) for link in links]
        return [(link, mark, link.master) for link, mark in found if mark is not None]

    def changed(self) -> set[int] | None:
        """The numbers of links of which there is news; None where some of it was lost."""
        numbers: set[int] = set()
        for _ in range(_DATAGRAMS):
            if not select.select([self._news.socket], [], [], 0)[0]:
                break
            try:
                for kind, _, _, body in decode_messages(self._news.receive()):
                    if kind in (uapi.RTM_NEWLINK, uapi.RTM_DELLINK):
                        numbers.add(LINK.unpack_from(body)[2])
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return None
                raise
        return numbers

    def readdress(self, index: int, mac: Mac) -> None:
        """Give a tap its address; one that is gone is no error. Raises OSError."""
        request = Request(
            uapi.RTM_SETLINK, 0, LINK.pack(0, 0, index, 0, 0) + pack_mac(uapi.IFLA_ADDRESS, mac), (errno.ENODEV,)
        )
        for refusal in self._channel.carry_out([request]):
            if refusal is not None:
                raise refusal

    def delete(self, taps: Iterable[tuple[int, str]]) -> None:
        """Delete taps by number, those that still have this alias. Raises OSError."""
        found = [(self.find(index), alias) for index, alias in taps]
        delete_numbered(
            self._channel,
            [link.index for link, alias in found if link is not None and (link.kind, link.alias) == ("tap", alias)],
        )

    def sweep(self) -> None:
        """Take the filters of taps away that are gone."""
        sweep_filters()

    def rules_fileno(self) -> int:
        """What is readable when rules of nf_tables have changed; -1 where the kernel tells nobody."""
        return self._rules.fileno() if self._rules is not None else -1

    def forget_rules(self) -> None:
        """What has changed by now was seen. Raises OSError."""
        for _ in range(_DATAGRAMS):
            try:
                if self._rules is None or not self._rules.recv(_NEWS_BYTES):
                    return
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def unguarded(self, taps: Iterable[int]) -> frozenset[int]:
        """Which of these, by number, have lost their filter."""
        return find_unguarded(taps) or frozenset()

    def guard(self, index: int, bridge: IfName | None, guard: Guard) -> None:
        """Put a filter back, with what the host has there now. Raises Refused, HostError."""
        try:
            set_filter(index, self._with_denied(guard, bridge))
        except (OSError, Malformed) as error:
            raise HostError(f"the network of this host cannot be read: {error}") from None

    def _require_bridge(self, name: IfName) -> Link:
        link = find_link(self._channel, name)
        if link is None or link.kind != "bridge":
            raise Refused(
                f"there is no bridge {name!r}", hint="root makes one: tapbridge up", code="no-such-bridge", subject=name
            )
        pinned = ""
        with suppress(OSError), open(f"/sys/class/net/{link.name}/addr_assign_type", encoding="ascii") as file:
            pinned = file.read().strip()
        if pinned != _PINNED:
            raise Refused(
                f"the address of {link.name} was not set by anybody, so a guest could change it",
                hint=f"root sets it: ip link set {link.name} address {link.mac}",
                code="bridge-not-pinned",
                subject=link.name,
            )
        return link

    def _with_denied(self, guard: Guard, bridge: IfName | None) -> Guard:
        if guard.ips is not None or bridge is None:
            return guard
        return replace(guard, denied=host_ips(observe_kernel(self._channel, Scope.KERNEL), bridge))

    def _join(self, tap: OpenTap, bridge: Link, intent: LendTap) -> Link:
        made = find_link(self._channel, tap.name)
        if made is None:
            raise OSError(errno.ENODEV, f"the tap {tap.name} was taken away while it was made")
        if intent.rate is not None:
            limit_rate(self._channel, made.index, intent.rate)
        if intent.guard is not None:
            set_filter(made.index, self._with_denied(intent.guard, bridge.name))
        access = None
        if intent.vlan is not None:
            access = require_access(bridge, intent.vlan, observe_kernel(self._channel, Scope.LINKS))
        port = Port(isolated=intent.isolated, learning=intent.only is None, locked=intent.only is not None)
        steps: tuple[Step, ...] = (
            SetAlias(link=tap.name, alias=intent.alias),
            SetAddressGeneration(link=tap.name, mode=NO_ADDRESS),
            *join_steps(tap.name, bridge, access=access),
            SetPort(link=tap.name, port=port),
        )
        numbers: dict[str, int] = {tap.name: made.index, bridge.name: bridge.index}
        if access is not None and access.uplink is not None:
            numbers[access.uplink.name] = access.uplink.index
        index_of = numbers.__getitem__
        requests = [request for step in steps for request in encode_step(step, index_of)]
        if intent.only is not None:
            requests += encode_step(PutPortAddress(link=tap.name, mac=intent.only), index_of)
        requests += encode_step(SetUp(link=tap.name, up=True), index_of)
        for request, refusal in zip(requests, self._channel.carry_out(requests), strict=True):
            if refusal is not None:
                raise _explained(request, refusal, bridge, intent)
        self._require_quiet()
        tap.keep_address()
        told = self._ask(made.index)
        link = decode_links((told,))[0]
        if decode_u32(walk(told, LINK.size).get(uapi.IFLA_MASTER)) != bridge.index or not _is_as_asked(link, intent):
            raise HostError(f"the kernel did not make {tap.name} the port of {bridge.name} that it should be")
        return link


def _is_as_asked(link: Link, intent: LendTap) -> bool:
    """What was read back; a kernel passes over attributes that it does not know (locked: Linux 5.18).

    Not the address: udev may be about to write its own over it (linux/tun.py), and the broker looks after that.
    """
    if link.port is None or (link.up, link.alias) != (True, intent.alias):
        return False
    held = intent.only is not None
    return (link.port.isolated, link.port.learning, link.port.locked) == (intent.isolated, not held, held)


def _explained(request: Request, refusal: OSError, bridge: Link, intent: LendTap) -> OSError | Refused:
    if request.kind == uapi.RTM_NEWNEIGH and refusal.errno == errno.EEXIST:
        return Refused(
            f"the address {intent.only} is in use on {bridge.name} already",
            hint="start the guest under another --name, or give it another address with --mac",
            code="mac-taken",
            subject=intent.only or "",
        )
    if refusal.errno == errno.EXFULL:
        return Refused(
            f"{bridge.name} takes no more ports", hint="use another bridge", code="bridge-full", subject=bridge.name
        )
    return refusal
