"""Looking at the guests more than once: while their taps are listened to, and until an address is known."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tapbridge.guests.findings import unlistened
from tapbridge.guests.listen import Ears
from tapbridge.guests.survey import Survey, survey
from tapbridge.model.errors import Refused, TapbridgeError
from tapbridge.model.noun import replace
from tapbridge.model.state import Scope
from tapbridge.model.values import Family, is_link_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tapbridge.cli.world import World
    from tapbridge.guests.frames import Word
    from tapbridge.linux.host import LinuxHost
    from tapbridge.model.guest import Guest, GuestNic
    from tapbridge.model.values import Mac

ROUND_S = 1.0
"""How often files and the host's own tables are read again; what is said on a tap is heard at once."""


class Lookout:
    """A host whose guests are looked at again and again. Whoever may not listen sees what there is to see."""

    def __init__(self, host: LinuxHost, world: World, ears: Ears) -> None:
        self._host = host
        self._world = world
        self.ears = ears
        self.may_listen = True

    def look(self) -> Survey:
        """Everything that is known by now."""
        state = self._host.observe(Scope.GUESTS)
        return survey(state, now=self._world.clock.wall(), heard=self.ears.sightings(), deaf=self.ears.deaf)

    def follow(self, nics: Iterable[GuestNic]) -> bool:
        """Listen on these from now on; whether one of them is new."""
        try:
            return self.may_listen and self.ears.follow(nics)
        except PermissionError:
            self.may_listen = False
            return False


def listen(host: LinuxHost, world: World, seconds: float) -> Survey:
    """Look once after having listened for so many seconds. Raises PermissionError without CAP_NET_RAW."""
    with Ears() as ears:
        lookout = Lookout(host, world, ears)
        nics = [nic for guest in lookout.look().guests for nic in guest.nics]
        if nics:
            ears.follow(nics)
            ears.hear(seconds)
        return lookout.look()


def looks(host: LinuxHost, world: World, period_s: float) -> Iterator[Survey]:
    """One look after the other, without end, and listening between them."""
    with Ears() as ears:
        lookout = Lookout(host, world, ears)
        while True:
            found = lookout.look()
            lookout.follow(nic for guest in found.guests for nic in guest.nics)
            yield found if lookout.may_listen else replace(found, findings=(*found.findings, *unlistened()))
            ears.hear(period_s)


def await_address(host: LinuxHost, world: World, wanted: str, timeout_s: float) -> tuple[Guest, str]:
    """The guest of that name, of that PID, or on that tap, and an address of it, as soon as there is one.

    Raises Refused for a guest that is not there, TapbridgeError for one that ends or says no address in time.
    """
    clock = world.clock
    deadline = clock.monotonic() + timeout_s
    with Ears() as ears:
        lookout = Lookout(host, world, ears)
        guest = _pick(lookout.look().guests, wanted)
        while (address := find_address(guest)) is None:
            # What was said between a look and the opening of an ear is not lost: one looks again.
            if not lookout.follow(guest.nics):
                left = deadline - clock.monotonic()
                if left <= 0:
                    raise _silence(guest, wanted, timeout_s, lookout.may_listen)
                macs = {nic.mac for nic in guest.nics if nic.mac is not None}
                ears.hear(min(left, ROUND_S), enough=partial(_tells, macs))
            found = next((one for one in lookout.look().guests if _answers_to(one, wanted)), None)
            if found is None:
                raise TapbridgeError(f"{wanted} has ended before an address of it was known", code="guest-ended")
            guest = found
        return guest, address


def find_address(guest: Guest) -> str | None:
    """The address by which a guest is reached: IPv4 before IPv6, its first NIC before the others."""
    known = [item for nic in guest.nics for item in nic.addresses if _reaches_far(item.family, item.ip)]
    return min(known, key=lambda item: item.family).ip if known else None


def _tells(macs: set[Mac], word: Word) -> bool:
    """Whether a word may be what is waited for: another guest may live behind this one's tap."""
    return _reaches_far(word.family, word.ip) and (not macs or word.mac in macs)


def _reaches_far(family: Family, ip: str) -> bool:
    """Whether an address is good beyond its own link: neither fe80::/10 nor 169.254.0.0/16 (RFC 3927)."""
    return not is_link_local(family, ip) and not ip.startswith("169.254.")


def _answers_to(guest: Guest, wanted: str) -> bool:
    return wanted in (guest.name, str(guest.pid or ""), *(nic.link for nic in guest.nics))


def _pick(guests: Iterable[Guest], wanted: str) -> Guest:
    mine = [guest for guest in guests if _answers_to(guest, wanted)]
    if not mine:
        raise Refused(
            f"there is no guest {wanted!r} in this network namespace",
            hint="tapbridge ps lists the guests; name one as it stands there, or by its tap",
            code="no-such-guest",
            subject=wanted,
        )
    if len(mine) > 1:
        taps = ", ".join(nic.link for guest in mine for nic in guest.nics)
        raise Refused(
            f"{len(mine)} guests are called {wanted!r}",
            hint=f"name the guest by its tap, one of {taps}",
            code="several-guests",
            subject=wanted,
        )
    return mine[0]


def _silence(guest: Guest, wanted: str, timeout_s: float, heard: bool) -> TapbridgeError:
    deaf = "" if heard else "; its tap could not be listened to without CAP_NET_RAW"
    where = next((nic for nic in guest.nics if nic.bridge is None and nic.kind == "tap"), None)
    hint = "has the guest booted, and is there a DHCP server on its network?"
    if not heard:
        hint = f"sudo tapbridge ps --wait-ip {wanted}"
    elif where is not None:
        hint = f"its tap {where.link} is on no bridge"
    return TapbridgeError(
        f"no address of {wanted} is known after {timeout_s:g} s{deaf}", hint=hint, code="no-address", subject=wanted
    )
