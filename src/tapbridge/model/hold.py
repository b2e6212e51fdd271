"""What holds a guest back on its tap."""

from __future__ import annotations

from tapbridge.model.noun import dataclass
from tapbridge.model.values import IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A tap, and what holds its guest. `rate`, in bits per second, is what neither direction exceeds; None where
    one of them is free. `guard` (mac or ip) is what the tap's alias speaks of, if its filter is there; if not, it
    is `lost`, and None where the kernel does not tell us."""

    link: IfName
    rate: int | None = None
    guard: str | None = None
    lost: bool | None = False
