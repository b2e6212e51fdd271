"""Rules that the host lives by: what --take-name keeps true, and what it does not."""

from __future__ import annotations

import pytest

from tapbridge.core.refuse import require_open_firewall
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt
from tapbridge.model.state import Attachment, Link, State
from tapbridge.model.values import IfName

NIC = IfName("eth0")


@pytest.mark.parametrize(
    ("kind", "take_name", "force", "refused"),
    [
        ("input-drop", False, False, True),
        ("input-drop", True, False, False),
        ("input-drop-by-number", False, False, True),
        ("input-drop-by-number", True, False, True),
        ("input-drop-by-number", True, True, False),
        ("nft-rule", False, False, False),
    ],
)
def test_a_rule_that_cuts_the_host_off_refuses(kind: str, take_name: bool, force: bool, refused: bool) -> None:
    rule = Attachment(link=NIC, kind=kind, detail="inet t i: … accept")
    link = Link(name=NIC, index=2)
    state = State(links=(link,), attachments=(rule,))
    intent = Adopt(nic=NIC, take_name=take_name, force=force)
    if refused:
        with pytest.raises(Refused, match="inet t i"):
            require_open_firewall(state, intent, link)
    else:
        assert require_open_firewall(state, intent, link) is None  # type: ignore[func-returns-value]
