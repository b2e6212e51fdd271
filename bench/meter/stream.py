"""One TCP connection, a byte to and fro every few ms: how long it stood still, and whether it lives.

stream.py serve            send back what comes, on PORT; says "ready"
stream.py ask IP           ask until stdin ends; says "ready", and at the end one line of JSON
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

PORT = 7008
EVERY_S = 0.005
LIMIT_S = 180.0
PATIENCE_S = 8.0  # retransmissions of TCP double from 200 ms on


def serve() -> None:
    """Send everything back, until it is killed."""
    with socket.create_server(("", PORT)) as server:
        print("ready", flush=True)
        server.settimeout(LIMIT_S)
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(LIMIT_S)
        while received := connection.recv(64):
            connection.sendall(received)


def ask(ip: str) -> None:
    """One byte at a time; then say how long the longest answer took, and whether the last one came."""
    with socket.create_connection((ip, PORT), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        end, longest_s, alive = time.monotonic() + LIMIT_S, 0.0, True
        while alive and time.monotonic() < end and not select.select([sys.stdin], [], [], EVERY_S)[0]:
            asked = time.monotonic()
            alive = _answered(connection)
            longest_s = max(longest_s, time.monotonic() - asked)
    print(json.dumps({"longest_ms": longest_s * 1000, "alive": alive}), flush=True)


def _answered(connection: socket.socket) -> bool:
    connection.settimeout(PATIENCE_S)
    try:
        connection.sendall(b".")
        return connection.recv(1) == b"."
    except OSError:
        return False


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif len(sys.argv) == 3 and sys.argv[1] == "ask":
        ask(sys.argv[2])
    else:
        sys.exit(__doc__)
