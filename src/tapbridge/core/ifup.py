"""The scripts that QEMU runs for `-netdev tap` without `script=no`, as text. They start `ip` twice and no Python."""

from __future__ import annotations

from typing import Final

from tapbridge.core.signed import sign

MAKER: Final = "install-ifup"

# A bridge of ours is known by its mark, another by the one card among its ports, as `run` does it. addrgenmode would be
# the last in one command, behind the setting up that makes the address; some `ip` and some kernels do not have it.
_IFUP: Final = """\
#!/bin/sh
# QEMU runs this with the name of a tap: -netdev tap,ifname=NAME without script=no. The tap becomes a port of the one
# bridge that leads to the network, if it is no port yet. If this fails, QEMU does not start. To take it away:
# tapbridge install-ifup --remove
PATH=/usr/sbin:/usr/bin:/sbin:/bin
net=/sys/class/net
refuse() {
    echo "$0: $*" >&2
    exit 1
}
leads_out() {
    cards=0
    for port in "$1"/brif/*; do
        port=${port##*/}
        [ ! -e "$net/$port/device" ] && [ ! -e "$net/$port/bonding" ] && [ ! -e "/proc/net/vlan/$port" ] ||
            cards=$((cards + 1))
    done
    [ $cards = 1 ]
}

tap=$1
[ -e "$net/$tap/tun_flags" ] || refuse "there is no tap '$tap' in this network namespace"
[ ! -e "$net/$tap/master" ] || exec ip link set dev "$tap" up
ours= others=
for bridge in "$net"/*; do
    [ -d "$bridge/bridge" ] || continue
    alias=
    read -r alias <"$bridge/ifalias"
    case $alias in
        "tapbridge uplink="*) ours="$ours ${bridge##*/}" ;;
        *) ! leads_out "$bridge" || others="$others ${bridge##*/}" ;;
    esac
done
set -f
set -- ${ours:-$others}
[ $# != 0 ] || refuse "no bridge leads to the network: make one (tapbridge up), or say script=no"
[ $# = 1 ] || refuse "several bridges lead to the network ($*): say script=no, and: ip link set $tap master $1 up"
read -r mtu <"$net/$1/mtu"
read -r mac <"$net/$tap/address"
[ "$mtu" -le 65521 ] || mtu=65521
{ ip link set dev "$tap" address "fe${mac#??}" mtu "$mtu" addrgenmode none 2>/dev/null ||
    ip link set dev "$tap" address "fe${mac#??}" mtu "$mtu"; } &&
    ip link set dev "$tap" master "$1" up ||
    refuse "the tap $tap cannot become a port of $1"
read -r alias <"$net/$tap/ifalias" || echo qemu-ifup >"$net/$tap/ifalias" || :
"""

_IFDOWN: Final = """\
#!/bin/sh
# QEMU runs this with the name of a tap before it closes it. One that outlives its guest leaves the bridge, if it was
# qemu-ifup that brought it there, which is then its alias.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
tap=/sys/class/net/$1
[ -e "$tap/tun_flags" ] || exit 0
alias=
read -r alias <"$tap/ifalias"
[ "$alias" = qemu-ifup ] || exit 0
echo >"$tap/ifalias"
exec ip link set dev "$1" nomaster down
"""


def scripts() -> dict[str, str]:
    """The scripts by their place below a root."""
    return {"etc/qemu-ifup": sign(_IFUP, MAKER), "etc/qemu-ifdown": sign(_IFDOWN, MAKER)}
