"""Guests → text, in three forms: a table, the same stacked for a terminal too narrow for it, and bare columns for a
program that reads them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from tapbridge.draw.graph import evidence
from tapbridge.draw.style import Role, Style, plain
from tapbridge.draw.text import short_size, visible, width, word
from tapbridge.model.guest import Guest, GuestNic

HELD = ("VLAN", "RATE", "GUARD")
"""Columns of which a terminal has those that are not empty."""

HEADINGS = ("GUEST", "PID", "UID", "HYPERVISOR", "TAP", "BRIDGE", "MAC", "ADDRESS", "SOURCE", "RX", "TX", *HELD)
_NUMBERS = frozenset({"PID", "UID", "RX", "TX", "QUEUES", "VLAN", "RATE"})
_GAP = "  "


def guest_columns(guests: Iterable[Guest]) -> str:
    """A line for each NIC, after a line of headings: columns without blanks in them, `-` for what is not known, several
    addresses and their sources divided by commas, traffic in bytes, rates in bits per second."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    rows += (
        (
            word(guest.name or ""),
            *map(word, (*_who(guest)[1:], *_where(nic))),
            word(",".join(item.ip for item in nic.addresses)),
            word(",".join(item.source for item in nic.addresses)),
            *map(word, (*_traffic(nic, str), *_held(nic, str))),
        )
        for guest in guests
        for nic in guest.nics
    )
    return "\n".join(table_lines(rows, plain))


def guest_table(guests: Sequence[Guest], columns: int, style: Style = plain) -> str:
    """The guests for a terminal of so many columns: a line for each address, a guest's name and a NIC's tap once."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for guest in guests:
        who: tuple[str, ...] = tuple(map(visible, _who(guest)))
        for nic in guest.nics:
            where: tuple[str, ...] = tuple(map(visible, _where(nic)))
            rest: tuple[str, ...] = (*_traffic(nic, short_size), *_held(nic, short_size))
            for address in nic.addresses or (None,):
                found = (address.ip, evidence(address)) if address is not None else ("", "")
                rows.append((*who, *where, *found, *rest))
                who, where, rest = ("",) * len(who), ("",) * len(where), ("",) * len(rest)
    rows = _without_empty(rows)
    if sum(_widths(rows)) + len(_GAP) * (len(rows[0]) - 1) > columns:
        return _stacked(guests, style)
    return "\n".join(table_lines(rows, style))


def _stacked(guests: Iterable[Guest], style: Style) -> str:
    lines = []
    for guest in guests:
        name, pid, uid, hypervisor = map(visible, _who(guest))
        said = [hypervisor, f"PID {pid}", f"uid {uid}"] if pid else []
        lines.append(f"{style(Role.GUEST, name)}  {', '.join(said)}".rstrip())
        for nic in guest.nics:
            tap, bridge, mac = map(visible, _where(nic))
            rx, tx = _traffic(nic, short_size)
            vlan, rate, guard = _held(nic, short_size)
            said = [
                f"on {bridge}" if bridge else "on no bridge",
                mac,
                f"rx {rx}" if rx else "",
                f"tx {tx}" if tx else "",
                f"VLAN {vlan}" if vlan else "",
                f"rate {rate}" if rate else "",
                f"guard {guard}" if guard else "",
            ]
            lines.append(f"  {tap} {', '.join(part for part in said if part)}")
            lines += [f"    {address.ip}  {evidence(address)}" for address in nic.addresses]
    return "\n".join(lines)


def _who(guest: Guest) -> tuple[str, str, str, str]:
    hypervisor = guest.hypervisor or ""
    if hypervisor == "other" and guest.program:
        hypervisor = guest.program
    pid, uid = (str(number) if number is not None else "" for number in (guest.pid, guest.uid))
    return guest.name or "(no process seen)", pid, uid, hypervisor


def _where(nic: GuestNic) -> tuple[str, str, str]:
    return nic.link, nic.bridge or "", nic.mac or ""


def _traffic(nic: GuestNic, text: Callable[[int], str]) -> tuple[str, str]:
    rx, tx = (text(count) if count is not None else "" for count in (nic.rx_bytes, nic.tx_bytes))
    return rx, tx


def _held(nic: GuestNic, text: Callable[[int], str]) -> tuple[str, str, str]:
    vlan, rate = "" if nic.vlan is None else str(nic.vlan), "" if nic.rate is None else text(nic.rate)
    return vlan, rate, nic.guard or ""


def _without_empty(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    columns = [column for column in zip(*rows, strict=True) if column[0] not in HELD or any(column[1:])]
    return list(zip(*columns, strict=True))


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(width, column)) for column in zip(*rows, strict=True)]


def table_lines(rows: Sequence[Sequence[str]], style: Style) -> Iterator[str]:
    """Rows as lines of even columns, numbers to the right; the first row has the headings."""
    widths = _widths(rows)
    numbers = [heading in _NUMBERS for heading in rows[0]]
    for place, row in enumerate(rows):
        cells = []
        for cell, size, number in zip(row, widths, numbers, strict=True):
            padding = " " * (size - width(cell))
            cells.append(padding + cell if number else cell + padding)
        if place == 0:
            yield style(Role.HEADING, _GAP.join(cells).rstrip())
        else:
            yield _GAP.join([style(Role.GUEST, cells[0]), *cells[1:]]).rstrip()
