"""QEMU's command line is read as QEMU reads it."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.model.errors import UsageError
from tapbridge.qemu.argv import (
    BARE,
    VALUED,
    CommandLine,
    descriptors,
    dump_pairs,
    find_name,
    ids,
    parse_command,
    parse_config,
    parse_pairs,
)

KEYS = st.text(st.characters(exclude_characters="=,", codec="utf-8"), min_size=1)
VALUES = st.text(st.characters(codec="utf-8"))


def line(text: str) -> CommandLine:
    return parse_command(["qemu-system-x86_64", *shlex.split(text)])


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1))
def test_pairs_survive_writing_and_reading(pairs: list[tuple[str, str]]) -> None:
    if not pairs[0][0].startswith("{"):
        assert parse_pairs(dump_pairs(pairs), "first") == tuple(pairs)


@given(st.text(st.characters(exclude_characters="=", codec="utf-8"), min_size=1), st.lists(st.tuples(KEYS, VALUES)))
def test_an_implied_key_survives_too(first: str, pairs: list[tuple[str, str]]) -> None:
    if not first.startswith(("{", ",")):
        assert parse_pairs(dump_pairs(pairs, first), "driver") == (("driver", first), *pairs)


@given(st.lists(st.one_of(st.sampled_from(sorted(f"-{name}" for name in BARE | VALUED)), st.text())))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        found = parse_command(["qemu-system-x86_64", *words])
    except UsageError:
        return
    find_name(found)
    ids(found)
    descriptors(found)
    assert sum(1 if option.value is None else 2 for option in found.options) <= len(words)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("user", (("type", "user"),)),
        ("user,hostfwd=tcp::2222-:22", (("type", "user"), ("hostfwd", "tcp::2222-:22"))),
        ("file=a,,b.img,format=raw", (("file", "a,b.img"), ("format", "raw"))),
        ("socket,server,nowait", (("type", "socket"), ("server", "on"), ("wait", "off"))),
        ('{"type":"tap","id":"n0","vhost":true,"x":{"y":1}}', (("type", "tap"), ("id", "n0"), ("vhost", "on"))),
        ("{not json", ()),
        ("[1]", (("type", "[1]"),)),
        ("", ()),
    ],
)
def test_the_syntax_of_an_option(text: str, pairs: tuple[tuple[str, str], ...]) -> None:
    assert parse_pairs(text, "type") == pairs


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("-name web", "web"),
        ("--name web,process=x", "web"),
        ("-name guest=web,debug-threads=on", "web"),
        ("-name process=x", None),
        ("-name a -name debug-threads=on", "a"),
        ("-name a -name guest=b", "b"),
        ("-name 'Windows 11,,home'", "Windows 11,home"),
        ("-append '-name kernel' -m 64", None),
        ("-kernel -name", None),
        ("disk.img -name web", "web"),
        ("-nodefaults -S -name web", "web"),
        ("-newer-than-this -name web", "web"),
        ("-newer-than-this value -name web", "web"),
    ],
)
def test_the_name_of_a_guest(text: str, name: str | None) -> None:
    assert find_name(line(text)) == name


def test_a_value_that_looks_like_an_option_is_a_value() -> None:
    found = line("-append -netdev -serial --nic -S")
    assert [option.text for option in found.options] == ["-append -netdev", "-serial --nic", "-S"]


def test_an_option_without_its_value_is_refused() -> None:
    with pytest.raises(UsageError, match="-m needs a value"):
        line("-nodefaults -m")


def test_qemu_may_stand_behind_another_command() -> None:
    found = parse_command(["nice", "-n", "5", "/opt/bin/qemu-system-aarch64", "-name", "web"])
    assert (found.program, find_name(found)) == ("qemu-system-aarch64", "web")


def test_ids_are_found_wherever_they_are_given() -> None:
    sections = parse_config('[netdev "n1"]\n type = "user"\n[machine]\n')
    found = line('-drive file=x,id=d0 -netdev \'{"type":"user","id":"n0"}\' -device e1000,netdev=n0,id=c0')
    assert ids(found, sections) == {"d0", "n0", "c0", "n1"}


def test_descriptors_that_are_meant_for_qemu_are_found() -> None:
    found = line(
        "-add-fd fd=7,set=1 -incoming fd:8 -netdev tap,fds=10:11,id=n -drive file=/dev/fd/12 -chardev"
        ' \'{"addr":{"data":{"str":"13"}}}\' -object memory-backend-file,size=64'
    )
    assert descriptors(found) == {7, 8, 10, 11, 12, 13}
