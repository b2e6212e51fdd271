"""A program of nine instructions at the ingress of a NIC that hands its frames to another link's IP stack.

Theory of operation: br_add_if() first lets the bridge take the port's frames and only then makes the port forward
them, and del_nbp() first stops the forwarding; frames between the two are dropped (0.05 to 1 ms). A tcx program
(Linux 6.6) runs before the bridge sees the frame; bpf_redirect() with BPF_F_INGRESS lets it arrive on the bridge at
once, as the bridge itself would have done a moment earlier or later. The program is attached by a bpf link, which the
kernel takes away with its last descriptor: our death ends the shield, too.

Frames for guests on the bridge reach the host's stack only, as long as the shield stands. Those of a VLAN go their way
as without it: a VLAN link on the NIC takes them before the bridge does, and on the bridge there is none.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from contextlib import suppress
from typing import Final

_PROG_LOAD, _LINK_CREATE = 5, 28  # enum bpf_cmd
_SCHED_CLS: Final = 3  # BPF_PROG_TYPE_SCHED_CLS
_TCX_INGRESS: Final = 46  # BPF_TCX_INGRESS
_INGRESS: Final = 1  # BPF_F_INGRESS
_REDIRECT: Final = 23  # BPF_FUNC_redirect
_NEXT: Final = -1  # TCX_NEXT
_VLAN_TCI, _VLAN_ID = 24, 0xFFF  # where struct __sk_buff has the tag, and the bits of it that are the VLAN's number
_MOVE, _CALL, _EXIT = 0xB7, 0x85, 0x95  # BPF_ALU64 | BPF_MOV | BPF_K, BPF_JMP | BPF_CALL, BPF_JMP | BPF_EXIT
_LOAD, _AND, _IF_ZERO = 0x61, 0x57, 0x15  # BPF_LDX | BPF_MEM | BPF_W, BPF_ALU64 | BPF_AND | BPF_K, BPF_JMP | BPF_JEQ
_SYSCALLS: Final = {  # SYS_bpf by machine; 280 is that of include/uapi/asm-generic/unistd.h
    "x86_64": 321,
    "ppc64": 361,
    "ppc64le": 361,
    "s390x": 351,
    "aarch64": 280,
    "loongarch64": 280,
    "riscv64": 280,
}
_ATTRIBUTE_BYTES: Final = 128


class Shields:
    """The shields that stand, by the number of the link that each is on."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._descriptors)

    def put_up(self, index: int, to: int) -> None:
        """Let what arrives on link number `index` arrive on link number `to`; nothing where that cannot be."""
        if index not in self._descriptors:
            with suppress(OSError):  # an older kernel, another machine, a user namespace: see `LinuxHost.shielded`
                self._descriptors[index] = _attach(index, to)

    def take_down(self, index: int) -> None:
        """End the shield of a link; nothing where none stands."""
        descriptor = self._descriptors.pop(index, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """End every shield."""
        for index in tuple(self._descriptors):
            self.take_down(index)


def _attach(index: int, to: int) -> int:
    """The descriptor that keeps the program on link number `index`. Raises OSError where that cannot be."""
    vlan = _instruct(_LOAD, 2, 0, source=1, offset=_VLAN_TCI) + _instruct(_AND, 2, _VLAN_ID)
    vlan += _instruct(_IF_ZERO, 2, 0, offset=2) + _instruct(_MOVE, 0, _NEXT) + _instruct(_EXIT, 0, 0)
    call = _instruct(_MOVE, 1, to) + _instruct(_MOVE, 2, _INGRESS) + _instruct(_CALL, 0, _REDIRECT)
    program = _load(vlan + call + _instruct(_EXIT, 0, 0))
    try:
        return _bpf(_LINK_CREATE, struct.pack("=IIII", program, index, _TCX_INGRESS, 0))
    finally:
        os.close(program)


def _instruct(code: int, register: int, value: int, *, source: int = 0, offset: int = 0) -> bytes:
    """One struct bpf_insn with a destination register, a number, a source register and an offset."""
    registers = source << 4 | register if sys.byteorder == "little" else register << 4 | source
    return struct.pack("=BBhi", code, registers, offset, value)


def _load(program: bytes) -> int:
    import ctypes

    text = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(text), ctypes.addressof(licence)
    return _bpf(_PROG_LOAD, struct.pack("=IIQQ", _SCHED_CLS, len(program) // 8, *addresses))


def _bpf(command: int, attribute: bytes) -> int:
    import ctypes

    number = _SYSCALLS.get(os.uname().machine)
    if number is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, command, buffer, _ATTRIBUTE_BYTES)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
