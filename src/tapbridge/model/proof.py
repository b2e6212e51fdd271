"""Proof of life: who is asked before and after a change, what they answered, and the flows by which users are here."""

from __future__ import annotations

from typing import Literal

from tapbridge.model.noun import dataclass
from tapbridge.model.values import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Someone who is asked: the same before and after a change, whatever link leads there.

    `port` is the TCP or UDP port that is asked; a gateway is asked by ARP or ND and has none.
    """

    kind: Literal["gateway", "dns", "visitor"]
    family: Family
    ip: str
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How asking a target ended. `detail` says what came back, or why nothing did."""

    target: Target
    answered: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """An established TCP connection. An IPv4 address that an IPv6 socket has (::ffff:192.0.2.1) is one of IPv4."""

    family: Family
    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
