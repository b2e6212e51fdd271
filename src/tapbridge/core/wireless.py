"""A wireless station as the uplink: with four addresses in its frames, where the access point takes them.

The mode is switched first of all, while nothing else has been touched, and the step itself finds out whether the access
point goes along. On the way back it is the other way round: the kernel keeps four addresses for as long as the card
is a port, and the card joins its network anew, so that comes last.
"""

from __future__ import annotations

from typing import Final

from tapbridge.core.proof import targets
from tapbridge.core.transfer import learnt_neighbours
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt
from tapbridge.model.state import Link, State
from tapbridge.model.step import SetFourAddress
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity

_MOST_ASKED: Final = 4


def needs_four_addresses(nic: Link) -> bool:
    """Whether the kernel would not take the card into a bridge as it is."""
    return nic.kind == "wifi" and not nic.four_address


def with_four_addresses(state: State, nic: Link) -> SetFourAddress:
    """The step that makes a station fit for a bridge, if the access point takes that."""
    return SetFourAddress(link=nic.name, on=True, asked=witnesses(state, nic.name))


def with_three_addresses(state: State, carrier: IfName, nic: IfName) -> SetFourAddress:
    """The step of the way back. `carrier` is the link that has the host's routes in `state`."""
    return SetFourAddress(link=nic, on=False, asked=witnesses(state, carrier))


def witnesses(state: State, link: IfName) -> tuple[str, ...]:
    """Whose answer shows that frames come and go through a link: its gateways, or whom it knows."""
    gateways = (target.ip for target in targets(state, link, gateways_only=True))
    known = (neighbour.ip for neighbour in learnt_neighbours(state, link, link))
    return tuple(gateways) or tuple(dict.fromkeys(known))[:_MOST_ASKED]


def require_station(intent: Adopt, state: State, nic: Link) -> None:
    """Whether this NIC is a station, and frames with four addresses can be seen to arrive. Raises Refused."""
    if nic.kind != "wifi":
        raise Refused(
            f"{nic.name} is no Wi-Fi station, and needs no frames with four addresses",
            hint=f"leave --4addr out: tapbridge up {nic.name}",
            code="not-wireless",
            subject=nic.name,
        )
    if intent.take_name:
        raise Refused(
            f"{nic.name} cannot give its name away: the supplicant that keeps it in its network knows it by that",
            hint=f"leave --take-name out: the bridge is then called {intent.bridge}",
            code="not-built",
            subject=nic.name,
        )
    if needs_four_addresses(nic) and not witnesses(state, nic.name):
        raise Refused(
            f"{nic.name} has no gateway and knows no neighbour, so nobody could tell whether the access point takes "
            "frames with four addresses",
            hint="give it an address and a route, see that a neighbour answers (ping), and try again",
            code="nobody-to-ask",
            subject=nic.name,
        )


def station_risks(nic: Link, intent: Adopt) -> tuple[Finding, ...]:
    """What to know of switching a station to four addresses and back."""
    if not intent.four_address or not needs_four_addresses(nic):
        return ()
    message = (
        f"what {nic.name} sends is lost until the access point has got ready for four addresses; if it does not take "
        "them, that is 2.5 s. tapbridge down joins the network anew, in about a second"
    )
    return (Finding(code="four-addresses", severity=Severity.INFO, subject=nic.name, message=message),)
