"""Steps in any order: the model foretells what the kernel does, as long as the kernel does it."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.contract import pair_of
from tapbridge.model.errors import HostError
from tapbridge.model.state import (
    NOPREFIXROUTE,
    PERMANENT,
    PROTO_BOOT,
    PROTO_KERNEL,
    SCOPE_GLOBAL,
    SCOPE_LINK,
    Address,
    Bridge,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
)
from tapbridge.model.step import (
    AddLink,
    AddRoute,
    DeleteAddress,
    DeleteNeighbour,
    DeleteRoute,
    PutAddress,
    PutNeighbour,
    PutRoute,
    SetMaster,
    SetSysctl,
    SetUp,
    Step,
)
from tapbridge.model.values import IfName, Mac

BR = IfName("br0")
BRIDGE = AddLink(name=BR, kind="bridge", mac=Mac("02:00:00:00:00:01"), mtu=1500, bridge=Bridge(mcast_snooping=False))

# Linux 6.18 puts the end of the connected route into the past where an address that had none gets one.
_ENDING = {"fd00::2": 900, "fd01::2": 900}

# An IPv6 route by a gateway beside another of its slot becomes one of its ways: not modelled, so each has its slot.
_METRICS = {"nic0": 601, "nic1": 602, "br0": 603}

nics = st.sampled_from([IfName("nic0"), IfName("nic1")])
links = st.sampled_from([IfName("nic0"), IfName("nic1"), BR])
metrics = st.sampled_from([0, 7, 4000000])
lifetimes = st.sampled_from([None, 900])
addresses4 = st.builds(
    lambda link, ip, metric, life, plain: Address(
        link=link,
        family=4,
        ip=ip,
        prefix=24,
        label=link,
        metric=metric,
        flags=(0 if life else PERMANENT) | plain,
        valid_lft=life,
        preferred_lft=life,
    ),
    links,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "10.1.0.1", "192.0.2.1"]),
    metrics,
    lifetimes,
    st.sampled_from([0, NOPREFIXROUTE]),
)
addresses6 = st.builds(
    lambda link, ip, metric, plain: Address(
        link=link,
        family=6,
        ip=ip,
        prefix=64,
        metric=metric,
        scope=SCOPE_LINK if ip.startswith("fe80") else SCOPE_GLOBAL,
        flags=plain | (0 if ip in _ENDING else PERMANENT),
        valid_lft=_ENDING.get(ip),
        preferred_lft=_ENDING.get(ip),
    ),
    links,
    st.sampled_from(["fd00::1", "fd00::2", "fd01::1", "fd01::2", "fe80::1"]),
    metrics,
    st.sampled_from([0, NOPREFIXROUTE]),
)
addresses = addresses4 | addresses6
routes4 = st.builds(
    lambda link, dst, via, metric, source, proto: Route(
        family=4,
        dst=dst,
        metric=metric,
        protocol=proto,
        scope=SCOPE_GLOBAL if via else SCOPE_LINK,
        prefsrc=source,
        nexthops=(Nexthop(link=link, gateway=via),),
    ),
    links,
    st.sampled_from(["10.0.0.0/24", "0.0.0.0/0", "10.5.0.0/16"]),
    st.sampled_from([None, "10.0.0.254", "10.1.0.254"]),
    metrics,
    st.sampled_from([None, "10.0.0.1", "10.0.0.2"]),
    st.sampled_from([PROTO_KERNEL, PROTO_BOOT]),
)
routes6 = st.builds(
    lambda link, dst, via, metric, proto: Route(
        family=6,
        dst=dst,
        metric=600 + len(link) + int(link[-1]) if via else metric,
        protocol=proto,
        nexthops=(Nexthop(link=link, gateway=via),),
    ),
    links,
    st.sampled_from(["fd00::/64", "::/0", "fd05::/64"]),
    st.sampled_from([None, "fe80::ff"]),
    st.sampled_from([256, 512, 1024]),
    st.sampled_from([PROTO_KERNEL, PROTO_BOOT]),
)
routes = routes4 | routes6
neighbours = st.builds(
    lambda link, ip: Neighbour(
        link=link, family=6 if ":" in ip else 4, ip=ip, mac=Mac("02:00:00:00:00:99"), state=0x80
    ),
    links,
    st.sampled_from(["10.0.0.254", "10.1.0.9", "fe80::ff"]),
)
one_step: st.SearchStrategy[Step] = st.one_of(
    st.builds(PutAddress, address=addresses),
    st.builds(DeleteAddress, address=addresses),
    st.builds(PutRoute, route=routes),
    st.builds(AddRoute, route=routes),
    st.builds(AddRoute, route=routes4, first=st.just(True)),
    st.builds(DeleteRoute, route=routes),
    st.builds(PutNeighbour, neighbour=neighbours),
    st.builds(DeleteNeighbour, neighbour=neighbours),
    st.builds(SetMaster, link=nics, master=st.sampled_from([None, BR])),
    st.builds(SetUp, link=links, up=st.booleans()),
    st.builds(
        SetSysctl,
        sysctl=st.builds(
            Sysctl, link=links, stack=st.just("ipv4"), name=st.just("promote_secondaries"), value=st.integers(0, 1)
        ),
    ),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=150)
@given(st.lists(one_step, min_size=1, max_size=10))
def test_the_model_foretells_any_sequence(sequence: list[Step]) -> None:
    with pair_of() as pair:
        pair.perform(BRIDGE)
        for step in sequence:
            with suppress(HostError):  # what the kernel refuses, no plan may ask for
                pair.kernel.perform([step])
                pair.model.perform([step])
            pair.assert_same(step)
