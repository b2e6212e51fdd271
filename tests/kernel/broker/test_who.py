"""Who may attach: the verb for each kind of user, also out of other namespaces."""

from __future__ import annotations

import json
import sys

import pytest

from kit.brokers import ALICE, BOB, EVE, KVM, Site, as_user
from kit.command import run

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


def test_the_policy_is_read_for_its_author_and_the_line_named(broker: Site) -> None:
    words = (sys.executable, "-m", "tapbridge", "broker", "--check", "--root", str(broker.folder), "--json")
    broker.write_policy(f"allow group {KVM} bridge br0 taps 3 isolated rate 5M guard ip ip 192.0.2.10 allow vlan")
    (rule,) = json.loads(run(*words).stdout)["rules"]
    assert (rule["uid"], rule["gid"], rule["bridge"], rule["taps"]) == (None, KVM, "br0", 3)
    assert (rule["isolated"], rule["rate"], rule["guard"]) == (True, 5_000_000, "ip")
    assert (rule["ips"], rule["allow"]) == (["192.0.2.10"], ["vlan"])
    path = broker.write_policy("# mine\nallow everybody everything\n")
    done = run(*words, check=False)
    (finding,) = json.loads(done.stdout)["findings"]
    assert done.returncode == 3
    assert f"{path}: line 2 of the policy" in finding["message"]
    path.chmod(0o666)
    assert "others than root" in run(*words, check=False).stdout


def test_one_broker_is_enough_and_a_user_can_start_none(broker: Site) -> None:
    words = (sys.executable, "-m", "tapbridge", "broker", "--root", str(broker.folder))
    assert run(*words, check=False).returncode == 3
    assert run(*as_user(ALICE), *words, check=False).returncode == 5
    assert broker.ask(as_user(ALICE)) == "lent tbtap0"


def test_a_folder_that_root_has_closed_is_open_for_those_who_ask(broker: Site) -> None:
    broker.stop()
    (broker.folder / "run/tapbridge").chmod(0o700)
    broker.start()
    assert broker.ask(as_user(ALICE)) == "lent tbtap0"
