"""The policy: which users and groups may attach guests to which bridges. Pure.

A file of lines. `#` begins a comment; a line is

    allow user|group WHO bridge BRIDGE [taps N] [mac PREFIX|any]… [vlan N] [isolated] [rate RATE]
        [guard mac|ip] [ip IP]… [allow WORD[,WORD…]]

and of the lines for a bridge the first that fits a user decides, alone. Nobody is allowed who is not named. A file in
which one line cannot be read allows nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from tapbridge.broker.protocol import Attach
from tapbridge.core.filters import parse_allowed
from tapbridge.core.macs import PREFIX, check_mac
from tapbridge.core.rate import parse_rate
from tapbridge.core.vlans import VLAN
from tapbridge.model.errors import Forbidden, InvalidName, Refused
from tapbridge.model.noun import dataclass
from tapbridge.model.values import IfName, parse_found_name, parse_ip

BYTES: Final = 1 << 16
TAPS: Final = range(1, 1024)  # a bridge takes no more than 1,023 ports
_USAGE: Final = (
    "allow user|group WHO bridge BRIDGE [taps N] [mac PREFIX|any]… [vlan N] [isolated] [rate RATE] [guard mac|ip] "
    "[ip IP]… [allow WORD[,WORD…]]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line. `number` is a uid, or with `group` a gid; `macs` are prefixes of the addresses that a guest may have,
    empty for any, and then it may change it as it likes; `rate` is in bits per second, of each tap. `guard` is mac or
    ip, and `ips` are then what the guests may use; what is `allowed` they may do all the same (core/filters.py)."""

    line: int
    number: int
    group: bool
    bridge: IfName
    taps: int = 1
    macs: tuple[str, ...] = (PREFIX,)
    isolated: bool = False
    rate: int | None = None
    guard: str | None = None
    ips: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    vlan: int | None = None

    @property
    def held(self) -> bool:
        """Whether a guest is held to the one address that it asked for."""
        return bool(self.macs) and "macs" not in self.allowed


class Peer(NamedTuple):
    """Who is at the other end of a connection, by the kernel's word at the time of its connect(2)."""

    uid: int
    gids: Collection[int]


Number = Callable[[str], int]


def parse_policy(text: str, uid_of: Number, gid_of: Number) -> tuple[Rule, ...]:
    """Read a policy; the two functions find a user's and a group's number, or raise Refused. Raises Refused with the
    number of the line."""
    if len(text) > BYTES:
        raise Refused(f"the policy has more than {BYTES} characters", code="policy")
    rules = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        try:
            if not line.isascii():
                raise ValueError("a character that is not ASCII")
            if words:
                rules.append(_parse_rule(number, words, uid_of, gid_of))
        except (ValueError, InvalidName, Refused) as error:
            why = error.message if isinstance(error, Refused) else str(error)
            raise Refused(f"line {number} of the policy: {why}", hint=f"a line is: {_USAGE}", code="policy") from None
    return tuple(rules)


def _parse_rule(line: int, words: Sequence[str], uid_of: Number, gid_of: Number) -> Rule:
    if len(words) < 5 or words[0] != "allow" or words[1] not in ("user", "group") or words[3] != "bridge":
        raise ValueError("it does not say who is allowed on which bridge")
    rest = list(words[5:])
    taps: int | None = None
    macs: list[str] = []
    vlan: int | None = None
    isolated = False
    rate: int | None = None
    guard: str | None = None
    ips: list[str] = []
    allowed: tuple[str, ...] = ()
    while rest:
        word = rest.pop(0)
        if word == "isolated" and not isolated:
            isolated = True
        elif word == "taps" and rest and taps is None:
            taps = _parse_number(rest.pop(0), TAPS, "number of taps")
        elif word == "vlan" and rest and vlan is None:
            vlan = _parse_number(rest.pop(0), VLAN, "VLAN")
        elif word == "rate" and rest and rate is None:
            rate = parse_rate(rest.pop(0))
        elif word == "guard" and rest[:1] in (["mac"], ["ip"]) and guard is None:
            guard = rest.pop(0)
        elif word == "ip" and rest:
            ips.append(parse_ip(rest.pop(0))[1])
        elif word == "allow" and rest and not allowed:
            allowed = parse_allowed(rest.pop(0))
        elif word == "mac" and rest:
            macs.append(_parse_prefix(rest.pop(0)))
        else:
            raise ValueError(f"{word!r} is not expected there")
    if "any" in macs and len(macs) > 1:
        raise ValueError("mac any stands beside another mac")
    if "any" in macs and guard is not None:
        raise ValueError("a guest with any address cannot be guarded")
    if (guard == "ip") != bool(ips):
        raise ValueError("guard ip and ip belong together")
    if allowed and guard is None:
        raise ValueError("allow is for guests that are guarded")
    return Rule(
        line=line,
        number=gid_of(words[2]) if words[1] == "group" else uid_of(words[2]),
        group=words[1] == "group",
        bridge=parse_found_name(words[4]),
        taps=1 if taps is None else taps,
        macs=() if macs == ["any"] else tuple(macs) or (PREFIX,),
        isolated=isolated,
        rate=rate,
        guard=guard,
        ips=tuple(ips),
        allowed=allowed,
        vlan=vlan,
    )


def _parse_number(text: str, allowed: range, what: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else -1
    if number not in allowed:
        raise ValueError(f"{text!r} is no {what} from {allowed[0]} to {allowed[-1]}")
    return number


def _parse_prefix(text: str) -> str:
    words = text.split(":")
    known = all(len(word) == 2 and set(word) <= set("0123456789abcdef") for word in words)
    if text != "any" and (not known or len(words) > 6 or int(words[0], 16) & 1):
        raise ValueError(f"{text!r} begins no guest's Ethernet address: write it as in 52:54:00")
    return text


def decide(rules: Sequence[Rule], peer: Peer, asked: Attach, living: int) -> Rule:
    """The line that lets this request through; `living` is the number of taps that the user has on that bridge. Raises
    Forbidden, with the same words whether the network is there or not, and Refused for an impossible address."""
    rule = next((rule for rule in rules if rule.bridge == asked.network and _is_meant(rule, peer)), None)
    if rule is None:
        raise Forbidden(
            f"user {peer.uid} may not attach guests to {asked.network!r}",
            hint="root can allow it in the policy: tapbridge explain broker; or use --net user, which needs no rights",
            code="not-allowed",
            subject=asked.network,
        )
    if living >= rule.taps:
        raise Forbidden(
            f"user {peer.uid} has {living} tap{'s' * (living != 1)} on {asked.network!r} already, and may have no more",
            hint="end another guest first",
            code="over-quota",
            subject=asked.network,
        )
    _check_address(rule, asked)
    return rule


def _is_meant(rule: Rule, peer: Peer) -> bool:
    return rule.number in peer.gids if rule.group else rule.number == peer.uid


def _check_address(rule: Rule, asked: Attach) -> None:
    if asked.mac is None:
        if rule.macs:
            raise Forbidden(
                f"a guest on {asked.network!r} is held to one Ethernet address, and this request names none",
                hint="use tapbridge run, which does; or let root allow any address: mac any",
                code="mac-not-named",
                subject=asked.network,
            )
        return
    check_mac(asked.mac, {})
    if rule.macs and not any(f"{asked.mac}:".startswith(f"{prefix}:") for prefix in rule.macs):
        raise Forbidden(
            f"the address {asked.mac} is not allowed on {asked.network!r}: one begins with {' or '.join(rule.macs)}",
            hint="choose one that does: --mac-prefix makes one that stays the same, --mac takes a whole one",
            code="mac-not-allowed",
            subject=asked.mac,
        )
