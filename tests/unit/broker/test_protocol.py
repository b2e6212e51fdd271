"""The protocol: what is said is what is understood, and nothing else is."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tapbridge.broker.protocol import (
    MESSAGE_BYTES,
    QUEUES,
    Attach,
    Malformed,
    dump_answer,
    dump_refusal,
    dump_request,
    parse_answer,
    parse_request,
)
from tapbridge.cli import qemu_bridge
from tapbridge.core.mark import GUEST_BYTES, LoanMark, find_guard, make_loan_mark, read_loan_mark
from tapbridge.core.rate import RATES
from tapbridge.core.topology import find_guest_name
from tapbridge.model.errors import Forbidden, HostError, Refused, TapbridgeError
from tapbridge.model.state import Link
from tapbridge.model.values import IfName, Mac

GOOD = Attach(IfName("br0"), "web", Mac("52:54:00:aa:00:01"), 2, False)
SHAPE = json.loads(dump_request(GOOD))


@given(
    st.builds(
        Attach,
        st.from_regex(r"[a-z][a-z0-9._-]{0,14}", fullmatch=True),
        st.none() | st.from_regex(r"[!-~]{1,128}", fullmatch=True),
        st.none() | st.from_regex(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", fullmatch=True),
        st.integers(1, QUEUES),
        st.booleans(),
        st.none() | st.integers(RATES[0], RATES[-1]),
    )
)
def test_a_request_is_understood(request: Attach) -> None:
    assert parse_request(dump_request(request)) == request


@pytest.mark.parametrize("vnet_hdr", [True, False])
def test_the_request_of_qemu_s_helper_is_understood(vnet_hdr: bool) -> None:
    assert parse_request(qemu_bridge.dump_request("br-lan.0", vnet_hdr)) == Attach(
        IfName("br-lan.0"), vnet_hdr=vnet_hdr
    )


@given(st.binary(max_size=300) | st.text().map(lambda text: json.dumps(SHAPE | {"guest": text}).encode()))
def test_any_bytes_are_a_request_or_malformed(message: bytes) -> None:
    try:
        guest = parse_request(message).guest or ""
    except Malformed:
        guest = ""
    assert guest.isprintable()


@pytest.mark.parametrize(
    "change",
    [
        {"verb": "detach"}, {"verb": None}, {"tap": "tap0"}, {"guest": ""}, {"guest": 7}, {"guest": " web"},
        {"guest": "\x1b[2J"}, {"guest": "x" * (GUEST_BYTES + 1)}, {"guest": "\ud800"}, {"mac": "52:54:00:AA:00:01"},
        {"mac": "52-54-00-aa-00-01"}, {"mac": 5}, {"mac": ""}, {"queues": 0}, {"queues": QUEUES + 1}, {"queues": True},
        {"queues": 1.0}, {"queues": "1"}, {"vnet_hdr": 1}, {"vnet_hdr": None}, {"network": None}, {"network": ""},
        {"network": "a b"}, {"network": "../br0"}, {"network": "br\x00"}, {"network": "bré"}, {"network": "x" * 128},
        {"rate": 5}, {"rate": "100M"}, {"rate": True}, {"rate": 1e6},
    ],
)  # fmt: skip
def test_what_is_no_request_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        parse_request(json.dumps(SHAPE | change).encode())


def test_a_key_that_is_missing_or_there_twice_or_too_much_of_everything_is_malformed() -> None:
    for key in SHAPE:
        with pytest.raises(Malformed):
            parse_request(json.dumps({name: value for name, value in SHAPE.items() if name != key}).encode())
    whole = dump_request(GOOD)
    for message in (whole[:-1] + b', "verb": "attach"}', whole + b" " * MESSAGE_BYTES, b"[" * 4000, b"\xff", b""):
        with pytest.raises(Malformed):
            parse_request(message)


@pytest.mark.parametrize("kind", [Forbidden, Refused])
def test_a_refusal_arrives_as_it_was_raised(kind: type[TapbridgeError]) -> None:
    with pytest.raises(kind) as raised:
        parse_answer(dump_refusal(kind("no", hint="ask", code="some-code")))
    assert (raised.value.message, raised.value.hint, raised.value.code) == ("no", "ask", "some-code")


def test_an_answer_is_a_name_or_an_error() -> None:
    assert parse_answer(dump_answer("tbtap0")) == "tbtap0"
    for message in (b"", b"{}", b"[]", dump_refusal(HostError("broken")), b'{"exit": [], "message": "x"}'):
        with pytest.raises(HostError):
            parse_answer(message)


@pytest.mark.parametrize("card", [None, Mac("52:54:00:aa:00:01")])
@pytest.mark.parametrize("guard", [None, "mac", "ip"])
@pytest.mark.parametrize("guest", [None, "web", "uid=0 pid=1 guest=x", "tapbridge", "a guard=mac guest=b"])
def test_the_mark_of_a_loan_is_read_as_it_was_written(guest: str | None, guard: str | None, card: Mac | None) -> None:
    mac = Mac("fe:54:00:aa:00:01")
    mark = LoanMark(uid=4294967294, pid=4194304, started=10**12, mac=mac, card=card, guest=guest, guard=guard)
    link = Link(name=IfName("tbtap0"), kind="tap", alias=make_loan_mark(mark))
    assert read_loan_mark(link) == mark
    assert (find_guest_name(link), find_guard(link)) == (guest, guard)
    assert link.ours
    longest = LoanMark(uid=2**32, pid=2**22, started=10**15, mac=mac, card=card, guest="x" * GUEST_BYTES, guard="mac")
    assert len(make_loan_mark(longest)) < 256


def test_another_alias_is_no_loan() -> None:
    for alias in (
        None,
        "",
        "tapbridge guest=web",
        "tapbridge broker",
        "tapbridge broker uid=-1 pid=1 started=1 guest=",
    ):
        assert read_loan_mark(Link(name=IfName("t"), kind="tap", alias=alias)) is None
