"""Does this kernel have bridges that tell VLANs apart? Tried by a child in a network namespace of its own."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from tapbridge.linux.channel import Channel
from tapbridge.linux.encode import encode_step
from tapbridge.model.state import Bridge
from tapbridge.model.step import AddLink
from tapbridge.model.values import IfName

_CLONE_NEWNET: Final = 0x40000000
_TRIED: Final = AddLink(name=IfName("br0"), kind="bridge", bridge=Bridge(vlan_filtering=True))
_LACKS: Final = 1


def lacks_vlans() -> bool:
    """Whether the kernel was built without (CONFIG_BRIDGE_VLAN_FILTERING). False where that may not be tried."""
    import ctypes

    child = os.fork()
    if child == 0:
        lacks = False
        try:
            with suppress(OSError):
                if ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0:
                    (refusal,) = Channel().carry_out(encode_step(_TRIED, dict[str, int]().__getitem__))
                    lacks = refusal is not None and refusal.errno == errno.EOPNOTSUPP
        finally:
            os._exit(_LACKS if lacks else 0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == _LACKS
