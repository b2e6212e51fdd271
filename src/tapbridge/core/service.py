"""The boot service as text: a unit of systemd, or an init script with an LSB header, and the link that enables it.

It runs `recover --boot` before anything configures the network, so that a change of files that nobody confirmed is
taken back before those files are read. Beside it, where systemd runs, what brings persistent taps back once the bridges
are there; and where it is asked for, the broker: a socket of systemd's that starts its service when the first client
comes.
"""

from __future__ import annotations

from typing import Final, Literal

from tapbridge.core.signed import sign
from tapbridge.model.noun import dataclass

Init = Literal["systemd", "sysv"]

NAME: Final = "tapbridge-recover"
UNIT: Final = f"{NAME}.service"
TAPS_UNIT: Final = "tapbridge-taps.service"
BROKER: Final = "tapbridge-broker"
BROKER_UNITS: Final = (f"{BROKER}.socket", f"{BROKER}.service")
STATE: Final = "/var/lib/tapbridge"
_LIMIT_S: Final = 60
_MAKER: Final = "service install"
_UNITS: Final = "etc/systemd/system"
_UNIT_PATH: Final = f"{_UNITS}/{UNIT}"
_SCRIPT_PATH: Final = f"etc/init.d/{NAME}"

# network-pre.target is what network software orders itself behind (systemd.special(7)); those that are named as well
# are for versions that do not. ifup@.service is behind the target, and a template cannot be named.
_LATER: Final = (
    "network-pre.target systemd-networkd.service NetworkManager.service networking.service dhcpcd.service "
    "connman.service wicked.service"
)

# Passive: it is there only if it is pulled in, which is why the unit wants it and is not wanted by it.
# Before sysinit.target, because every ordinary service is behind that, whatever configures the network there.
_SYSTEMD: Final = """\
[Unit]
Description=Take back network changes that a crash has left in files
DefaultDependencies=no
RequiresMountsFor={state} {python}
ConditionPathExistsGlob={state}/journal-*
After=systemd-remount-fs.service
Wants=network-pre.target
Before={later}
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart={python} -I -m tapbridge recover --boot
TimeoutStartSec={limit}
CapabilityBoundingSet=CAP_NET_ADMIN CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SYS_PTRACE
NoNewPrivileges=yes
ProtectSystem=yes
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
RestrictAddressFamilies=AF_NETLINK AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=sysinit.target
"""

# A bridge that comes later, as NetworkManager's do, has it run anew by the rule of udev below, however often that is:
# hence no limit of starts. Which taps are meant is told by the network namespace of process 1, and asking for that
# needs CAP_SYS_PTRACE.
_TAPS_SERVICE: Final = """\
[Unit]
Description=Bring persistent taps back, and give each its place in its bridge
RequiresMountsFor={state} {python}
ConditionPathExists={state}/taps
After=network.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={python} -I -m tapbridge tap add --saved --wait {limit} --quiet
TimeoutStartSec={limit}
CapabilityBoundingSet=CAP_NET_ADMIN CAP_DAC_OVERRIDE CAP_SYS_PTRACE
NoNewPrivileges=yes
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
LockPersonality=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectSystem=full
RestrictAddressFamilies=AF_NETLINK AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""
# Not `start`, which does nothing while the service is at work and may have looked already; a run that is ended in the
# middle takes back what it has begun. SYSTEMD_WANTS= would start it, but not in a container, where systemd has no units
# of devices.
_TAPS_RULE: Final = """\
# A bridge that has come may be the one that persistent taps wait for.
ACTION=="add", SUBSYSTEM=="net", ENV{{DEVTYPE}}=="bridge", RUN+="/bin/systemctl --no-block restart {unit}"
"""

# The folder may be there already, made by root with another umask; what is private in it is so by itself.
_BROKER_SOCKET: Final = """\
[Unit]
Description=Where users without rights ask for taps

[Socket]
ListenSequentialPacket=/run/tapbridge/broker.sock
SocketMode=0666
DirectoryMode=0755
ExecStartPost=chmod 0755 /run/tapbridge
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

# It opens nothing but /dev/net/tun, its policy, and /proc of the processes that it lends to; it needs to see these, so
# ProtectProc= cannot be had. When it is stopped, the taps stay with their guests.
_BROKER_SERVICE: Final = """\
[Unit]
Description=Lend taps to users without rights, as the policy says
RequiresMountsFor={python}
Requires={broker}.socket
After={broker}.socket

[Service]
ExecStart={python} -I -m tapbridge broker --quiet
Restart=on-failure
RestartSec=1s
CapabilityBoundingSet=CAP_NET_ADMIN
NoNewPrivileges=yes
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
IPAddressDeny=any
LimitNOFILE=65536
LockPersonality=yes
MemoryDenyWriteExecute=yes
MemoryMax=256M
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
TasksMax=4
UMask=0077
"""

_SYSV: Final = """\
#!/bin/sh
### BEGIN INIT INFO
# Provides:          {name}
# Required-Start:    $local_fs
# Required-Stop:
# X-Start-Before:    networking network-manager dhcpcd connman
# Default-Start:     S
# Default-Stop:
# Short-Description: Take back network changes that a crash has left in files
### END INIT INFO

case "$1" in
start | restart | force-reload)
    ls {state}/journal-* >/dev/null 2>&1 || exit 0
    exec timeout -k 5 {limit} {python} -I -m tapbridge recover --boot
    ;;
stop | status) ;;
*)
    echo "usage: $0 start" >&2
    exit 2
    ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file of the service with its text, or a symbolic link with its target. `path` is below the root."""

    path: str
    text: str | None = None
    target: str | None = None
    mode: int = 0o644


def pieces(init: Init, python: str) -> tuple[Piece, ...]:
    """What the service consists of: files, and the links that `systemctl enable` or update-rc.d would make."""
    words = {"state": STATE, "python": python, "limit": _LIMIT_S, "later": _LATER, "name": NAME}
    if init == "systemd":
        return (
            Piece(path=_UNIT_PATH, text=sign(_SYSTEMD.format(**words), _MAKER)),
            Piece(path=f"{_UNITS}/sysinit.target.wants/{UNIT}", target=f"/{_UNIT_PATH}"),
            Piece(path=f"{_UNITS}/{TAPS_UNIT}", text=sign(_TAPS_SERVICE.format(**words), _MAKER)),
            Piece(path=f"{_UNITS}/multi-user.target.wants/{TAPS_UNIT}", target=f"/{_UNITS}/{TAPS_UNIT}"),
            Piece(path="etc/udev/rules.d/90-tapbridge.rules", text=sign(_TAPS_RULE.format(unit=TAPS_UNIT), _MAKER)),
        )
    return (
        Piece(path=_SCRIPT_PATH, text=sign(_SYSV.format(**words), _MAKER), mode=0o755),
        Piece(path=f"etc/rcS.d/S01{NAME}", target=f"../init.d/{NAME}"),
    )


def broker_pieces(python: str) -> tuple[Piece, ...]:
    """What the broker consists of, where systemd runs it."""
    texts = _BROKER_SOCKET, _BROKER_SERVICE.format(python=python, broker=BROKER)
    units = [
        Piece(path=f"{_UNITS}/{unit}", text=sign(text, _MAKER)) for unit, text in zip(BROKER_UNITS, texts, strict=True)
    ]
    socket = BROKER_UNITS[0]
    return (*units, Piece(path=f"{_UNITS}/sockets.target.wants/{socket}", target=f"/{_UNITS}/{socket}"))
