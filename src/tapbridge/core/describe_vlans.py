"""What the steps about VLANs are, in words: sentence, reason, and iproute2's command."""

from __future__ import annotations

from tapbridge.model.state import Vlans
from tapbridge.model.step import DeleteVlans, PutVlans, SetVlanFiltering

_Told = tuple[str, str, list[str]]


def told_filtering(step: SetVlanFiltering) -> _Told:
    """A bridge tells VLANs apart, or no more."""
    act = "tells VLANs apart" if step.on else "tells VLANs apart no more"
    reason = "frames without a tag pass all the while, those with one only between ports of their VLAN"
    words = ["ip", "link", "set", step.link, "type", "bridge", "vlan_filtering", str(int(step.on))]
    return f"{step.link} {act}", reason, words


def told_put(step: PutVlans) -> _Told:
    """A port gets into VLANs."""
    one = step.vlans
    words = ["bridge", "vlan", "add", "vid", _numbers(one), "dev", step.link]
    words += [word for word, on in (("pvid", one.pvid), ("untagged", one.untagged)) if on]
    how = " (without a tag)" if one.untagged else ""
    reason = "its frames reach the ports of that VLAN, and no others"
    return f"put {step.link} in VLAN {_numbers(one)}{how}", reason, words


def told_delete(step: DeleteVlans) -> _Told:
    """A port leaves VLANs."""
    words = ["bridge", "vlan", "del", "vid", _numbers(step.vlans), "dev", step.link]
    return f"take {step.link} out of VLAN {_numbers(step.vlans)}", "it is not to hear what is said there", words


def _numbers(vlans: Vlans) -> str:
    return str(vlans.first) if vlans.first == vlans.last else f"{vlans.first}-{vlans.last}"
