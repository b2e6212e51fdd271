"""Which boot of the machine this is."""

from __future__ import annotations


def boot_id() -> str:
    """The kernel's random id of this boot, a UUID. Raises OSError where /proc is not there."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
