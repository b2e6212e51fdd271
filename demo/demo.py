"""The whole of tapbridge in half a minute, in a lab: nothing of this machine's own network is touched.

A host with a leased address gets its NIC put under a bridge, a real guest boots on that bridge and takes a lease of
its own, the host gets its NIC back; and all the while 5,000 numbered datagrams a second and a TCP connection cross
that NIC, and are counted. Ends with 0 only if everything held.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tapbridge.lab.console import Console
from tapbridge.lab.guest import build_initramfs, find_busybox, guest_argv, load_kernel
from tapbridge.model.errors import Forbidden, Refused, TapbridgeError

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parent / ".cache/guest-kernel"
PROBE = (sys.executable, str(HERE / "probe.py"))
LAB = "demo"
MOST_LOST = 10  # of 5,000 a second: 2 ms of traffic. Most runs lose none


class Demo:
    """The lab, the traffic, and what has held so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: list[tuple[bool, str]] = []
        self.running: list[subprocess.Popen[str]] = []
        self.ran: list[tuple[float, str]] = []  # from when on, monotonic, which command

    def run(self, *words: str, place: str | None = None, quiet: bool = False) -> str:
        """Run a command as the user would type it, show it and what it says; its stdout. Raises SystemExit."""
        argv = list(words) if place is None else self.exec_words(place, *words)
        if not quiet:
            print(f"\n$ {shlex.join(argv)}", flush=True)
        self.ran.append((time.monotonic(), shlex.join(words)))
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        if not quiet or done.returncode != 0:
            print(indented(done.stdout + done.stderr), flush=True)
        if done.returncode != 0:
            raise SystemExit(f"\nthe demo ends here: that command failed with {done.returncode}")
        return done.stdout

    def start(self, place: str, *words: str) -> subprocess.Popen[str]:
        """Start a program in a place, its stdin and stdout pipes of ours."""
        argv = self.exec_words(place, *words)
        made = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace")
        self.running.append(made)
        return made

    def exec_words(self, place: str, *words: str) -> list[str]:
        """The command line that runs a program in a place of the lab."""
        return ["tapbridge", "lab", "exec", LAB, *(() if place == "h1" else ("--host", place)), "--", *words]

    def shown(self, place: str, *words: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.run(*words, place=place, quiet=True) or "[]")

    def check(self, holds: bool, text: str) -> None:
        """Note whether something held."""
        self.held.append((holds, text))

    def end(self) -> None:
        """Stop what still runs and remove the lab, whatever has happened."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        subprocess.run(["tapbridge", "lab", "down", LAB, "--quiet"], check=False, timeout=60)


def main() -> int:
    """Show it all; the exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tapbridge-demo-") as folder:
        demo = Demo(Path(folder))
        try:
            qemu = guest_command(demo.folder)
            refuse_second_lab()
            try:
                told, tree = show(demo, qemu)
            finally:
                demo.end()
        except TapbridgeError as error:
            print(f"\nerror: {error.message}\n\nhint: {error.hint}", file=sys.stderr)
            return int(error.exit)
        except KeyboardInterrupt:
            return 130
    summary(demo, told, tree)
    holds = all(held for held, _ in demo.held)
    print(f"\n{'Everything held.' if holds else 'NOT EVERYTHING HELD.'} {time.monotonic() - began:.0f} seconds.")
    return 0 if holds else 1


def show(demo: Demo, qemu: list[str]) -> tuple[dict[str, Any], str]:
    """The demonstration itself; what became of the traffic, and the tree while the guest was there."""
    say("A LAN and a host on it, made of network namespaces. The host has its address by DHCP, like most machines.")
    demo.run("tapbridge", "lab", "up", LAB)
    before = host_network(demo)

    say("Traffic that counts itself, from another machine of the LAN (peer) to the host (h1), until the very end:")
    echo, ask = start_traffic(demo)
    print("  5,000 numbered UDP datagrams a second over IPv4, each to be answered; one TCP connection over IPv6")

    say("The point of it all: the host's NIC becomes a port of a bridge. The bridge takes over the NIC's addresses,\n"
        "its routes and its DHCP lease, without a pause.")  # fmt: skip
    demo.run("tapbridge", "up", "--yes", place="h1")
    demo.check(host_network(demo) == before, "the host has the addresses, the lease and the gateways that it had")

    say("A real guest: a Debian kernel in QEMU. run gives it a NIC on the bridge and becomes QEMU.")
    tree = live_guest(demo, qemu)

    say("The way back, at any later time: the NIC carries the host again, as if nothing had been.")
    demo.run("tapbridge", "down", "--yes", place="h1")
    demo.check(host_network(demo) == before, "after down the host is as it was before up")

    say("The same again, and nobody confirms it: who has cut himself off need only wait.")
    demo.run("tapbridge", "up", "--yes", "--confirm", "2", "--no-wait", place="h1")
    demo.check(is_taken_back(demo), "a change that nobody confirmed was taken back by its guardian")
    demo.check(host_network(demo) == before, "after that the host is as it was before, too")
    demo.run("tapbridge", "status", place="h1")
    return stop_traffic(demo, echo, ask), tree


def start_traffic(demo: Demo) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Start both ends of the probe, and wait until they run."""
    ip4, ip6 = (next(ip for ip in host_network(demo)["addresses"] if (":" in ip) == wide) for wide in (False, True))
    echo = demo.start("h1", *PROBE, "echo")
    await_ready(echo)
    ask = demo.start("peer", *PROBE, "ask", ip4, ip6)
    await_ready(ask)
    return echo, ask


def await_ready(process: subprocess.Popen[str]) -> None:
    """Wait for the first line of a probe; it comes, or the probe ends."""
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit("the demo ends here: its probe did not start")


def stop_traffic(demo: Demo, echo: subprocess.Popen[str], ask: subprocess.Popen[str]) -> dict[str, Any]:
    """End the traffic; what became of it."""
    demo.check(ask.poll() is None is echo.poll(), "the traffic ran until the end")
    told: dict[str, Any] = json.loads(ask.communicate(timeout=30)[0])
    echo.communicate(timeout=30)
    demo.check(told["lost"] <= MOST_LOST, f"no more than 2 ms of traffic was lost: {told['lost']} of {told['sent']:,}")
    demo.check(told["stream_right"] and not told["stream_lost"], "the TCP connection lives, and every byte came back")
    return told


def live_guest(demo: Demo, qemu: list[str]) -> str:
    """Boot the guest, look at it from all sides, power it off; the tree of who is connected to what."""
    command = ["tapbridge", "run", "--name", "web", "--", *qemu]
    print(f"\n$ {shlex.join(demo.exec_words('h1', *command))}", flush=True)
    guest = demo.start("h1", *command)
    console = Console(guest, seen=lambda line: print(f"  web's console | {line}", flush=True))
    _, _, ip, *_ = console.expect("lease", limit_s=120).split()
    console.expect("address", limit_s=30)

    leases = demo.run("cat", "/var/lib/misc/dnsmasq.leases", place="router", quiet=True)
    demo.check(f" {ip} " in leases, f"the LAN's own DHCP server gave the guest its lease, {ip}")
    peer = address_of(demo, "peer")
    demo.run("ping", "-c", "3", "-i", "0.2", ip, place="peer")
    demo.check(True, "a machine of the LAN pings the guest")
    for target, who in (
        (peer, "a machine of the LAN"),
        (address_of(demo, "h1"), "the host"),
        (address_of(demo, "beyond"), "a machine behind the LAN's router"),
    ):
        console.order(f"ping {target}")
        demo.check(console.expect("answer", "silence", limit_s=10).startswith("answer"), f"the guest pings {who}")

    say("Who is there, and how it hangs together:")
    listed = demo.run("tapbridge", "ps", place="h1")
    demo.check("web" in listed and ip in listed, "ps knows the guest by its name and its address")
    status = demo.run("tapbridge", "status", place="h1")

    say("Power off. The tap goes with QEMU; nothing is left to clean up.")
    console.order("off")
    demo.check(console.wait(limit_s=30) == 0, "the guest powered itself off, and run ended with QEMU's exit code")
    links = {link["ifname"] for link in demo.shown("h1", "ip", "-j", "link")}
    demo.check(links == {"lo", "eth0", "br0"}, "no tap is left")
    return lan_tree(demo, status)


def lan_tree(demo: Demo, status: str) -> str:
    """What is plugged into the LAN's switch, and below h1 what `status` has shown."""
    ports = [link["ifname"] for link in demo.shown("lan", "ip", "-j", "link", "show", "master", "sw0")]
    lines = ["sw0, the LAN's switch"]
    for port in ports:
        last = port == ports[-1]
        text = {"router": f"router, and behind it beyond, {address_of(demo, 'beyond')}", "h1": "h1, the host"}
        lines.append(f"{'└─' if last else '├─'} {text.get(port, f'{port}, {address_of(demo, port)}')}")
        lines += [f"{'  ' if last else '│ '}   {line}" for line in status.splitlines() if port == "h1"]
    return "\n".join(lines)


def host_network(demo: Demo) -> dict[str, Any]:
    """What the host is on the network, whatever link carries it: addresses, gateways, its DHCP client's lease."""
    links = [link for link in demo.shown("h1", "ip", "-j", "addr") if link["ifname"] != "lo"]
    routes = [route for family in ("-4", "-6") for route in demo.shown("h1", "ip", "-j", family, "route")]
    return {
        "addresses": sorted(a["local"] for link in links for a in link["addr_info"] if a["scope"] == "global"),
        "leased": sorted(a["local"] for link in links for a in link["addr_info"] if a.get("dynamic")),
        "gateways": sorted({route["gateway"] for route in routes if route["dst"] == "default"}),
    }


def is_taken_back(demo: Demo, limit_s: float = 10.0) -> bool:
    """Whether the bridge goes by itself within the limit."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if "br0" not in {link["ifname"] for link in demo.shown("h1", "ip", "-j", "link")}:
            return True
        time.sleep(0.1)
    return False


def address_of(demo: Demo, place: str) -> str:
    """The IPv4 address of a place."""
    (lab,) = json.loads(demo.run("tapbridge", "lab", "status", LAB, "--json", quiet=True))["labs"]
    found = {each["name"]: each["addresses"] for each in lab["places"]}
    return str(next(ip for ip in found[place] if ":" not in ip))


def refuse_second_lab() -> None:
    """A lab of that name may be somebody's, and this one is removed at the end. Raises TapbridgeError."""
    labs = subprocess.run(["tapbridge", "lab", "status", "--json"], capture_output=True, text=True, check=True).stdout
    if LAB in [lab["name"] for lab in json.loads(labs)["labs"]]:
        raise Refused(f"there is a lab named {LAB} already", hint=f"tapbridge lab down {LAB}")


def guest_command(folder: Path) -> list[str]:
    """QEMU's command line for the guest, without a NIC. Raises TapbridgeError."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise Forbidden("/dev/net/tun may not be opened, so no guest gets a NIC", hint="run the demo with sudo")
    kernel = load_kernel(KERNELS)
    initramfs = folder / "initramfs"
    initramfs.write_bytes(build_initramfs(kernel, find_busybox()))
    return guest_argv(kernel, initramfs)


def summary(demo: Demo, told: dict[str, Any], tree: str) -> None:
    """What there was, what was sent and lost, and what held."""
    print("\nWho was connected to what, while the guest lived:\n")
    print(indented(tree))
    print("\nThe traffic across the host's NIC, through up, the guest's life and down:\n")
    print(f"  UDP echo     {told['sent']:>9,} sent   {told['lost']:>4} lost")
    print(f"  TCP stream   {told['stream_bytes']:>9,} bytes  {told['stream_lost']:>4} lost\n")
    for began, ended, lost in told["gaps"]:
        since, command = max((ran for ran in demo.ran if ran[0] <= began), default=(began, "nothing"))
        when = f"{began - since:.3f} s after the start of: {command}"
        print(f"  lost {lost} within {1000 * (ended - began):.1f} ms, {when}")
    for held, text in demo.held:
        print(f"  {'held    ' if held else 'NOT HELD'}  {text}")


def say(text: str) -> None:
    """A paragraph for the reader."""
    print(f"\n{text}", flush=True)


def indented(text: str) -> str:
    """Two spaces before every line."""
    return "\n".join(f"  {line}".rstrip() for line in text.strip("\n").splitlines())


if __name__ == "__main__":
    sys.exit(main())
