"""Frames as guests say them, and when somebody listens."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

MAC = "52:54:00:aa:bb:01"
RAW = bytes.fromhex(MAC.replace(":", ""))
OTHER = bytes.fromhex("525400aabb02")
ALL = b"\xff" * 6


def arp(ip: str, mac: bytes = RAW) -> bytes:
    """Who has 192.0.2.1? Tell this address."""
    packet = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + socket.inet_aton(ip) + bytes(6)
    return ALL + mac + b"\x08\x06" + packet + socket.inet_aton("192.0.2.1") + bytes(18)


def announcement(ip: str, mac: bytes = RAW) -> bytes:
    """An unsolicited neighbour advertisement. The listener is no judge of checksums."""
    message = bytes((136, 0, 0, 0)) + bytes(4) + socket.inet_pton(socket.AF_INET6, ip)
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, 255)
    group = socket.inet_pton(socket.AF_INET6, "ff02::1")
    return ALL + mac + b"\x86\xdd" + header + socket.inet_pton(socket.AF_INET6, ip) + group + message


def dhcp_request(ip: str, mac: bytes = RAW, options: bytes = b"") -> bytes:
    """A client that was rebooted asks for the address that it had (RFC 2131, 4.3.2, INIT-REBOOT)."""
    message = struct.pack("!BBBB4sHH", 1, 1, 6, 0, b"tapb", 0, 0x8000) + bytes(16) + mac.ljust(16, b"\0") + bytes(192)
    message += b"\x63\x82\x53\x63\x35\x01\x03\x32\x04" + socket.inet_aton(ip) + options + b"\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(message), 0) + message
    ip_header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), ALL[:4])
    total = sum(struct.unpack("!10H", ip_header))
    total = (total & 0xFFFF) + (total >> 16)
    ip_header = ip_header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip_header[12:]
    return ALL + mac + b"\x08\x00" + ip_header + udp


def mdns(ip: str, name: str, mac: bytes = RAW) -> bytes:
    """NAME.local has this address."""
    owner = b"".join(bytes((len(label),)) + label.encode() for label in (name, "local")) + b"\0"
    record = owner + struct.pack("!HHIH", 1, 0x8001, 120, 4) + socket.inet_aton(ip)
    message = struct.pack("!HHHHHH", 0, 0x8400, 0, 1, 0, 0) + record
    udp = struct.pack("!HHHH", 5353, 5353, 8 + len(message), 0) + message
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 255, 17, 0)
    return ALL + mac + b"\x08\0" + header + socket.inet_aton(ip) + socket.inet_aton("224.0.0.251") + udp


def await_ears(count: int) -> bool:
    """Wait until so many packet sockets of this namespace are bound and running; False if they never are."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]]
        if sum(row[4] != "0" and row[5] == "1" for row in rows) >= count:
            return True
        time.sleep(0.01)
    return False
