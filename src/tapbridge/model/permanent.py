"""What a saved bridge leaves behind: which files make it come back at the next boot, and what they were before."""

from __future__ import annotations

from tapbridge.model.noun import dataclass
from tapbridge.model.state import File
from tapbridge.model.values import IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file of somebody's configuration: as it was, and as it was made. One that exists keeps its mode and owner."""

    before: File
    after: File


@dataclass(frozen=True, slots=True, kw_only=True)
class Permanent:
    """A bridge that the next boot makes again: by whose files (`keeper`), and all that it takes to forget it."""

    bridge: IfName
    nic: IfName
    keeper: str
    files: tuple[Written, ...]
