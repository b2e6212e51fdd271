"""Who may attach: the verb for each kind of user, also out of other namespaces."""

from __future__ import annotations

import pytest

from kit.brokers import ALICE, BOB, EVE, KVM, Site, as_user

POLICY = f"allow user {ALICE} bridge br0\nallow group {KVM} bridge br0\n"
ROOT_THERE = ("unshare", "--user", "--map-root-user")
OUTSIDE = "refused 5 not-allowed"
WHO = {
    "root": ((), OUTSIDE),
    "granted-uid": (as_user(ALICE), "lent tbtap0"),
    "granted-gid": (as_user(BOB, KVM, 4), "lent tbtap0"),
    "granted-gid-among-many": (as_user(BOB, *range(200), KVM), "lent tbtap0"),
    "stranger": (as_user(EVE, 4), OUTSIDE),
    "granted-uid-as-root-of-a-user-namespace": ((*as_user(ALICE), *ROOT_THERE), "lent tbtap0"),
    "stranger-as-root-of-a-user-namespace": ((*as_user(EVE), *ROOT_THERE), OUTSIDE),
    "granted-uid-in-another-network": ((*as_user(ALICE), *ROOT_THERE, "--net"), OUTSIDE),
    "granted-gid-in-another-network": (("unshare", "--net", *as_user(BOB, KVM)), OUTSIDE),
    "root-in-another-network": (("unshare", "--net"), OUTSIDE),
    "granted-uid-in-another-pid-namespace": (("unshare", "--pid", "--fork", *as_user(ALICE)), "lent tbtap0"),
}


@pytest.mark.parametrize("who", WHO)
def test_attach(broker: Site, who: str) -> None:
    broker.write_policy(POLICY)
    prefix, expected = WHO[who]
    assert broker.ask(prefix) == expected
    assert broker.ask(prefix, "br1") == OUTSIDE


def test_root_is_asked_for_no_more_and_no_less_than_a_line_of_its_own(broker: Site) -> None:
    broker.write_policy("allow user root bridge br0")
    assert broker.ask(()) == "lent tbtap0"


def test_the_policy_holds_from_the_next_request_on(broker: Site) -> None:
    broker.write_policy("")
    assert broker.ask(as_user(ALICE)) == OUTSIDE
    path = broker.write_policy(POLICY)
    assert broker.ask(as_user(ALICE)) == "lent tbtap0"
    for mode in (0o666, 0o664):
        path.chmod(mode)
        assert broker.ask(as_user(BOB, KVM)) == OUTSIDE
    assert "others than root may change the policy" in broker.log
    path.chmod(0o600)
    assert broker.ask(as_user(BOB, KVM), mac="52:54:00:aa:00:02") == "lent tbtap1"
