"""What client and broker say to one another. Pure.

Theory of operation. The socket is of the kind SOCK_SEQPACKET, so the kernel keeps messages apart. A message is one JSON
object of MESSAGE_BYTES at most. A client says what it wants, never how: no name of a tap, no path, no command, no rule.
With its request comes one open file, a pidfd of the process that is to be the guest, whose end is the tap's end. The
answer has the open files of the tap, one per queue, or says why there are none.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tapbridge.core.mark import is_guest_name
from tapbridge.core.rate import RATES
from tapbridge.model.errors import Exit, Forbidden, HostError, InvalidName, Refused, TapbridgeError
from tapbridge.model.values import IfName, Mac, parse_found_name

MESSAGE_BYTES: Final = 4096
QUEUES: Final = 16
"""Pairs of queues of one tap at most: as many open files come with an answer."""

_KEYS: Final = {"verb", "guest", "network", "mac", "queues", "vnet_hdr", "rate"}


class Attach(NamedTuple):
    """The one request: attach a guest to a network. `mac` is the address that the guest's card will have, None where
    that is not known; `guest` is a name for readers; `rate`, in bits per second, only lowers what the policy grants."""

    network: IfName
    guest: str | None = None
    mac: Mac | None = None
    queues: int = 1
    vnet_hdr: bool = True
    rate: int | None = None


class Malformed(Refused):
    """A message that is none of this protocol."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the request cannot be read: {why}", code="malformed")


def dump_request(request: Attach) -> bytes:
    """The request as a message."""
    import json

    return json.dumps({"verb": "attach", **request._asdict()}).encode()


def parse_request(message: bytes) -> Attach:
    """Read a message of a client, who may be hostile. Raises Malformed."""
    found = _parse_object(message)
    if found.get("verb") != "attach":
        raise Malformed("there is no such verb")
    if set(found) != _KEYS:
        raise Malformed("its keys are not those of the verb")
    guest, mac, queues = found["guest"], found["mac"], found["queues"]
    if guest is not None and not (isinstance(guest, str) and is_guest_name(guest)):
        raise Malformed("the guest's name")
    if mac is not None and not (isinstance(mac, str) and _is_mac(mac)):
        raise Malformed("the Ethernet address")
    if type(queues) is not int or not 1 <= queues <= QUEUES:
        raise Malformed(f"the number of queues, which is 1 to {QUEUES}")
    if type(found["vnet_hdr"]) is not bool:
        raise Malformed("vnet_hdr")
    if found["rate"] is not None and (type(found["rate"]) is not int or found["rate"] not in RATES):
        raise Malformed("the rate")
    return Attach(
        _parse_network(found["network"]),
        guest,
        Mac(mac) if mac is not None else None,
        queues,
        found["vnet_hdr"],
        found["rate"],
    )


def dump_answer(tap: str) -> bytes:
    """The answer that comes with the open files of a tap."""
    import json

    return json.dumps({"tap": tap}).encode()


def dump_refusal(error: TapbridgeError) -> bytes:
    """The answer that says why there is no tap."""
    import json

    words = {"exit": int(error.exit), "code": error.code, "message": error.message, "hint": error.hint}
    return json.dumps(words).encode()


def parse_answer(message: bytes) -> str:
    """The name of the tap. Raises what the broker refused with, HostError for what is no answer."""
    try:
        found = _parse_object(message)
    except Malformed:
        found = {}
    if isinstance(found.get("tap"), str):
        return str(found["tap"])
    if not isinstance(found.get("message"), str):
        raise HostError("the broker's answer cannot be read", hint="is it of the same version?")
    hint = found["hint"] if isinstance(found.get("hint"), str) else None
    if found.get("exit") == Exit.FORBIDDEN:
        raise Forbidden(found["message"], hint=hint, code=str(found.get("code")))
    if found.get("exit") == Exit.REFUSED:
        raise Refused(found["message"], hint=hint, code=str(found.get("code")))
    raise HostError(found["message"], hint=hint)


def _parse_object(message: bytes) -> dict[str, Any]:
    import json

    if len(message) > MESSAGE_BYTES:
        raise Malformed(f"it has more than {MESSAGE_BYTES} bytes")
    try:
        found = json.loads(message.decode(), object_pairs_hook=_parse_pairs)
    except (ValueError, RecursionError):
        raise Malformed("it is no JSON object") from None
    if not isinstance(found, dict):
        raise Malformed("it is no JSON object")
    return found


def _parse_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _parse_network(text: object) -> IfName:
    """A bridge's name; what cannot be printed as it is, or is no UTF-8, is no network's name here."""
    try:
        if isinstance(text, str) and text.isascii() and text.isprintable():
            return parse_found_name(text)
    except InvalidName:
        pass
    raise Malformed("the network's name")


def _is_mac(text: str) -> bool:
    words = text.split(":")
    return len(words) == 6 and all(len(word) == 2 and set(word) <= set("0123456789abcdef") for word in words)
