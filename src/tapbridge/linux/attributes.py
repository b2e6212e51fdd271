"""Netlink attributes: a header of two u16 (size, number), a payload, padding to four bytes. Pure.

Payloads are slices of the message, found by number. What the kernel marks beside the number (NLA_F_NESTED,
NLA_F_NET_BYTEORDER) is masked away.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from tapbridge.model.values import IfName, Mac

U16: Final = struct.Struct("=H")
U32: Final = struct.Struct("=I")
_HEADER: Final = struct.Struct("=HH")
_NUMBER: Final = 0x3FFF  # NLA_TYPE_MASK
_NESTED: Final = 0x8000  # NLA_F_NESTED

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Malformed(ValueError):
    """A message that does not keep to the format, or is cut off."""


def careful(decode: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make whatever a decoder stumbles over one error: Malformed."""

    @wraps(decode)
    def decode_carefully(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return decode(*args, **kwargs)
        except (struct.error, IndexError, KeyError, ValueError) as error:
            raise Malformed(f"a message of the kernel cannot be read: {error}") from error

    return decode_carefully


def walk(message: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes from `start` on by number; of a repeated one the last. Raises Malformed."""
    found = {}
    end = len(message)
    while end - start >= 4:
        size, number = _HEADER.unpack_from(message, start)
        if size < 4 or start + size > end:
            raise Malformed(f"an attribute of {size} bytes where {end - start} are left")
        found[number & _NUMBER] = message[start + 4 : start + size]
        start += size + 3 & ~3
    return found


def walk_each(message: bytes, start: int = 0) -> list[tuple[int, bytes]]:
    """Every attribute from `start` on as (number, payload), repeated ones too. Raises Malformed."""
    each: list[tuple[int, bytes]] = []
    while len(message) - start >= 4:
        stop = start + max(_HEADER.unpack_from(message, start)[0], 4)
        each += walk(message[start:stop]).items()
        start = stop + 3 & ~3
    return each


def decode_u32(payload: bytes | None, absent: int = 0) -> int:
    """A u32, or what its absence means. Raises struct.error."""
    number: int = U32.unpack(payload)[0] if payload is not None else absent
    return number


def decode_u16(payload: bytes | None, absent: int = 0) -> int:
    """A u16, or what its absence means. Raises struct.error."""
    number: int = U16.unpack(payload)[0] if payload is not None else absent
    return number


def decode_u8(payload: bytes | None) -> int:
    """A u8, 0 where it is absent. Raises IndexError."""
    return payload[0] if payload is not None else 0


def decode_name(payload: bytes) -> IfName:
    """A string that ends at its first NUL. Bytes that are no UTF-8 survive the way there and back."""
    return IfName(payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"))


def decode_ip(payload: bytes) -> str:
    """An IPv4 or IPv6 address, told by its size. Raises ValueError."""
    return socket.inet_ntop(socket.AF_INET if len(payload) == 4 else socket.AF_INET6, payload)


def decode_mac(payload: bytes | None) -> Mac | None:
    """An Ethernet address; None for what is not six bytes long (tunnels, InfiniBand)."""
    return Mac(payload.hex(":")) if payload is not None and len(payload) == 6 else None


def pack(number: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    return _HEADER.pack(4 + len(payload), number) + payload + bytes(-len(payload) % 4)


def nest(number: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return pack(number | _NESTED, b"".join(attributes))


def pack_u8(number: int, value: int) -> bytes:
    """An attribute that holds a u8."""
    return pack(number, bytes((value,)))


def pack_u32(number: int, value: int) -> bytes:
    """An attribute that holds a u32."""
    return pack(number, U32.pack(value))


def pack_name(number: int, name: str | None) -> bytes:
    """An attribute that holds a string with its NUL; nothing for None."""
    return b"" if name is None else pack(number, name.encode("utf-8", "surrogateescape") + b"\0")


def pack_ip(number: int, text: str | None) -> bytes:
    """An attribute that holds an IP address; nothing for None. Raises OSError for what is no address."""
    return b"" if text is None else pack(number, encode_ip(text))


def pack_mac(number: int, mac: str | None) -> bytes:
    """An attribute that holds an Ethernet address; nothing for None."""
    return b"" if mac is None else pack(number, bytes.fromhex(mac.replace(":", "")))


def encode_ip(text: str) -> bytes:
    """The inverse of `decode_ip`. Raises OSError for what is no address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
