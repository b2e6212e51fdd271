"""Clients that send garbage, flood, or sleep: the broker serves the others, and neither grows nor leaks."""

from __future__ import annotations

import array
import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from kit.brokers import ALICE, Site, as_user, taps, until
from kit.tally import WHOLE
from tapbridge.broker.protocol import MESSAGE_BYTES, Attach, dump_request
from tapbridge.broker.server import CLIENTS_EACH, SILENCE_S
from tapbridge.model.values import IfName, Mac

GOOD_LIMIT_S = 0.5
EXAMPLES = 1500
SPOILT = 1_000_000 if WHOLE else 20_000
GOOD = json.loads(dump_request(Attach(IfName("br0"), "web", Mac("52:54:00:aa:00:01"))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NEARLY = st.dictionaries(st.sampled_from([*GOOD, "queue", "tap", "path"]), JSON | st.sampled_from([*GOOD.values()]))
MESSAGES = (
    st.binary(min_size=1, max_size=MESSAGE_BYTES + 100)
    | JSON.map(lambda value: json.dumps(value).encode())
    | NEARLY.map(lambda more: json.dumps(GOOD | more).encode())
    | st.integers(1, 5000).map(lambda depth: b"[" * depth)
)


@contextmanager
def files(count: int, path: str = "/dev/null") -> Iterator[list[int]]:
    opened = [os.open(path, os.O_RDONLY) for _ in range(count)]
    try:
        yield opened
    finally:
        for one in opened:
            os.close(one)


def send(connection: socket.socket, message: bytes, opened: list[int]) -> bytes:
    """The answer; nothing where the connection was ended."""
    told = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", opened))] if opened else []
    try:
        connection.sendmsg([message], told)
        return connection.recv(MESSAGE_BYTES)
    except (ConnectionResetError, BrokenPipeError):
        return b""


def open_files(broker: Site) -> int:
    assert broker.broker is not None
    return len(os.listdir(f"/proc/{broker.broker.pid}/fd"))


def memory_kib(broker: Site) -> int:
    assert broker.broker is not None
    status = Path(f"/proc/{broker.broker.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def serves(broker: Site) -> float:
    """How long a good client waits for its refusal, in seconds; it is root's, which the policy does not name."""
    with broker.connect() as connection, pidfd() as own:
        started = time.monotonic()
        answer = json.loads(send(connection, dump_request(Attach(IfName("br0"))), [own]))
        assert answer["code"] == "not-allowed"
        return time.monotonic() - started


@contextmanager
def pidfd() -> Iterator[int]:
    own = os.pidfd_open(os.getpid())
    try:
        yield own
    finally:
        os.close(own)


def test_garbage_is_answered_or_ends_the_connection_and_leaves_nothing(broker: Site) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(message=MESSAGES, count=st.integers(0, 4))
    def one(message: bytes, count: int) -> None:
        with broker.connect() as connection, files(count) as opened:
            answer = send(connection, message, opened)
        assert answer == b"" or json.loads(answer)["exit"] in (3, 5)

    one()
    before = open_files(broker), memory_kib(broker)
    one()
    serves(broker)
    assert until(lambda: open_files(broker) <= before[0] + 1)
    assert memory_kib(broker) <= before[1] * 1.05
    assert taps() == []


def spoil(chance: random.Random, message: bytes) -> bytes:
    """A message that is near a good one, or far from it."""
    spoilt = bytearray(message)
    way = chance.randrange(4)
    if way == 0:
        return chance.randbytes(chance.randrange(1, 200))
    if way == 1:
        return message[: chance.randrange(1, len(message))]
    if way == 2:
        at = chance.randrange(len(message))
        return message[:at] + message[chance.randrange(len(message)) :]
    for _ in range(chance.randrange(1, 6)):
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)


def flood(broker: Site, chance: random.Random, count: int) -> None:
    """Send so many spoilt requests, some fifty on a connection, with a pidfd, without, or with two."""
    whole = json.dumps(GOOD).encode()
    with pidfd() as own:
        while count > 0:
            with broker.connect() as connection:
                for _ in range(50):
                    count -= 1
                    if not send(connection, spoil(chance, whole) or b"x", [own] * chance.randrange(3)):
                        break


def test_spoilt_requests_leave_nothing_and_delay_nobody(broker: Site) -> None:
    chance = random.Random(5)
    flood(broker, chance, SPOILT // 10)
    serves(broker)
    before = open_files(broker), memory_kib(broker)
    waited = []
    for _ in range(10):
        flood(broker, chance, SPOILT // 10)
        waited.append(serves(broker))
    assert sorted(waited)[5] < GOOD_LIMIT_S, waited
    assert until(lambda: open_files(broker) <= before[0] + 1)
    assert memory_kib(broker) <= before[1] * 1.05
    assert taps() == []


def test_every_byte_in_a_name_is_refused_or_harmless(broker: Site) -> None:
    broker.write_policy("allow user root bridge br0 taps 1000 mac any")
    for field, name in (("guest", "web"), ("network", "br0"), ("verb", "attach"), ("mac", "52:54:00:aa:00:01")):
        for byte in range(256):
            for at in (0, 1, len(name)):
                spoilt = (name[:at].encode() + bytes([byte]) + name[at:].encode()).decode("latin-1")
                with broker.connect() as connection, pidfd() as own:
                    answer = json.loads(send(connection, json.dumps(GOOD | {field: spoilt}).encode(), [own]))
                if "tap" in answer:
                    assert field == "guest" and spoilt.isprintable()
                    assert until(lambda: taps() == [])
    assert taps() == []
    assert all(line.isprintable() for line in broker.log.splitlines())


def test_a_flood_of_open_files_is_closed(broker: Site) -> None:
    serves(broker)
    before = open_files(broker)
    with files(250) as many:
        for _ in range(50):
            with broker.connect() as connection:
                send(connection, b"x", many)
            assert serves(broker) < 1
    assert until(lambda: open_files(broker) <= before)


def test_whoever_says_nothing_is_sent_away(broker: Site) -> None:
    with broker.connect() as connection:
        started = time.monotonic()
        assert connection.recv(1) == b""
        assert SILENCE_S - 0.5 < time.monotonic() - started < SILENCE_S + 2


def test_one_user_cannot_take_all_places(broker: Site) -> None:
    words = "import socket, sys\nkept = []\nfor _ in range(200):\n kept.append(socket.socket(socket.AF_UNIX, 5))\n"
    words += f" kept[-1].connect({broker.path!r})\nprint('connected', flush=True)\nsys.stdin.read()\n"
    before = open_files(broker)
    broker.processes.start(*as_user(ALICE), sys.executable, "-c", words, until="connected")
    assert serves(broker) < 1
    assert until(lambda: open_files(broker) <= before + CLIENTS_EACH)


def test_a_good_client_is_served_while_others_flood(broker: Site) -> None:
    flood = "import socket, sys\nprint('floods', flush=True)\nwhile True:\n try:\n"
    flood += f"  c = socket.socket(socket.AF_UNIX, 5); c.connect({broker.path!r})\n"
    flood += "  for _ in range(50): c.send(b'{\"verb\": 1}' * 300); c.recv(4096)\n except OSError: pass\n"
    broker.processes.start(*as_user(ALICE), sys.executable, "-c", flood, until="floods")
    with ExitStack() as idle:
        for _ in range(CLIENTS_EACH - 2):
            idle.enter_context(broker.connect())
        waited = sorted(serves(broker) for _ in range(50))
    assert waited[25] < GOOD_LIMIT_S, waited


def send_for_ever(connection: socket.socket, own: int) -> None:
    """Send requests, and take no answer."""
    told = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [own]))]
    for _ in range(100_000):
        connection.sendmsg([dump_request(Attach(IfName("br0")))], told)


def test_a_client_that_does_not_take_its_answers_is_sent_away(broker: Site) -> None:
    with broker.connect() as connection:
        connection.settimeout(2)
        with pidfd() as own, pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(connection, own)
    assert serves(broker) < 1
