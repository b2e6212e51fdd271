"""The decoders, fed with what a kernel once answered, and with the same in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kit.recorded import DECODERS, NAMES, bodies, nouns
from tapbridge.linux.attributes import Malformed, pack, walk, walk_each
from tapbridge.linux.channel import decode_messages, decode_refusal
from tapbridge.linux.decode_addresses import decode_addresses, decode_forwarding, decode_neighbours
from tapbridge.linux.decode_links import decode_links
from tapbridge.linux.decode_routes import decode_routes
from tapbridge.model.state import ForwardingEntry, Route
from tapbridge.model.values import IfName

DUMPS = [name for name in DECODERS if name != "sysctls"]


@pytest.mark.parametrize("name", DUMPS)
def test_a_recorded_dump_says_what_it_said(name: str) -> None:
    assert DECODERS[name](bodies(name)) == nouns(name)
    assert nouns(name)


def test_the_switches_of_a_link_travel_in_its_message() -> None:
    found = {(item.link, item.stack, item.name): item.value for item in DECODERS["sysctls"](bodies("links"))}
    assert found["nic1", "ipv4", "send_redirects"] == 1
    assert found["nic1", "ipv6", "hop_limit"] == 64
    assert found["nic1", "ipv6", "temp_valid_lft"] == 604800
    assert {link for link, _, _ in found} == set(NAMES.values()) - {"tap0"}, "a guest's tap is no plan's business"


@pytest.mark.parametrize("name", DECODERS)
def test_a_message_cut_anywhere_is_refused_or_read(name: str) -> None:
    decode, read, refused = DECODERS[name], 0, 0
    for body in bodies("links" if name == "sysctls" else name):
        for size in range(len(body)):
            try:
                decode([body[:size]])
                read += 1
            except Malformed:
                refused += 1
    assert refused > read


@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0xFF])
@pytest.mark.parametrize("name", DECODERS)
def test_a_message_with_any_byte_changed_is_refused_or_read(name: str, value: int) -> None:
    decode, refused = DECODERS[name], 0
    for body in bodies("links" if name == "sysctls" else name):
        for place in range(len(body)):
            try:
                decode([body[:place] + bytes((value,)) + body[place + 1 :]])
            except Malformed:
                refused += 1
    assert refused > 0


@pytest.mark.parametrize("name", ["addresses", "routes4", "routes6", "neighbours", "proxies", "forwarding"])
def test_what_is_on_a_link_that_has_gone_is_left_out(name: str) -> None:
    decode: dict[str, Callable[..., Any]]
    decode = {"addresses": decode_addresses, "neighbours": decode_neighbours, "proxies": decode_neighbours}
    decode |= {"routes4": decode_routes, "routes6": decode_routes, "forwarding": decode_forwarding}
    left = decode[name](bodies(name), {7: IfName("nic1"), 1: IfName("lo")})
    assert "br0" not in repr(left)
    assert left == tuple(
        noun for noun in nouns(name) if not {"br0", "br1", "nic0", "far0", "far1", "mac0"} & links(noun)
    )


def links(noun: Any) -> set[str]:
    """The links that a noun speaks of."""
    if isinstance(noun, Route):
        return {str(hop.link) for hop in noun.nexthops}
    return {noun.bridge, noun.port} if isinstance(noun, ForwardingEntry) else {noun.link}


def test_a_name_that_is_no_text_survives() -> None:
    strange = decode_links([bodies("links")[0].replace(b"lo\0", b"\xff\0\0")])[0].name
    assert strange == "\udcff"
    assert strange.encode("utf-8", "surrogateescape") == b"\xff"


def test_attributes_of_a_size_that_cannot_be_are_refused() -> None:
    for size in (0, 3, 9):
        message = bytes((size, 0, 1, 0, 0, 0, 0, 0))
        with pytest.raises(Malformed):
            walk(message)
        with pytest.raises(Malformed):
            walk_each(message)


def test_repeated_attributes_are_all_there() -> None:
    assert walk_each(pack(53, b"a") + pack(53, b"bcdef") + pack(1, b"")) == [(53, b"a"), (53, b"bcdef"), (1, b"")]


def test_messages_of_a_size_that_cannot_be_are_refused() -> None:
    for size in (0, 15, 17):
        with pytest.raises(Malformed):
            list(decode_messages(size.to_bytes(4, "little") + bytes(12)))


def test_an_answer_brings_the_kernels_own_sentence() -> None:
    request = bytes(16)
    plain = decode_refusal(0, (-17).to_bytes(4, "little", signed=True) + request)
    told = decode_refusal(0x200, (-22).to_bytes(4, "little", signed=True) + request + pack(1, b"Nexthop is gone.\0"))
    assert decode_refusal(0, bytes(4)) is None
    assert (plain.errno, plain.strerror) == (17, "File exists")  # type: ignore[union-attr]
    assert (told.errno, told.strerror) == (22, "Nexthop is gone")  # type: ignore[union-attr]
    with pytest.raises(Malformed):
        decode_refusal(0, b"\0\0\0")
