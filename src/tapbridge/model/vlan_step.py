"""Steps about VLANs. A part of step.py."""

from __future__ import annotations

from tapbridge.model.noun import dataclass
from tapbridge.model.state import Vlans
from tapbridge.model.values import IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVlanFiltering:
    """Let a bridge tell VLANs apart, or not any more. Frames without a tag pass all the while."""

    link: IfName
    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PutVlans:
    """Put a port in VLANs, or change how it is in them. A port has one `pvid`: the last that was put."""

    link: IfName
    vlans: Vlans


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVlans:
    """Take a port out of VLANs."""

    link: IfName
    vlans: Vlans
