"""Asking those who know best: QEMU for the cards that its command line does not tell, and agents for their guests'
addresses. Whoever does not answer at once is done without."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tapbridge.guests.procfs import PROC, find_namespace
from tapbridge.model.noun import replace

if TYPE_CHECKING:
    from tapbridge.guests.cmdline import Netdev
    from tapbridge.guests.join import Holder
    from tapbridge.model.guest import Guest, Sighting


def consult(holders: Sequence[Holder]) -> tuple[Sequence[Holder], dict[int, tuple[Sighting, ...]]]:
    """The holders, with what QEMU says of their cards; and what each one's agent says, by the holder's PID."""
    if not any(_monitors(holder) or holder.launch.agents for holder in holders):
        return holders, {}
    from tapbridge.guests import agent, monitor
    from tapbridge.guests.ask import Question, ask

    number = int.from_bytes(os.urandom(4), "big") >> 1
    asked = [(holder.process.pid, path, monitor.QUESTION) for holder in holders for path in _monitors(holder)[:1]]
    asked += [
        (holder.process.pid, path, agent.question(number)) for holder in holders for path in holder.launch.agents[:1]
    ]
    questions = [Question(pid=pid, path=_reach(pid, path), text=text) for pid, path, text in asked]
    answers = list(zip(questions, ask(questions), strict=True))
    cards = {q.pid: monitor.read_cards(told) for q, told in answers if q.text == monitor.QUESTION}
    agents = {q.pid: agent.read_agent(told, number) for q, told in answers if q.text != monitor.QUESTION}
    return [_completed(holder, cards.get(holder.process.pid, ())) for holder in holders], agents


def said_by_agents(guests: Iterable[Guest], agents: Mapping[int, Iterable[Sighting]]) -> Iterator[Sighting]:
    """What agents say of their own guests' NICs."""
    for guest in guests:
        for sighting in agents.get(guest.pid or 0, ()):
            for nic in guest.nics:
                if nic.mac == sighting.mac:
                    yield replace(sighting, link=nic.link)


def _monitors(holder: Holder) -> tuple[str, ...]:
    """Where to ask for cards. A monitor serves one at a time: nobody's is taken for what its command line tells."""
    taps = {(holding.link, holding.index) for holding in holder.holdings}
    known = sum(netdev.mac_source == "command-line" for netdev in holder.launch.netdevs)
    return holder.launch.monitors if known < len(taps) else ()


def _completed(holder: Holder, cards: Sequence[Netdev]) -> Holder:
    if not cards:
        return holder
    certain = [netdev for netdev in holder.launch.netdevs if netdev.mac_source == "command-line"]
    macs = {netdev.mac for netdev in certain}
    told = [card for card in cards if card.mac not in macs]
    return replace(holder, launch=replace(holder.launch, netdevs=(*certain, *told)))


def _reach(pid: int, path: str) -> str:
    """The path as this process has to write it: a guest in a mount namespace of its own has files of its own."""
    theirs = find_namespace("mnt", f"{PROC}/{pid}")
    return path if theirs in (find_namespace("mnt"), None) else f"{PROC}/{pid}/root{path}"
