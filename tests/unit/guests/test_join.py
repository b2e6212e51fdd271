"""Links, holders and sightings become guests."""

from __future__ import annotations

from typing import Any

from tapbridge.guests.cmdline import Launch, Netdev
from tapbridge.guests.findings import duplicates, elsewhere, hidden_holders, unguarded
from tapbridge.guests.join import Holder, join, place
from tapbridge.guests.procfs import Holding, Process
from tapbridge.model.guest import Guest, GuestNic, Sighting
from tapbridge.model.hold import Hold
from tapbridge.model.noun import replace
from tapbridge.model.state import Bridge, ForwardingEntry, Link, State, Vlans
from tapbridge.model.values import IfName, Mac

MAC = Mac("52:54:00:aa:bb:01")
OTHER = Mac("52:54:00:aa:bb:02")


def tap(name: str, bridge: str | None = "br0", **more: Any) -> Link:
    kind = {"kind": "tap", "up": True, "carrier": True, "master_kind": "bridge" if bridge else None}
    return Link(name=IfName(name), master=IfName(bridge) if bridge else None, **{**kind, **more})


def holder(pid: int, *holdings: tuple[int, str | int], launch: Launch | None = None, **more: Any) -> Holder:
    said: dict[str, Any] = {"uid": 1000, "comm": "vmm", "program": "vmm", "started": pid, "netns": (4, 1)}
    return Holder(
        process=Process(pid=pid, argv=(), **{**said, **more}),
        launch=launch or Launch(),
        holdings=tuple(
            Holding(pid=pid, fd=fd, link=what) if isinstance(what, str) else Holding(pid=pid, fd=fd, index=what)
            for fd, what in holdings
        ),
    )


def qemu(*netdevs: Netdev, name: str | None = None) -> Launch:
    return Launch(hypervisor="qemu", name=name, netdevs=netdevs)


def netdev(mac: str | None = None, **more: Any) -> Netdev:
    return Netdev(mac=Mac(mac) if mac else None, mac_source="command-line" if mac else None, **more)


def state(*links: Link, **more: Any) -> State:
    return State(links=links, **more).sorted()


def seen(mac: Mac, ip: str, source: str, **more: Any) -> Sighting:
    return Sighting(mac=mac, family=6 if ":" in ip else 4, ip=ip, source=source, **more)


def macs(guest: Guest) -> dict[str, str | None]:
    return {nic.link: nic.mac for nic in guest.nics}


def test_three_nics_of_one_guest_have_their_macs_by_name_by_descriptor_and_by_elimination() -> None:
    launch = qemu(netdev("52:54:00:00:00:0c"), netdev("52:54:00:00:00:0b", fds=(8, 9)), netdev(OTHER, ifname="ta"))
    found = join(
        state(tap("ta"), tap("tb"), tap("tc")),
        [holder(7, (5, "tc"), (8, "tb"), (9, "tb"), (4, "ta"), launch=launch)],
        {},
    )
    assert len(found) == 1
    assert macs(found[0]) == {"ta": OTHER, "tb": "52:54:00:00:00:0b", "tc": "52:54:00:00:00:0c"}


def test_what_two_taps_could_be_is_not_guessed() -> None:
    launch = qemu(netdev(MAC), netdev(OTHER))
    found = join(state(tap("ta"), tap("tb")), [holder(7, (4, "ta"), (5, "tb"), launch=launch)], {})
    assert macs(found[0]) == {"ta": None, "tb": None}


def test_a_tap_that_udev_has_given_an_address_is_matched_by_its_file() -> None:
    named = tap("ta", mac=Mac("0a:73:99:90:0e:67"), alias="tapbridge guest=web")
    found = join(state(named), [holder(7, (9, "ta"), launch=qemu(netdev(MAC, fds=(9,))))], {})
    assert macs(found[0]) == {"ta": MAC}


def test_a_tap_that_was_plugged_in_later_is_not_taken_for_one_whose_file_had_its_number() -> None:
    plugged = tap("tb", mac=Mac("fe" + OTHER[2:]), alias="tapbridge guest=web")
    for fds in ((5,), (9,)):
        found = join(state(plugged), [holder(7, (5, "tb"), launch=qemu(netdev(MAC, fds=fds)))], {})
        assert macs(found[0]) == {"tb": None}


def test_our_mark_names_a_guest_before_its_command_line_and_that_before_its_program() -> None:
    marked, bare = tap("ta", alias="tapbridge guest=the web"), tap("ta")
    named = holder(7, (4, "ta"), launch=qemu(name="other"))
    assert join(state(marked), [named], {})[0].name == "the web"
    assert join(state(bare), [named], {})[0].name == "other"
    assert join(state(bare), [holder(7, (4, "ta"), comm="openvpn", program="openvpn2")], {})[0].name == "openvpn"


def test_of_a_launcher_and_its_guest_the_guest_is_the_holder() -> None:
    launcher = holder(9, (4, "ta"), (5, "tb"))
    guests = join(
        state(tap("ta"), tap("tb")),
        [launcher, holder(7, (4, "ta"), launch=qemu(name="a")), holder(8, (5, "tb"), launch=qemu(name="b"))],
        {},
    )
    assert [(guest.name, guest.pid) for guest in guests] == [("a", 7), ("b", 8)]


def test_of_two_unknown_holders_the_younger_is_the_guest() -> None:
    guests = join(state(tap("ta")), [holder(7, (4, "ta"), started=1), holder(6, (4, "ta"), started=2)], {})
    assert [guest.pid for guest in guests] == [6]


def test_a_tap_that_nobody_holds_is_a_guest_without_a_process() -> None:
    guests = join(state(tap("ta"), tap("tb", alias="tapbridge guest=web")), [], {})
    assert [(guest.name, guest.pid, guest.nics[0].link) for guest in guests] == [
        (None, None, "ta"),
        ("web", None, "tb"),
    ]


def test_a_tap_of_the_name_of_another_kind_of_link_is_nobody_s() -> None:
    veth = tap("ta", kind="veth")
    assert join(state(veth), [holder(7, (4, "ta"))], {}) == ()


def test_traffic_is_counted_from_the_guest_s_side() -> None:
    macvtap = tap("mt", None, kind="macvtap", index=6, mac=MAC)
    guests = join(state(tap("ta"), macvtap), [holder(7, (4, "ta"), (5, 6))], {"ta": (1, 20), "mt": (300, 4)})
    assert {nic.link: (nic.rx_bytes, nic.tx_bytes) for nic in guests[0].nics} == {"ta": (20, 1), "mt": (300, 4)}
    assert macs(guests[0]) == {"ta": None, "mt": MAC}


def learnt(*macs: Mac, local: bool = False) -> tuple[ForwardingEntry, ...]:
    return tuple(ForwardingEntry(bridge=IfName("br0"), port=IfName("ta"), mac=mac, local=local) for mac in macs)


def test_the_one_mac_that_the_bridge_has_learnt_is_the_guest_s() -> None:
    own = learnt(Mac("fe:00:00:00:00:01"), local=True)
    one = join(state(tap("ta"), forwarding=own + learnt(MAC)), [], {})[0].nics[0]
    assert (one.mac, one.mac_source) == (MAC, "forwarding")
    two = join(state(tap("ta"), forwarding=own + learnt(MAC, OTHER)), [], {})[0].nics[0]
    assert (two.mac, two.mac_source) == (None, None)


def placed(links: State, *sightings: Sighting, mac: Mac | None = MAC) -> dict[str, list[tuple[str, str]]]:
    guests = join(links, [holder(7, (4, "ta"), launch=qemu(netdev(mac, ifname="ta")))], {})
    return {
        nic.link: [(item.ip, item.source) for item in nic.addresses]
        for guest in place(guests, sightings, links)
        for nic in guest.nics
    }


def test_an_address_belongs_to_whoever_has_its_mac() -> None:
    found = placed(state(tap("ta")), seen(MAC, "192.0.2.1", "lease"), seen(OTHER, "192.0.2.2", "lease"))
    assert found == {"ta": [("192.0.2.1", "lease")]}


def test_a_neighbour_counts_on_the_guest_s_own_segment() -> None:
    vlan = Link(name=IfName("br0.5"), kind="vlan", parent=IfName("br0"))
    links = state(tap("ta"), vlan, Link(name=IfName("br1"), kind="bridge"))
    where = {"192.0.2.1": "br0", "192.0.2.2": "br0.5", "192.0.2.3": "br1", "192.0.2.4": "ta"}
    found = placed(links, *(seen(MAC, ip, "neighbour", link=IfName(link)) for ip, link in where.items()))
    assert [ip for ip, _ in found["ta"]] == ["192.0.2.1", "192.0.2.2", "192.0.2.4"]


def test_on_a_bridge_that_tells_vlans_apart_a_neighbour_counts_in_the_guest_s_own() -> None:
    own, seven = Vlans(first=1, last=1, pvid=True, untagged=True), Vlans(first=7, last=7, pvid=True, untagged=True)
    bridge = Link(name=IfName("br0"), kind="bridge", bridge=Bridge(vlan_filtering=True), vlans=(own,))
    stacked = [Link(name=IfName(f"br0.{n}"), kind="vlan", parent=IfName("br0"), vlan_id=n) for n in (7, 8)]
    where = {"192.0.2.1": "br0", "192.0.2.7": "br0.7", "192.0.2.8": "br0.8"}
    heard = [seen(MAC, ip, "neighbour", link=IfName(link)) for ip, link in where.items()]
    for vlans, ips in (
        ((own,), ["192.0.2.1"]),
        ((seven,), ["192.0.2.7"]),
        ((own, Vlans(first=7, last=9)), list(where)),
    ):
        found = placed(state(bridge, *stacked, tap("ta", vlans=vlans)), *heard)
        assert [ip for ip, _ in found["ta"]] == ips


def test_what_another_guest_says_with_our_mac_is_not_ours() -> None:
    links = state(tap("ta"), tap("tb"))
    found = placed(links, seen(MAC, "192.0.2.9", "arp", link=IfName("tb"), age=0.0))
    assert found["ta"] == []
    assert found["tb"] == [("192.0.2.9", "arp")]


def test_an_address_has_its_best_source_and_what_the_others_add() -> None:
    links = state(tap("ta"))
    here = {"link": IfName("ta")}
    guests = join(links, [holder(7, (4, "ta"), launch=qemu(netdev(MAC, ifname="ta")))], {})
    sightings = [
        seen(MAC, "192.0.2.1", "neighbour", link=IfName("br0")),
        seen(MAC, "192.0.2.1", "lease", dynamic=True, valid_lft=60),
        seen(MAC, "192.0.2.1", "arp", age=2.0, **here),
        seen(MAC, "fe80::1", "nd", age=1.0, **here),
        seen(MAC, "2001:db8::1", "nd", age=1.0, **here),
    ]
    addresses = place(guests, sightings, links)[0].nics[0].addresses
    assert [item.ip for item in addresses] == ["192.0.2.1", "2001:db8::1", "fe80::1"]
    assert addresses[0] == seen(MAC, "192.0.2.1", "arp", age=2.0, dynamic=True, valid_lft=60, **here)


def test_a_mac_that_was_heard_alone_on_a_tap_is_its_guest_s() -> None:
    links = state(tap("ta"))
    here = {"link": IfName("ta"), "age": 0.0}
    assert placed(links, seen(MAC, "192.0.2.1", "arp", **here), mac=None) == {"ta": [("192.0.2.1", "arp")]}
    two = (seen(MAC, "192.0.2.1", "arp", **here), seen(OTHER, "192.0.2.2", "arp", **here))
    assert placed(links, *two, mac=None) == {"ta": []}


def two_guests(mac: Mac, other: Mac, bridge: str = "br0") -> tuple[Guest, ...]:
    links = state(tap("ta"), tap("tb", bridge))
    holders = [
        holder(7, (4, "ta"), launch=qemu(netdev(mac, ifname="ta"), name="a")),
        holder(8, (4, "tb"), launch=qemu(netdev(other, ifname="tb"), name="b")),
    ]
    return place(join(links, holders, {}), [seen(mac, "192.0.2.1", "lease"), seen(other, "192.0.2.1", "lease")], links)


def test_two_guests_with_one_mac_are_both_named() -> None:
    (finding,) = duplicates(two_guests(MAC, MAC), {})
    assert (finding.code, finding.subject) == ("duplicate-mac", MAC)
    assert finding.evidence == ("a (ta, PID 7)", "b (tb, PID 8)")


def test_two_guests_with_one_address_are_both_named() -> None:
    (finding,) = duplicates(two_guests(MAC, OTHER), {})
    assert (finding.code, finding.subject) == ("duplicate-ip", "192.0.2.1")
    assert finding.evidence == (f"a (ta, PID 7), {MAC}", f"b (tb, PID 8), {OTHER}")


def test_two_guests_with_one_client_id_are_both_named_and_two_cards_of_one_are_not() -> None:
    a, b = two_guests(MAC, OTHER)
    a, b = (replace(guest, nics=tuple(_known(nic, ip) for nic in guest.nics)) for guest, ip in ((a, "1"), (b, "2")))
    (finding,) = duplicates([a, b], {})
    assert (finding.code, finding.subject) == ("duplicate-client-id", "ff:01")
    assert finding.evidence == ("a (ta, PID 7)", "b (tb, PID 8)")
    assert duplicates([replace(a, nics=(*a.nics, *b.nics))], {}) == ()


def _known(nic: GuestNic, ip: str) -> GuestNic:
    assert nic.mac is not None
    return replace(nic, addresses=(seen(nic.mac, f"192.0.2.{ip}", "lease", client_id="ff:01"),))


def test_macvtaps_of_one_nic_are_on_one_wire() -> None:
    a, b = two_guests(MAC, OTHER)
    a, b = (
        replace(guest, nics=tuple(replace(nic, bridge=None, kind="macvtap") for nic in guest.nics)) for guest in (a, b)
    )
    eth0, eth1 = IfName("eth0"), IfName("eth1")
    (finding,) = duplicates([a, b], {IfName("ta"): eth0, IfName("tb"): eth0})
    assert (finding.code, finding.subject) == ("duplicate-ip", "192.0.2.1")
    assert duplicates([a, b], {IfName("ta"): eth0, IfName("tb"): eth1}) == ()
    assert duplicates([a, b], {}) == ()


def test_on_two_bridges_the_same_address_may_be_right() -> None:
    assert duplicates(two_guests(MAC, MAC, "br1"), {}) == ()


def test_in_two_vlans_the_same_address_may_be_right_and_in_one_it_is_not() -> None:
    def in_vlans(*numbers: int) -> list[Guest]:
        both = zip(two_guests(MAC, MAC), numbers, strict=True)
        return [replace(guest, nics=(replace(guest.nics[0], vlan=number),)) for guest, number in both]

    assert duplicates(in_vlans(7, 8), {}) == ()
    (finding,) = duplicates(in_vlans(7, 7), {})
    assert "2 guests on br0 in VLAN 7 have the MAC" in finding.message


def test_what_holds_a_guest_is_shown_with_it_and_a_guard_that_is_lost_is_told() -> None:
    holds = (Hold(link=IfName("ta"), rate=5_000_000, guard="ip"), Hold(link=IfName("tb"), lost=True))
    access = Vlans(first=7, last=7, pvid=True, untagged=True)
    links = state(tap("ta", vlans=(access,)), tap("tb"), tap("tc", None), holds=holds)
    guests = join(links, [holder(7, (4, "ta"), launch=qemu(name="web")), holder(8, (4, "tb"))], {})
    nics = [nic for guest in guests for nic in guest.nics]
    assert {nic.link: (nic.vlan, nic.rate, nic.guard) for nic in nics} == {
        "ta": (7, 5_000_000, "ip"),
        "tb": (None, None, None),
        "tc": (None, None, None),
    }
    (finding,) = unguarded(guests, links)
    assert (finding.code, finding.subject, finding.evidence) == ("guard-lost", "tb", ())
    assert finding.message.startswith("vmm (tb, PID 8) is not guarded any more")
    both = replace(links, holds=tuple(Hold(link=IfName(name), lost=True) for name in ("ta", "tb", "tc")))
    (finding,) = unguarded(guests, both)
    assert finding.evidence == ("vmm (tb, PID 8)", "web (ta, PID 7)"), "who is on no bridge reaches nobody"
    (finding,) = unguarded(guests, replace(links, holds=(Hold(link=IfName("ta"), lost=None),)))
    assert (finding.code, finding.subject) == ("guards-hidden", "ta")


def test_a_tap_in_use_whose_holder_cannot_be_seen_is_told() -> None:
    links = state(tap("ta"), tap("tb", carrier=False), tap("tc"))
    guests = join(links, [holder(7, (4, "ta"))], {})
    (finding,) = hidden_holders(guests, links, root=False)
    assert (finding.subject, finding.fix) == ("tc", "sudo tapbridge ps")


def test_holders_of_another_namespace_s_taps_are_told() -> None:
    assert elsewhere([]) == ()
    (finding,) = elsewhere([4711, 4712])
    assert "2 guests" in finding.message
    assert finding.fix is not None
    assert "/proc/4711/ns/net" in finding.fix
