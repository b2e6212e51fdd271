"""What a plan takes away must be gone when it is read back."""

from __future__ import annotations

from tapbridge.core.verify import verify_gone
from tapbridge.model.plan import Plan
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName

NIC, BRIDGE = Link(name=IfName("eth0"), index=2), Link(name=IfName("br0"), index=3, kind="bridge")
KEEPER, OTHER = Link(name=IfName("tbkeep0"), index=4), Link(name=IfName("eth1"), index=5)
PLAN = Plan(
    command="up",
    stages=(),
    before=State(links=(NIC,)),
    after=State(links=(NIC, BRIDGE)),
    touched=("eth0", "br0", "tbkeep0"),
)


def test_scaffolding_that_is_still_there_is_told() -> None:
    (finding,) = verify_gone(PLAN, State(links=(NIC, BRIDGE, KEEPER))).findings
    assert (finding.code, finding.subject) == ("left-behind", "tbkeep0")


def test_links_that_the_plan_does_not_touch_are_nobody_s_scaffolding() -> None:
    assert verify_gone(PLAN, State(links=(NIC, BRIDGE, OTHER))).ok
