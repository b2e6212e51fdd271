"""Small values: names, hardware addresses, IP addresses, and the sentinel KEEP.

IP addresses are text in the canonical form of inet_ntop(3), because states are compared, sorted and
written as JSON far more often than addresses are computed with; `ipaddress` alone costs 5 ms to import.
"""

from __future__ import annotations

import re
import socket
from enum import StrEnum
from typing import Final, Literal, NewType

from tapbridge.model.errors import InvalidName

IfName = NewType("IfName", str)
Mac = NewType("Mac", str)
Family = Literal[4, 6]

NAME_BYTES: Final = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h
_OURS = re.compile(r"[a-z][a-z0-9._-]{0,14}\Z")
_RESERVED = frozenset({".", "..", "all", "default", "lo"})
_KERNEL_REFUSES = re.compile(r"[\s/:%]|\xa0")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_AF: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


class Keep(StrEnum):
    """The type of KEEP: "leave it as it is", which is neither "has none" (None) nor a value."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


def parse_new_name(text: str) -> IfName:
    """Check a name for a link that we are about to make.

    Stricter than dev_valid_name() of the kernel, which lets `$(id)`, ESC and `--help` pass: a name that
    we give must be safe in every file and command line that it will ever be written to.
    Raises InvalidName.
    """
    size = len(text.encode())
    if size > NAME_BYTES:
        raise InvalidName(text, f"is {size} bytes long; a link's name has {NAME_BYTES} at most")
    if text == "":
        raise InvalidName(text, "is empty")
    if text in _RESERVED:
        raise InvalidName(text, "is reserved by the kernel")
    if re.search(r"\s", text):
        raise InvalidName(text, "has white space in it")
    if "/" in text:
        raise InvalidName(text, "has a '/' in it")
    if not _OURS.match(text):
        raise InvalidName(text, "must begin with a letter a-z and go on with a-z, 0-9, '.', '_' or '-'")
    return IfName(text)


def parse_found_name(text: str) -> IfName:
    """Check a name by which the user points at a link that exists: what the kernel itself allows, or an altname.

    Raises InvalidName.
    """
    if text == "":
        raise InvalidName(text, "is empty")
    if len(text.encode()) > 127:  # ALTIFNAMSIZ - 1
        raise InvalidName(text, "is longer than any link's name or altname (127 bytes)")
    if text in {".", ".."} or _KERNEL_REFUSES.search(text):
        raise InvalidName(text, "has white space, '/', ':' or '%' in it, which no link's name has")
    return IfName(text)


def parse_mac(text: str) -> Mac:
    """Read an Ethernet address, `aa:bb:cc:dd:ee:ff` or with '-'. Raises ValueError."""
    canonical = text.strip().lower().replace("-", ":")
    if not _MAC.match(canonical):
        raise ValueError(f"'{text}' is no Ethernet address; one looks like 52:54:00:12:34:56")
    return Mac(canonical)


def parse_ip(text: str) -> tuple[Family, str]:
    """Read an IP address of either family into (family, canonical text). Raises ValueError."""
    family: Family = 6 if ":" in text else 4
    try:
        return family, socket.inet_ntop(_AF[family], socket.inet_pton(_AF[family], text))
    except OSError:
        raise ValueError(f"'{text}' is no IP address") from None


def ip_bits(family: Family, text: str) -> int:
    """The address as a number, for prefix arithmetic."""
    return int.from_bytes(socket.inet_pton(_AF[family], text), "big")


def ip_text(family: Family, bits: int) -> str:
    """The inverse of `ip_bits`."""
    return socket.inet_ntop(_AF[family], bits.to_bytes(4 if family == 4 else 16, "big"))


def network(family: Family, ip: str, prefix: int) -> str:
    """The subnet of an address as `network/prefix`, host bits cleared."""
    width = 32 if family == 4 else 128
    shift = width - prefix
    return f"{ip_text(family, ip_bits(family, ip) >> shift << shift)}/{prefix}"


def contains(family: Family, subnet: str, ip: str) -> bool:
    """Whether `subnet` (`network/prefix`) holds `ip`."""
    start, _, prefix = subnet.partition("/")
    shift = (32 if family == 4 else 128) - int(prefix)
    return ip_bits(family, start) >> shift == ip_bits(family, ip) >> shift


def is_link_local(family: Family, ip: str) -> bool:
    """Whether an IPv6 address is in fe80::/10 (RFC 4291, 2.5.6)."""
    return family == 6 and ip_bits(family, ip) >> 118 == 0b1111111010
