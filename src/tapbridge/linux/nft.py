"""Rules of nf_tables that name a link, read by netlink (nft need not be installed).

A link's name or number gets into a rule by a `meta` expression, which loads it into a register, and a `cmp` or
`lookup` expression, which compares that register with a value or a set. On a host without tables one request of
less than a millisecond is the whole cost.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from tapbridge.linux.attributes import Malformed, decode_name, pack, walk, walk_each
from tapbridge.linux.questions import NETFILTER, dump
from tapbridge.model.state import Attachment
from tapbridge.model.values import IfName

# include/uapi/linux/netfilter/nf_tables.h; the subsystem is the upper byte of the message's type
_TABLES, _CHAINS, _RULES, _SETS, _ELEMENTS = (10 << 8 | number for number in (1, 4, 7, 10, 13))
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_TO_HOST: Final = frozenset({1, 2, 10})
_HOOKS: Final = {0: "prerouting", 1: "input", 3: "output", 4: "postrouting"}
_IIF, _OIF, _IIFNAME, _OIFNAME = 4, 5, 6, 7
_KEYS: Final = {_IIF: "iif", _OIF: "oif", _IIFNAME: "iifname", _OIFNAME: "oifname"}
_MARKS: Final = tuple(pack(2, key.to_bytes(4, "big")) for key in _KEYS)  # NFTA_META_KEY
_LEADING: Final = tuple(pack(1, code.to_bytes(4, "big", signed=True)) for code in (-3, -4))  # NFTA_VERDICT_CODE
_VERDICTS: Final = {0: "drop", 1: "accept", -3: "jump", -4: "goto", -5: "return"}
_SILENT: Final = frozenset({"counter", "log", "immediate", "reject", "target", "notrack"})
_SHOWN: Final = 20
_INTERVAL_END: Final = 1


class _Chain(NamedTuple):
    family: int
    table: str
    name: str
    hook: int | None
    filters: bool
    drops: bool
    links: tuple[str, ...]


class _Rule(NamedTuple):
    family: int
    table: str
    chain: str
    handle: int
    names: tuple[str, ...]  # how it names the link: `iifname "eth0"`
    negated: bool
    verdict: str
    targets: tuple[str, ...]
    unconditional: bool


class _Named(NamedTuple):
    """The link that is looked for."""

    name: str
    number: int

    def matches(self, key: int, value: bytes) -> bool:
        """Whether a value that is compared with that key is this link; a short name is a pattern's beginning."""
        if key in (_IIF, _OIF):
            return len(value) == 4 and struct.unpack("=I", value)[0] == self.number
        name = self.name.encode(errors="surrogateescape")
        return value.rstrip(b"\0") == name if value.endswith(b"\0") else name.startswith(value)


def observe_rules(links: Mapping[int, IfName]) -> list[Attachment]:
    """The rules that name the links, given by ifindex: `nft-rule` each, and `input-drop` once for a link whose own
    traffic lives by such a rule, because what is not accepted is dropped. Both have `-by-number` where the rule has
    the link's number instead of its name. Without CAP_NET_ADMIN: none."""
    try:
        if not dump(NETFILTER, _TABLES, bytes(4)):
            return []
        ruleset = _Ruleset()
    except PermissionError:
        return []
    return [item for index, name in links.items() for item in ruleset.attachments(_Named(name, index))]


class _Ruleset:
    """Chains and rules as the kernel has them; sets are asked for when a rule looks into one."""

    def __init__(self) -> None:
        self._chains = {
            (chain.family, chain.table, chain.name): chain
            for message in dump(NETFILTER, _CHAINS, bytes(4))
            if (chain := _decode_chain(message)) is not None
        }
        self._rules = dump(NETFILTER, _RULES, bytes(4))
        self._elements: dict[tuple[int, str, str], list[dict[int, bytes]]] = {}

    def attachments(self, link: _Named) -> Iterator[Attachment]:
        decoded = [self._decode(message, link) for message in self._rules if _may_name(message)]
        naming = [rule for rule in decoded if rule is not None and rule.names]
        name = IfName(link.name)
        for rule in naming[:_SHOWN]:
            yield Attachment(link=name, kind="nft-rule" + _by(rule), detail=_words(rule))
        if len(naming) > _SHOWN:
            yield Attachment(link=name, kind="nft-rule", detail=f"{len(naming) - _SHOWN} more rules")
        for chain in self._chains.values():
            if link.name in chain.links:
                words = f"chain {chain.name} of table {_FAMILIES.get(chain.family, '?')} {chain.table} hangs on it"
                yield Attachment(link=name, kind="nft-rule", detail=words)
        vital = {_by(rule): rule for rule in reversed(self._find_vital(naming, link))}
        for by, rule in vital.items():
            yield Attachment(link=name, kind="input-drop" + by, detail=_words(rule))

    def _find_vital(self, naming: list[_Rule], link: _Named) -> list[_Rule]:
        """The rules by which traffic of the host itself lives or dies, going by the link."""
        candidates = [rule for rule in naming if rule.family in _TO_HOST and _decides(rule)]
        if not candidates:
            return []
        leading = [rule for message in self._rules if _may_lead(message) and (rule := self._decode(message, link))]
        last = {_place(message): message for message in self._rules}
        vital = []
        for chain in self._chains.values():
            if chain.hook not in _HOOKS or not chain.filters:
                continue
            final = last.get(chain[:3])
            drops = chain.drops or (final is not None and _drops_all(self._decode(final, link)))
            reached = _reachable(chain, leading)
            wanted = ("iif", "iifname") if chain.hook in (0, 1) else ("oif", "oifname")
            vital += [
                rule
                for rule in candidates
                if (rule.family, rule.table) == (chain.family, chain.table)
                and rule.chain in reached
                and (drops or _refuses_others(rule))
                and any(test.split()[0] in wanted for test in rule.names)
            ]
        return vital

    def _decode(self, message: bytes, link: _Named) -> _Rule | None:
        try:
            fields = walk(message, 4)
            table, chain = decode_name(fields[1]), decode_name(fields[2])
            handle = int.from_bytes(fields[3], "big")
            expressions = [walk(part) for _, part in walk_each(fields.get(4, b""))]
        except (KeyError, Malformed):
            return None
        loaded: dict[int, int] = {}
        names: list[str] = []
        negated, verdict, targets, silent = False, "", [], True
        for expression in expressions:
            kind, parts = decode_name(expression.get(1, b"")), walk(expression.get(2, b""))
            silent = silent and kind in _SILENT
            if kind == "meta" and 1 in parts and _u32(parts.get(2)) in _KEYS:
                loaded[_register(parts[1])] = _u32(parts.get(2))
            elif kind == "cmp" and (key := loaded.get(_register(parts.get(1)))) is not None:
                if link.matches(key, walk(parts.get(3, b"")).get(1, b"")):
                    negated = negated or _u32(parts.get(2)) == 1
                    names.append(_test(key, link.name, "!= " if _u32(parts.get(2)) == 1 else ""))
            elif kind == "lookup" and loaded:
                hit, reached, what = self._look_up(message[0], table, parts, loaded, link)
                negated = negated or (hit is not None and bool(_u32(parts.get(5)) & 1))
                targets += reached
                verdict = what or verdict
                where = decode_name(parts.get(1, b""))
                names += [f"{_test(hit, link.name, '')} in {where}"] if hit is not None else []
            elif kind == "lookup":
                targets += self._jumps(message[0], table, parts)
            elif kind == "immediate" and (code := walk(walk(parts.get(2, b"")).get(2, b""))):
                verdict = _VERDICTS.get(_signed(code.get(1)), verdict)
                targets += [decode_name(code[2])] if 2 in code else []
            elif kind in ("reject", "target"):
                verdict = (
                    "drop" if kind == "reject" or decode_name(parts.get(1, b"")) in ("REJECT", "DROP") else verdict
                )
        return _Rule(message[0], table, chain, handle, tuple(names), negated, verdict, tuple(targets), silent)

    def _look_up(
        self, family: int, table: str, parts: dict[int, bytes], loaded: dict[int, int], link: _Named
    ) -> tuple[int | None, list[str], str]:
        """Which key of the link is found in a set, where the set's verdicts lead, and what it decides for the link."""
        first = _register(parts.get(2))
        hit, what = None, ""
        targets: list[str] = []
        elements = self._set(family, table, decode_name(parts.get(1, b"")))
        for element in elements:
            if _u32(element.get(3)) & _INTERVAL_END:
                continue
            verdict = walk(walk(element.get(2, b"")).get(2, b""))
            targets += [decode_name(verdict[2])] if 2 in verdict else []
            value = walk(element.get(1, b"")).get(1, b"")
            for register, key in loaded.items():
                size = 4 if key in (_IIF, _OIF) else 16
                start = (register - first) * 4
                part = value[start : start + size]
                inside = link.matches(key, part) or (key > _OIF and _in_interval(elements, part, link))
                if 0 <= start < len(value) and part and inside:
                    hit, what = key, _VERDICTS.get(_signed(verdict.get(1)), "") if verdict else what
        return hit, targets, what

    def _jumps(self, family: int, table: str, parts: dict[int, bytes]) -> list[str]:
        if 3 not in parts or _u32(parts[3]) != 0:  # only a verdict map writes to the verdict register
            return []
        elements = self._set(family, table, decode_name(parts.get(1, b"")))
        verdicts = [walk(walk(element.get(2, b"")).get(2, b"")) for element in elements]
        return [decode_name(verdict[2]) for verdict in verdicts if 2 in verdict]

    def _set(self, family: int, table: str, name: str) -> list[dict[int, bytes]]:
        place = (family, table, name)
        if place not in self._elements:
            request = (
                struct.pack("=BBH", family, 0, 0) + pack(1, table.encode() + b"\0") + pack(2, name.encode() + b"\0")
            )
            found = []
            for message in dump(NETFILTER, _ELEMENTS, request):
                found += [walk(part) for _, part in walk_each(walk(message, 4).get(3, b""))]
            self._elements[place] = found
        return self._elements[place]


def _decode_chain(message: bytes) -> _Chain | None:
    try:
        fields = walk(message, 4)
        hook = walk(fields[4]) if 4 in fields else {}
        links = [decode_name(hook[3])] if 3 in hook else []
        links += [decode_name(name) for _, name in walk_each(hook.get(4, b""))]
        return _Chain(
            family=message[0],
            table=decode_name(fields[1]),
            name=decode_name(fields[3]),
            hook=_u32(hook.get(1)) if hook else None,
            filters=decode_name(fields.get(7, b"")) == "filter",
            drops=5 in fields and _u32(fields[5]) == 0,
            links=tuple(dict.fromkeys(links)),
        )
    except (KeyError, Malformed):
        return None


def _may_name(message: bytes) -> bool:
    """A quick look at a rule as it came, by which most rules of a large ruleset are seen off."""
    return any(mark in message for mark in _MARKS)


def _may_lead(message: bytes) -> bool:
    """Whether a rule may jump: by a verdict of its own or by a map of verdicts."""
    return b"lookup\0" in message or any(code in message for code in _LEADING)


def _in_interval(elements: list[dict[int, bytes]], begin: bytes, link: _Named) -> bool:
    """Whether a name lies between an element of an interval set and the nearest end (`eth*` is from eth to eti)."""
    ends = [walk(x.get(1, b"")).get(1, b"") for x in elements if _u32(x.get(3)) & _INTERVAL_END]
    name = link.name.encode(errors="surrogateescape").ljust(16, b"\0")
    return begin <= name < min((end for end in ends if end > begin), default=begin)


def _decides(rule: _Rule) -> bool:
    return rule.verdict in ("accept", "jump", "goto") or bool(rule.targets) or _refuses_others(rule)


def _refuses_others(rule: _Rule) -> bool:
    """`iifname != "eth0" drop`: what arrives on a bridge is none of eth0."""
    return rule.negated and rule.verdict == "drop"


def _drops_all(rule: _Rule | None) -> bool:
    return rule is not None and rule.unconditional and rule.verdict == "drop"


def _place(message: bytes) -> tuple[int, str, str]:
    fields = walk(message, 4)
    return message[0], decode_name(fields.get(1, b"")), decode_name(fields.get(2, b""))


def _reachable(chain: _Chain, rules: list[_Rule]) -> set[str]:
    """The chains that a chain leads to, itself included."""
    reached, fresh = {chain.name}, {chain.name}
    while fresh:
        fresh = {
            target
            for rule in rules
            if (rule.family, rule.table) == (chain.family, chain.table) and rule.chain in fresh
            for target in rule.targets
        } - reached
        reached |= fresh
    return reached


def _by(rule: _Rule) -> str:
    """Told apart by the kind of attachment: a rule by number stays with the NIC when the bridge takes its name."""
    return "-by-number" if any(test.split()[0] in ("iif", "oif") for test in rule.names) else ""


def _words(rule: _Rule) -> str:
    """A rule for a reader: where it stands, how it names the link, what it does."""
    does = rule.verdict or "…"
    where = f"{_FAMILIES.get(rule.family, '?')} {rule.table} {rule.chain}"
    return f"{where}: {' '.join(rule.names)} … {does} (handle {rule.handle})"


def _test(key: int, name: str, sign: str) -> str:
    return f'{_KEYS[key]} {sign}"{name}"'


def _register(payload: bytes | None) -> int:
    """A register as the number of its first 4 bytes: NFT_REG_1 … 4 are 16 bytes each, NFT_REG32_00 … are 4."""
    number = _u32(payload)
    return number - 8 if number >= 8 else (number - 1) * 4


def _u32(payload: bytes | None) -> int:
    return int.from_bytes(payload[:4], "big") if payload else 0


def _signed(payload: bytes | None) -> int:
    return int.from_bytes(payload[:4], "big", signed=True) if payload else 0
