"""A tap is a file: it has the address and the queues that were asked for, and it goes when the file is closed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.netns import in_netns
from tapbridge.linux import tun
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.values import Mac

MAC = Mac("fe:54:00:00:00:01")


@pytest.fixture(autouse=True)
def _netns() -> Iterator[None]:
    with in_netns():
        yield


def taps() -> dict[str, dict[str, Any]]:
    """The links but lo, by name, as iproute2 sees them."""
    links = json.loads(run("ip", "-d", "-j", "link").stdout)
    return {link["ifname"]: link for link in links if link["ifname"] != "lo"}


def test_a_tap_has_its_address_and_is_down() -> None:
    tap = tun.open_tap(MAC)
    assert list(taps()) == [tap.name] == ["tbtap0"]
    link = taps()[tap.name]
    assert (link["address"], link["operstate"], len(tap.descriptors)) == (MAC, "DOWN", 1)
    assert link["linkinfo"]["info_data"] == {
        "type": "tap", "pi": False, "vnet_hdr": True, "multi_queue": False, "persist": False,
    }  # fmt: skip
    assert not os.get_inheritable(tap.descriptors[0])
    tap.close()
    assert taps() == {}


def test_a_tap_has_as_many_files_as_queues() -> None:
    tap = tun.open_tap(MAC, queues=4)
    details = taps()[tap.name]["linkinfo"]["info_data"]
    assert (details["multi_queue"], details["numqueues"], details["user"]) == (True, 4, "root")
    assert len(set(tap.descriptors)) == 4
    for descriptor in tap.descriptors[:3]:
        os.close(descriptor)
    assert list(taps()) == [tap.name]
    os.close(tap.descriptors[3])
    assert taps() == {}


def test_the_kernel_gives_every_tap_a_name_of_its_own() -> None:
    one, other = tun.open_tap(MAC), tun.open_tap(MAC)
    assert {one.name, other.name} == {"tbtap0", "tbtap1"} == set(taps())
    one.close()
    other.close()


def test_a_tap_that_somebody_gives_another_address_has_its_own_again() -> None:
    tap = tun.open_tap(MAC)
    tap.keep_address()
    run("ip", "link", "set", tap.name, "address", "0a:73:99:90:0e:67")
    tap.keep_address()
    assert taps()[tap.name]["address"] == MAC
    run("ip", "link", "delete", tap.name)
    with pytest.raises(HostError, match=f"the tap {tap.name} cannot have its address {MAC}"):
        tap.keep_address()
    tap.close()


def test_nothing_is_left_of_a_tap_that_could_not_be_made() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="cannot be made"):
        tun.open_tap(Mac("01:00:5e:00:00:01"))
    assert taps() == {}
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_kernel_without_taps_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "TUN", str(tmp_path / "tun"))
    with pytest.raises(Refused, match="is missing") as refusal:
        tun.open_tap(MAC)
    assert "modprobe tun" in (refusal.value.hint or "")


def test_vhost_is_had_or_not() -> None:
    files = tun.open_vhost(2)
    assert (files is not None) == os.path.exists(tun.VHOST) == tun.has_vhost()
    for descriptor in files or ():
        os.close(descriptor)
