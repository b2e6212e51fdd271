"""What a kernel (Linux 6.18) once answered, and what it meant. kit/everything.py makes the dumps anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kit.source import ROOT
from tapbridge.linux.channel import decode_messages
from tapbridge.linux.decode_addresses import decode_addresses, decode_forwarding, decode_neighbours
from tapbridge.linux.decode_links import decode_links, decode_sysctls
from tapbridge.linux.decode_routes import decode_routes, decode_rules
from tapbridge.model.journal import load

DUMPS = ROOT / "tests/unit/linux/dumps"


def bodies(name: str) -> list[bytes]:
    """The messages of a recorded dump without their netlink headers."""
    return [body for _, _, _, body in decode_messages((DUMPS / f"{name}.bin").read_bytes())]


def nouns(name: str) -> tuple[Any, ...]:
    """What the dump says, one noun a line."""
    return tuple(load(line) for line in (DUMPS / f"{name}.jsonl").read_text().splitlines())


NAMES = {link.index: link.name for link in decode_links(bodies("links"))}

DECODERS: dict[str, Callable[[list[bytes]], tuple[Any, ...]]] = {
    "links": decode_links,
    "addresses": lambda messages: decode_addresses(messages, NAMES),
    "routes4": lambda messages: decode_routes(messages, NAMES),
    "routes6": lambda messages: decode_routes(messages, NAMES),
    "rules4": decode_rules,
    "rules6": decode_rules,
    "neighbours": lambda messages: decode_neighbours(messages, NAMES),
    "proxies": lambda messages: decode_neighbours(messages, NAMES),
    "forwarding": lambda messages: decode_forwarding(messages, NAMES),
    "sysctls": lambda messages: decode_sysctls(messages, decode_links(messages)),
}
