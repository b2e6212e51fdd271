"""Steps about wireless cards. A part of step.py."""

from __future__ import annotations

from tapbridge.model.noun import dataclass
from tapbridge.model.values import IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFourAddress:
    """Let a wireless station put four addresses into its frames, or three as before.

    `asked` are the IP addresses of neighbours whose answer shows that the access point goes along. Where it does not,
    the step fails, with three addresses again; on the way back the station joins its network anew, for the access
    point goes on with four until it has left.
    """

    link: IfName
    on: bool
    asked: tuple[str, ...] = ()
