"""ifupdown, Debian's and ifupdown-ng: no running owner. What it once configured is there as a static address or as a
DHCP client, and goes along; but its files still speak of the NIC, and `ifdown`, `ifup` or the next boot would act on
them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.model.verdict import Finding
from tapbridge.owners.owner import Move, warn

STALE: Final = "owner-files-stale"
_STATE: Final = ("/run/network/ifstate.{link}", "/run/network/ifstate", "/run/ifstate")
"""Debian's, of the link and of all; ifupdown-ng's."""

_FILES: Final = "/etc/network/interfaces"


def find_stale(move: Move) -> Iterator[Finding]:
    """The finding `owner-files-stale`, if ifupdown has brought the link up or its file names it."""
    if move.back or move.renames:
        return
    for pattern in _STATE:
        path = pattern.format(link=move.source)
        for line in (move.read(path) or "").splitlines():
            if line.partition("=")[0] == move.source:
                yield _stale(move, path)
                return
    for line in (move.read(_FILES) or "").splitlines():
        words = line.split()
        if words[:1] == ["iface"] and words[1:2] == [move.source]:
            yield _stale(move, _FILES)
            return


def _stale(move: Move, path: str) -> Finding:
    return warn(
        STALE,
        move.source,
        f"ifupdown's files configure {move.source} and know nothing of {move.target}: "
        f"ifdown and ifup act on the wrong link, and the next boot is without the bridge",
        evidence=(path,),
        fix=f"leave ifdown and ifup alone until tapbridge down {move.target}, or make it permanent: tapbridge save",
    )
