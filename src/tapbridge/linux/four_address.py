"""Four addresses in the frames of a wireless station, by nl80211: asked for, switched, and seen to work.

Theory of operation. By the first frame with four addresses the access point sees what the station wants. It makes a
link for it, in its own bridge, and sends to it with four addresses from then on; until that is done what the station
sends is lost, and what it is sent arrives. An access point that was not told to (wds_sta) drops such frames for good.
So whoever answered before is asked at once. The question makes the kernel hold back what is sent to him for 0.1 s,
in which most access points are ready.

Nothing tells the access point of the way back but that the station leaves. So the supplicant is told to join the
network anew, and while it looks for it the mode is switched. Whoever is killed in between leaves a station that joins
with four addresses again, and works.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import Final

from tapbridge.linux.attributes import Malformed, decode_u8, decode_u16, pack_name, pack_u8, pack_u32, walk
from tapbridge.linux.questions import GENERIC, ask
from tapbridge.model.errors import HostError
from tapbridge.model.proof import Target
from tapbridge.model.step import SetFourAddress
from tapbridge.model.values import IfName

_COMMAND: Final = struct.Struct("=BBH")  # struct genlmsghdr
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2  # include/uapi/linux/genetlink.h
_GET, _SET, _INDEX, _FOUR_ADDRESS = 5, 6, 3, 83  # NL80211_CMD_…_INTERFACE, NL80211_ATTR_IFINDEX, _4ADDR
_BEFORE_S: Final = 1.0
_AFTER_S: Final = 2.5
_JOIN_S: Final = 8.0
_TRIES: Final = 2
"""How often the network is joined: what the station says when it leaves may be lost, or was said too early."""


def has_four_addresses(index: int) -> bool:
    """Whether the station of this number puts four addresses into its frames; no, where nobody can tell."""
    try:
        (told,) = _tell(_GET, pack_u32(_INDEX, index))
        return bool(decode_u8(walk(told, _COMMAND.size).get(_FOUR_ADDRESS)))
    except (OSError, ValueError, struct.error, IndexError):
        return False


def set_four_address(index: int, step: SetFourAddress) -> None:
    """Carry the step out on the station of this number. Raises OSError, HostError."""
    if has_four_addresses(index) == step.on:
        return
    if step.on:
        _take_four(index, step)
    else:
        _take_three(index, step)


def _take_four(index: int, step: SetFourAddress) -> None:
    witnesses = _answering(step.asked, step.link, _BEFORE_S, anew=False)
    if step.asked and not witnesses:
        raise HostError(
            f"none of {', '.join(step.asked)} answers on {step.link}, so nobody could tell whether the access point "
            "takes frames with four addresses",
            errno=errno.EHOSTUNREACH,
        )
    _switch(index, on=True)
    if not step.asked or _answering(witnesses, step.link, _AFTER_S):
        return
    _switch(index, on=False)
    if not _answering(witnesses, step.link, _AFTER_S):  # it has taken notice, if not more
        _join_anew(step.link)
    raise HostError(
        f"the access point of {step.link} does not take frames with four addresses: {', '.join(witnesses)} answered "
        f"before, and not within {_AFTER_S:g} s after",
        errno=errno.EHOSTUNREACH,
        hint="allow it there (OpenWrt: WDS; hostapd: wds_sta=1), or let the guest use user mode networking: tapbridge "
        "run --net user -- …",
    )


def _take_three(index: int, step: SetFourAddress) -> None:
    for _ in range(_TRIES):
        _join_anew(step.link)
        _switch(index, on=False)
        if not step.asked or _answering(step.asked, step.link, _JOIN_S):
            return
    raise HostError(
        f"none of {', '.join(step.asked)} answers since {step.link} sends frames with three addresses again",
        errno=errno.EHOSTUNREACH,
        hint=f"see whether it has joined its network: wpa_cli -i {step.link} status",
    )


def _answering(asked: Iterable[str], link: IfName, limit_s: float, *, anew: bool = True) -> tuple[str, ...]:
    from tapbridge.linux.probes import probe

    targets = [Target(kind="gateway", family=6 if ":" in ip else 4, ip=ip) for ip in asked]
    return tuple(one.target.ip for one in probe(targets, link, anew=anew, limit_s=limit_s) if one.answered)


def _join_anew(link: IfName) -> None:
    from tapbridge.linux.supplicant import join_anew

    join_anew(link)


def _switch(index: int, *, on: bool) -> None:
    _tell(_SET, pack_u32(_INDEX, index) + pack_u8(_FOUR_ADDRESS, on))


def _tell(command: int, attributes: bytes) -> list[bytes]:
    """A command of nl80211. Raises OSError, Malformed."""
    (found,) = ask(GENERIC, _CONTROL, _COMMAND.pack(_GET_FAMILY, 1, 0) + pack_name(_FAMILY_NAME, "nl80211"))
    family = walk(found, _COMMAND.size).get(_FAMILY_ID)
    if family is None:
        raise Malformed("a family of generic netlink without a number")
    return ask(GENERIC, decode_u16(family), _COMMAND.pack(command, 0, 0) + attributes)
