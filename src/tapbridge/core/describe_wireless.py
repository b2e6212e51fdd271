"""What the steps about wireless cards are, in words: sentence, reason, and the command of iw and wpa_supplicant."""

from __future__ import annotations

import shlex

from tapbridge.model.step import SetFourAddress


def told_four_address(step: SetFourAddress) -> tuple[str, str, str]:
    """A station sends frames with four addresses, or with three."""
    line = shlex.join(["iw", "dev", step.link, "set", "4addr", "on" if step.on else "off"])
    if step.on:
        reason = "with three there is no place for a guest's, and the kernel takes no such card into a bridge"
        return f"let {step.link} send frames with four addresses", reason, line
    line += f"; {shlex.join(['wpa_cli', '-i', step.link, 'reattach'])}"
    reason = "it joins its network anew, for the access point goes on with four until it has left"
    return f"let {step.link} send frames with three addresses", reason, line
