"""`tapbridge-bridge-helper`: QEMU's own protocol for bridges, answered by the broker.

QEMU makes a pair of sockets and runs the program that `-netdev bridge,helper=` names, with `--fd=N` for one of them and
`--br=NAME`; the program sends one byte with the tap's open file and ends (net_bridge_run_helper(), net/tap.c). Who made
the pair is the guest: the kernel knows (SO_PEERCRED).

Every guest waits for this program, so it imports next to nothing: tests hold its request to broker/protocol.py.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Sequence

_MESSAGE_BYTES = 4096
_LIMIT_S = 10.0
_PAUSE_S = 0.05  # between two tries, while the network is being changed
_USAGE = "usage: tapbridge-bridge-helper --br=BRIDGE --fd=N [--use-vnet]"


class _Failure(Exception):
    """Why there is no tap, and the exit code for it."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def main() -> int:
    """Ask the broker for a tap and hand it to QEMU. Returns the exit code."""
    try:
        bridge, number, vnet_hdr = parse_words(sys.argv[1:])
        with socket.socket(fileno=number) as qemu:
            qemu.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _borrow(qemu, bridge, vnet_hdr))])
    except _Failure as failure:
        sys.stderr.write(f"error: {failure}\n")
        return failure.code
    except OSError as error:
        sys.stderr.write(f"error: QEMU's socket cannot be used: {error.strerror}\n")
        return 1
    return 0


def parse_words(words: Sequence[str]) -> tuple[str, int, bool]:
    """The bridge, the number of QEMU's socket, and whether the tap is to have headers of virtio."""
    bridge, number, vnet_hdr = "", "", False
    for word in words:
        if word == "--use-vnet":
            vnet_hdr = True
        elif word.startswith("--br="):
            bridge = word[5:]
        elif word.startswith("--fd="):
            number = word[5:]
        else:
            raise _Failure(2, f"there is no option {word!r}; {_USAGE}")
    if not bridge or not (number.isascii() and number.isdigit() and len(number) < 8):
        raise _Failure(2, _USAGE)
    return bridge, int(number), vnet_hdr


def dump_request(bridge: str, vnet_hdr: bool) -> bytes:
    """The request, as broker/protocol.py reads it."""
    if not (bridge.isascii() and bridge.isprintable()) or '"' in bridge or "\\" in bridge or len(bridge) > 127:
        raise _Failure(2, f"{bridge!r} is no name of a bridge")
    shape = '{"verb":"attach","network":"%s","guest":null,"mac":null,"queues":1,"vnet_hdr":%s,"rate":null}'
    return (shape % (bridge, "true" if vnet_hdr else "false")).encode()


def _borrow(qemu: socket.socket, bridge: str, vnet_hdr: bool) -> bytes:
    """The number of the tap's open file, as SCM_RIGHTS takes it."""
    request = dump_request(bridge, vnet_hdr)
    path = f"{os.environ.get('TAPBRIDGE_RUN_DIR') or '/run/tapbridge'}/broker.sock"
    pid: int = struct.unpack("=iII", qemu.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as broker:
        broker.settimeout(_LIMIT_S)
        try:
            broker.connect(path)
        except OSError as error:
            raise _Failure(5, f"no broker listens at {path}: {error.strerror}") from None
        deadline = time.monotonic() + _LIMIT_S
        try:
            guest = struct.pack("=i", os.pidfd_open(pid))
            while True:
                broker.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, guest)])
                message, told, _, _ = broker.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
                if told:
                    return bytes(told[0][2])
                code, failure = _refused(message)
                if code != "locked" or time.monotonic() >= deadline:
                    raise failure
                time.sleep(_PAUSE_S)
        except OSError as error:
            raise _Failure(1, f"the broker does not answer: {error.strerror or error}") from None


def _refused(message: bytes) -> tuple[str, _Failure]:
    """The code of a refusal, and the refusal."""
    import json

    try:
        found = json.loads(message)
        return found["code"], _Failure(int(found["exit"]), found["message"])
    except (ValueError, KeyError, TypeError):
        return "", _Failure(1, "the broker's answer cannot be read")


if __name__ == "__main__":
    raise SystemExit(main())
