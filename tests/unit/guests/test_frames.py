"""Frames, whole, cut, and made by an enemy."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.guests.dns import find_owner
from tapbridge.guests.frames import Client, Word, read_client, read_frame
from tapbridge.model.values import Mac

MAC = Mac("52:54:00:aa:bb:01")
OTHER = "52:54:00:aa:bb:02"
RAW = bytes.fromhex(MAC.replace(":", ""))
RAW_OTHER = bytes.fromhex(OTHER.replace(":", ""))
ALL = b"\xff" * 6


def ethernet(kind: int, packet: bytes, source: bytes = RAW) -> bytes:
    return ALL + source + kind.to_bytes(2, "big") + packet


def arp(ip: str, operation: int = 1, sender: bytes = RAW, source: bytes = RAW) -> bytes:
    packet = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + sender + socket.inet_aton(ip) + bytes(6)
    return ethernet(0x0806, packet + socket.inet_aton("192.168.7.1"), source)


def dhcp(
    said: int,
    *,
    reply: bool,
    client: bytes = RAW,
    source: bytes = RAW,
    ciaddr: str = "0.0.0.0",
    yiaddr: str = "0.0.0.0",
    options: bytes = b"",
    header: int = 5,
) -> bytes:
    ports = (67, 68) if reply else (68, 67)
    message = struct.pack("!BBBB4s4s", 2 if reply else 1, 1, 6, 0, b"\1\2\3\4", bytes(4)) + socket.inet_aton(ciaddr)
    message += socket.inet_aton(yiaddr) + bytes(8) + client.ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63"
    message += bytes((53, 1, said)) + options + b"\xff"
    udp = struct.pack("!HHHH", *ports, 8 + len(message), 0) + message
    ip = struct.pack("!BBHHHBBH8x", 0x40 + header, 0, 20 + len(udp), 0, 0, 64, 17, 0) + bytes(header * 4 - 20)
    return ethernet(0x0800, ip + udp, source)


def nd(kind: int, sender: str, target: str, hops: int = 255) -> bytes:
    message = bytes((kind, 0, 0, 0)) + bytes(4) + socket.inet_pton(socket.AF_INET6, target)
    ip = struct.pack("!IHBB", 6 << 28, len(message), 58, hops) + socket.inet_pton(socket.AF_INET6, sender) + bytes(16)
    return ethernet(0x86DD, ip + message)


def word(family: int, ip: str, source: str, **more: object) -> Word:
    return Word(mac=MAC, family=family, ip=ip, source=source, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("operation", [1, 2])
def test_the_sender_of_arp_has_the_address(operation: int) -> None:
    assert read_frame(arp("192.168.7.31", operation)) == word(4, "192.168.7.31", "arp")


def test_a_probe_has_no_address_yet() -> None:
    assert read_frame(arp("0.0.0.0")) is None


def test_arp_on_behalf_of_another_says_nothing_of_the_sender() -> None:
    assert read_frame(arp("192.168.7.31", sender=RAW_OTHER)) is None


GRANT = bytes((1, 4, 255, 255, 255, 0, 0, 51, 4, 0, 0, 14, 16))


@pytest.mark.parametrize("header", [5, 7])
def test_an_acknowledgement_grants_the_client_its_lease(header: int) -> None:
    frame = dhcp(5, reply=True, source=RAW_OTHER, yiaddr="192.168.7.31", options=GRANT, header=header)
    assert read_frame(frame) == word(4, "192.168.7.31", "dhcp", granted=True, prefix=24, valid_lft=3600)


def test_an_endless_lease_and_a_crooked_mask_are_unknown() -> None:
    options = bytes((1, 4, 255, 0, 255, 0, 51, 4, 255, 255, 255, 255))
    found = read_frame(dhcp(5, reply=True, yiaddr="192.168.7.31", options=options))
    assert found == word(4, "192.168.7.31", "dhcp", granted=True)


def test_a_client_that_renews_says_which_address_it_has() -> None:
    assert read_frame(dhcp(3, reply=False, ciaddr="192.168.7.31")) == word(4, "192.168.7.31", "dhcp")


@pytest.mark.parametrize(
    "frame",
    [
        dhcp(3, reply=False),
        dhcp(3, reply=False, ciaddr="192.168.7.31", client=RAW_OTHER),
        dhcp(1, reply=False, ciaddr="192.168.7.31"),
        dhcp(2, reply=True, yiaddr="192.168.7.31"),
        dhcp(6, reply=True, yiaddr="192.168.7.31"),
        dhcp(5, reply=True),
    ],
    ids=["asks", "of another", "discover", "offer", "refusal", "inform"],
)
def test_what_grants_nothing_is_not_believed(frame: bytes) -> None:
    assert read_frame(frame) is None


@pytest.mark.parametrize(
    ("frame", "ip"),
    [
        (nd(135, "fe80::1", "fd00:7::9"), "fe80::1"),
        (nd(135, "::", "fd00:7::31"), "fd00:7::31"),
        (nd(136, "fe80::1", "fd00:7::31"), "fd00:7::31"),
        (nd(133, "fe80::1", "::"), "fe80::1"),
    ],
    ids=["solicitation", "duplicate detection", "advertisement", "router solicitation"],
)
def test_discovery_names_the_sender_s_address(frame: bytes, ip: str) -> None:
    assert read_frame(frame) == word(6, ip, "nd")


@pytest.mark.parametrize(
    "frame",
    [
        nd(133, "::", "::"),
        nd(135, "::", "ff02::1"),
        nd(135, "fe80::1", "fd00:7::9", hops=64),
        nd(134, "fe80::1", "fd00:7::9"),
    ],
    ids=["nobody", "group", "from afar", "router advertisement"],
)
def test_discovery_that_says_nothing_is_passed_over(frame: bytes) -> None:
    assert read_frame(frame) is None


GROUP4, GROUP6 = socket.inet_aton("224.0.0.251"), socket.inet_pton(socket.AF_INET6, "ff02::fb")
WEB = b"\3web\5local\0"


def record(owner: bytes, kind: int, address: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 0x8001, 120, len(address)) + address


def answer(*records: bytes, questions: bytes = b"", flags: int = 0x8400) -> bytes:
    """A message of multicast DNS; with `questions` there is one before the answers."""
    header = struct.pack("!HHHHHH", 0, flags, 1 if questions else 0, len(records), 0, 0)
    return header + questions + b"".join(records)


def mdns4(ip: str, message: bytes, group: bytes = GROUP4, port: int = 5353) -> bytes:
    udp = struct.pack("!HHHH", port, 5353, 8 + len(message), 0) + message
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 255, 17, 0)
    return ethernet(0x0800, header + socket.inet_aton(ip) + group + udp)


def mdns6(ip: str, message: bytes, group: bytes = GROUP6) -> bytes:
    udp = struct.pack("!HHHH", 5353, 5353, 8 + len(message), 0) + message
    header = struct.pack("!IHBB", 6 << 28, len(udp), 17, 255)
    return ethernet(0x86DD, header + socket.inet_pton(socket.AF_INET6, ip) + group + udp)


A, AAAA = socket.inet_aton("192.168.7.31"), socket.inet_pton(socket.AF_INET6, "fd00:7::31")


def test_multicast_dns_tells_the_sender_s_address_and_its_name() -> None:
    message = answer(record(WEB, 28, AAAA), record(b"\xc0\x0c", 1, A))
    assert read_frame(mdns4("192.168.7.31", message)) == word(4, "192.168.7.31", "mdns", hostname="web")
    assert read_frame(mdns6("fd00:7::31", message)) == word(6, "fd00:7::31", "mdns", hostname="web")
    asks = answer(flags=0, questions=WEB + b"\0\1\0\1")
    assert read_frame(mdns4("192.168.7.31", asks)) == word(4, "192.168.7.31", "mdns")


@pytest.mark.parametrize(
    "frame",
    [
        mdns4("192.168.7.31", answer(), group=socket.inet_aton("192.0.2.1")),
        mdns4("192.168.7.31", answer(), port=40000),
        mdns4("0.0.0.0", answer()),
        mdns6("::", answer()),
        mdns6("fd00:7::31", answer(), group=AAAA),
    ],
    ids=["from afar", "a resolver", "nobody", "nobody", "from afar"],
)
def test_what_is_not_said_to_the_link_says_nothing_of_the_sender(frame: bytes) -> None:
    assert read_frame(frame) is None


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (answer(record(WEB, 1, A), questions=WEB + b"\0\1\0\1"), "web"),
        (answer(record(b"\3web\3lab\5local\0", 1, A)), "web.lab"),
        (answer(record(WEB, 16, b"\3x=1"), record(WEB, 1, A)), "web"),
        (answer(record(b"\4\x1b[2J\5local\0", 1, A)), None),
        (answer(record(b"\3web\3com\0", 1, A)), None),
        (answer(record(b"\5local\0", 1, A)), None),
        (answer(record(b"\xc0\x0c", 1, A)), None),  # it points at itself
        (answer(record(b"\xff", 1, A)), None),
        (answer(record(WEB, 1, socket.inet_aton("192.168.7.32"))), None),
    ],
)
def test_the_owner_of_an_address_is_read_with_care(message: bytes, name: str | None) -> None:
    assert find_owner(message, A) == name


@given(st.binary(max_size=300), st.sampled_from((A, AAAA)))
def test_no_message_upsets_the_reader_of_names(rest: bytes, address: bytes) -> None:
    found = find_owner(b"\0\0\x84\0" + rest, address)
    assert found is None or found.isprintable()


def test_a_client_of_dhcp_tells_its_name_and_its_id_whatever_it_asks() -> None:
    options = b"\x0c\x03web\x3d\x07\x01" + RAW
    for said in (1, 3):
        assert read_client(dhcp(said, reply=False, options=options)) == Client(
            mac=MAC, hostname="web", client_id=f"01:{MAC}"
        )
    assert read_client(dhcp(1, reply=False, options=b"\x0c\x04\x1b[2J")) == Client(mac=MAC)
    assert read_client(dhcp(5, reply=True, options=options)) is None
    assert read_client(dhcp(1, reply=False, options=options, client=RAW_OTHER)) is None
    assert read_client(arp("192.168.7.31")) is None


@given(st.sampled_from([b"\x08\x06", b"\x08\x00", b"\x86\xdd", b"\x81\x00"]), st.binary(max_size=700))
def test_no_frame_upsets_the_reader(kind: bytes, rest: bytes) -> None:
    found = read_frame(ALL + RAW + kind + rest)
    assert found is None or found.source in ("arp", "dhcp", "nd", "mdns")


WHOLE = (
    arp("192.168.7.31"),
    dhcp(5, reply=True, yiaddr="192.168.7.31", options=GRANT),
    dhcp(3, reply=False, ciaddr="192.168.7.31", header=15),
    nd(136, "fe80::1", "fd00:7::31"),
    mdns4("192.168.7.31", answer(record(WEB, 1, A))),
    mdns6("fd00:7::31", answer(record(WEB, 28, AAAA), record(b"\xc0\x0c", 1, A))),
)


@given(st.sampled_from(WHOLE), st.data())
def test_a_frame_with_wrong_octets_in_it_upsets_nothing(frame: bytes, draw: st.DataObject) -> None:
    spoilt = bytearray(frame)
    for place, octet in draw.draw(st.lists(st.tuples(st.integers(0, len(frame) - 1), st.integers(0, 255)), max_size=6)):
        spoilt[place] = octet
    found = read_frame(bytes(spoilt[: draw.draw(st.integers(0, len(frame)))]))
    assert found is None or found.family in (4, 6)


@pytest.mark.parametrize("frame", WHOLE)
def test_a_frame_that_is_cut_short_upsets_nothing(frame: bytes) -> None:
    assert read_frame(frame) is not None
    for end in range(len(frame)):
        found = read_frame(frame[:end])
        assert found is None or found.mac == MAC
