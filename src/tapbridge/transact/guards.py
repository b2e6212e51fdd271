"""What stands beside a change that must be confirmed, as the transaction sees it."""

from __future__ import annotations

from collections.abc import Callable

from tapbridge.model.journal import Applied, Began
from tapbridge.model.noun import dataclass
from tapbridge.transact.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What stands beside a change that must be confirmed. `arm` returns when all are ready, or raises; `window` makes
    the record that begins the time for confirming, or None where the proof is enough; `disarm` ends them."""

    arm: Callable[[Journal, Began], None]
    window: Callable[[], Applied | None]
    disarm: Callable[[], None]
