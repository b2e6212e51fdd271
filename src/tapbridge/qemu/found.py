"""The NICs that a QEMU command line makes by itself, and how to say the same to tapbridge. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from tapbridge.model.errors import Refused
from tapbridge.model.noun import dataclass
from tapbridge.qemu.argv import CommandLine, Pairs, Section, parse_pairs

_CARD: Final = re.compile(
    r"(?:virtio-net(?:-.*)?|e1000(?:e|-.*)?|igb|i82[0-9]{3}[a-z]*|ne2k_(?:isa|pci)|rtl8139|pcnet|tulip|usb-net"
    r"|vmxnet3|spapr-vlan|xen-net-device|lance|sungem|sunhme)\Z"
)
_HELP: Final = frozenset({"help", "?"})
_OPTIONS: Final = {"netdev": "type", "nic": "type", "net": "type", "device": "driver"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A piece of a NIC in somebody's command line. `group` is netdev, nic, net or device; `text` as it was typed."""

    group: str
    kind: str
    pairs: Pairs
    text: str


def find_nics(line: CommandLine, sections: Iterable[Section] = ()) -> tuple[Found, ...]:
    """Every argument that makes a NIC or a way for one. `-nic none` and questions (`-device help`) make none."""
    return tuple(found for found in _pieces(line, sections) if _makes_nic(found))


def wants_none(line: CommandLine) -> bool:
    """Whether the command line asks for no NIC at all (`-nic none`, `-net none`)."""
    return any(found.group in ("nic", "net") and found.kind == "none" for found in _pieces(line, ()))


def refuse_nics(nics: tuple[Found, ...]) -> Refused:
    """The refusal of a command line that makes NICs itself, with the same in our own words."""
    them = "them" if len(nics) > 1 else "it"
    instead = " ".join(["tapbridge run", *suggest_options(nics)])
    return Refused(
        f"QEMU's arguments already configure a NIC: {'; '.join(nic.text for nic in nics)}",
        hint=f"take {them} out and say instead: {instead} -- …; or keep {them} beside ours: --keep-nics",
        code="nic-configured",
    )


def suggest_options(nics: tuple[Found, ...]) -> tuple[str, ...]:
    """Options of `run` that come nearest to what somebody told QEMU."""
    words: list[str] = []
    cards = [nic for nic in nics if nic.group == "device" or nic.kind == "nic"]
    for nic in [nic for nic in nics if nic not in cards]:
        pairs = dict(nic.pairs)
        words += _network(nic.kind, pairs)
        card = next((card for card in cards if dict(card.pairs).get("netdev") == pairs.get("id")), None)
        if nic.group == "net":
            card = next((card for card in cards if card.kind == "nic"), None)
        if card is None:
            words += _card(pairs.get("model"), pairs.get("mac"))
        else:
            cards.remove(card)
            words += _card_of(card)
    for card in cards:
        words += _card_of(card)
    return tuple(words)


def _network(kind: str, pairs: dict[str, str]) -> list[str]:
    if kind == "user":
        return ["--net", "user"]
    if kind == "bridge":
        return ["--net", pairs.get("br", "br0")]
    return ["--net", "BRIDGE"]


def _card_of(card: Found) -> list[str]:
    pairs = dict(card.pairs)
    model = card.kind if card.group == "device" else pairs.get("model")
    return _card(model, pairs.get("mac") or pairs.get("macaddr"))


def _card(model: str | None, mac: str | None) -> list[str]:
    words = [] if model is None or model in ("virtio", "virtio-net-pci") else ["--model", model]
    return words + ([] if mac is None else ["--mac", mac])


def _pieces(line: CommandLine, sections: Iterable[Section]) -> Iterator[Found]:
    for option in line.options:
        implied = _OPTIONS.get(option.name)
        if implied is not None and option.value is not None:
            pairs = parse_pairs(option.value, implied)
            yield Found(group=option.name, kind=dict(pairs).get(implied, ""), pairs=pairs, text=option.text)
    for section in sections:
        if section.group in _OPTIONS:
            kind = dict(section.pairs).get(_OPTIONS[section.group], "")
            title = section.group if section.id is None else f'{section.group} "{section.id}"'
            pairs = section.pairs if section.id is None else (*section.pairs, ("id", section.id))
            yield Found(group=section.group, kind=kind, pairs=pairs, text=f"[{title}] of -readconfig")


def _makes_nic(found: Found) -> bool:
    keys = {key for key, _ in found.pairs}
    if found.kind in _HELP or keys & _HELP:
        return False
    if found.group == "device":
        return bool(_CARD.match(found.kind)) or bool(keys & {"netdev", "mac"})
    return found.kind != "none"
