"""What the owner of a link needs done when its place moves: the one place where plans and owners meet."""

from __future__ import annotations

from collections.abc import Mapping

from tapbridge.core.adopt import HandOver
from tapbridge.model.state import State
from tapbridge.model.values import IfName


def hand_over(
    state: State,
    source: IfName,
    target: IfName,
    *,
    port: IfName,
    bridge: IfName,
    force: bool,
    written: Mapping[str, str | None] | None = None,
) -> HandOver:
    """The steps of the owner of `source`, if it has one, that make it the owner of `target`.

    `port` is what the NIC is called as a port, `bridge` what the bridge is called before it has its name or after it
    had it; `written` are files as a plan before this one will have left them. Raises Refused for an owner whose
    hand-over is not built, unless forced.
    """
    from tapbridge.linux.files import find_text
    from tapbridge.linux.processes import in_our_netns
    from tapbridge.linux.programs import ask
    from tapbridge.owners import table

    def read(path: str) -> str | None:
        return written[path] if written and path in written else find_text(path)

    owner, of_boot = table.find_owner(state, source), in_our_netns(1)
    return table.hand_over(
        owner,
        state,
        source,
        target,
        port=port,
        bridge=bridge,
        read=read,
        ask=ask,
        force=force,
        of_boot=of_boot,
    )
