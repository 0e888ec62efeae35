"""The rig: a small cluster on one machine, its hosts being network namespaces.

    pod 1                host 1            wire            host 2               pod 2
    ┌──────┐    ┌───────────────────────┐        ┌───────────────────────┐    ┌──────┐
    │ eth0─┼────┼─pod0 ─ cni0 ─ … ─ eth0┼────────┼eth0 ─ … ─ cni0 ─ pod0─┼────┼─eth0 │
    └──────┘    └───────────────────────┘        └───────────────────────┘    └──────┘
    subnet.2        subnet.1    192.0.2.1        192.0.2.2    subnet.1        subnet.2

    with Rig(hosts=2) as rig:
        daemon = rig.popen(rig.host(1), [...])
        pod = rig.pod(1, "10.5.1.0/24", mtu=1472)
        rig.run(pod.ns, ["ping", "-c1", "10.5.2.2"])

Hosts are numbered from 1. The wire of two hosts is a veth pair; of more, a bridge in
a namespace of its own. Between cni0 and eth0 the host's kernel routes, and what it
knows of the other subnets is the overlay's business, not the rig's.

Only iproute2 is needed (ethtool too for a wire that is not `veth`), with the right to
make namespaces: root's, or that of a user namespace (rootless.py). Programs and
namespaces are gone when the `with` ends, be it by an error or by a signal
(interrupts.py), or a second one.
"""

from __future__ import annotations

import atexit
import itertools
import os
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import TracebackType
from typing import Any, Literal, Self, get_args

from flannelette.benchmarks import interrupts, netns

Wire = Literal["veth", "nic", "plain"]
"""What the wire offloads.

veth:  everything, tunnel TSO included (a veth's default: flatters kernel tunnels)
nic:   TSO and UDP segmentation, no tunnel TSO, GRO on receive (a common NIC)
plain: no transmit offload at all, GRO on receive (an old or virtual NIC)
"""

NETWORK = IPv4Network("192.0.2.0/24")
"""The wire's addresses: TEST-NET-1 (RFC 5737), so nobody's."""
NETWORK6 = IPv6Network("2001:db8::/64")
"""The same for IPv6 (RFC 3849)."""
GATEWAY = NETWORK[254]
"""The hosts' default route; nobody is there, but daemons look for the route."""
MAX_HOSTS = 200
GRACE = 5.0
"""Seconds that a program has between SIGTERM and SIGKILL."""

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that is up: its namespace and its only address of each IP version."""

    ns: str
    address: IPv4Address
    address6: IPv6Address | None = None


class Rig:
    """Hosts, wire and pods; use it as a context manager, once."""

    def __init__(self, hosts: int = 2, wire: Wire = "veth", ipv6: bool = False) -> None:
        """`ipv6`: the hosts have IPv6 addresses besides, and forward it."""
        if not 2 <= hosts <= MAX_HOSTS:
            raise ValueError(f"a rig has 2 to {MAX_HOSTS} hosts, not {hosts}")
        if wire not in get_args(Wire):
            raise ValueError(f"a wire is one of {get_args(Wire)}, not {wire!r}")
        self.numbers = range(1, hosts + 1)
        self.wire: Wire = wire
        """What the wire offloads now."""
        self._name = f"fl{os.getpid()}-{next(_serial)}"
        self._processes: list[subprocess.Popen[Any]] = []
        self._ipv6 = ipv6
        self._up = False

    def host(self, number: int) -> str:
        """The name of a host's network namespace."""
        return f"{self._name}-h{self._checked(number)}"

    def address(self, number: int) -> IPv4Address:
        """A host's address on the wire."""
        return NETWORK[self._checked(number)]

    def address6(self, number: int) -> IPv6Address:
        """The same of a rig with IPv6."""
        return NETWORK6[self._checked(number)]

    def pod_ns(self, number: int) -> str:
        """The name of the namespace of a host's pod, there before the pod is up."""
        return f"{self._name}-p{self._checked(number)}"

    @property
    def namespaces(self) -> list[str]:
        """The names of all namespaces of the rig."""
        names = [f(n) for f in (self.host, self.pod_ns) for n in self.numbers]
        return names if len(self.numbers) == 2 else [*names, f"{self._name}-wire"]

    def __enter__(self) -> Self:
        """Build it all but the pods. Raises RigError or OSError."""
        self._up = True
        interrupts.catch()
        try:
            with interrupts.held():
                atexit.register(self.close)
                self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every program inside, whoever started it, then remove the namespaces.

        Harmless when repeated. Raises RigError if something could not be removed,
        after trying the rest."""
        if not self._up:
            return
        try:
            with interrupts.held():
                try:
                    self._end(self._processes, GRACE)
                    netns.evict(self.namespaces, GRACE)
                finally:
                    self._up = False
                    atexit.unregister(self.close)
                    netns.delete(self.namespaces)
        finally:
            interrupts.release()

    def set_wire(self, wire: Wire) -> None:
        """Change what the wire offloads, at any time. Raises RigError."""
        tso, udp, tunnel, gro = _OFFLOADS[wire]
        features = {
            "tso": tso,
            "gso": tso,
            "tx-udp-segmentation": udp,
            "tx-udp_tnl-segmentation": tunnel,
            "tx-udp_tnl-csum-segmentation": tunnel,
            "gro": gro,
        }
        words = [word for name, on in features.items() for word in (name, _on_off(on))]
        for number in self.numbers:
            command = [netns.tool("ethtool"), "-K", "eth0", *words]
            netns.call(command, self.host(number))
        self.wire = wire

    def pod(
        self,
        number: int,
        subnet: IPv4Network | str,
        mtu: int,
        subnet6: IPv6Network | str | None = None,
    ) -> Pod:
        """Put up a host's pod: bridge cni0 with the subnet's .1, the pod with .2; and
        so with its IPv6 subnet, if there is one.

        Once for each host, when its subnet is known. Raises RigError."""
        subnet = IPv4Network(subnet)
        subnet6 = None if subnet6 is None else IPv6Network(subnet6)
        host, pod = self.host(number), self.pod_ns(number)
        with interrupts.held():
            netns.ip(
                [
                    "link add cni0 type bridge",
                    *_addresses("cni0", 1, subnet, subnet6),
                    f"link add pod0 mtu {mtu} type veth"
                    f" peer name eth0 mtu {mtu} netns {pod}",
                    "link set pod0 master cni0 up",
                    f"link set cni0 mtu {mtu} up",
                ],
                host,
            )
            netns.ip(
                [
                    *_addresses("eth0", 2, subnet, subnet6),
                    "link set eth0 up",
                    f"route add default via {subnet[1]}",
                    *([f"route add ::/0 via {subnet6[1]}"] if subnet6 else ()),
                ],
                pod,
            )
        return Pod(pod, subnet[2], subnet6[2] if subnet6 else None)

    def inside(self, ns: str) -> AbstractContextManager[None]:
        """Move this thread into a namespace: see netns.inside."""
        return netns.inside(ns)

    def ip(self, ns: str, *lines: str) -> None:
        """Run lines of `ip`, without that word, in a namespace. Raises RigError."""
        netns.ip(lines, ns)

    def popen(
        self, ns: str, command: Sequence[str | os.PathLike[str]], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program in a namespace; options are those of subprocess.Popen.

        It gets a session of its own, so that a Ctrl-C is not for it, and ends with
        the rig at the latest. Raises OSError."""
        with netns.inside(ns):
            process = subprocess.Popen(command, start_new_session=True, **options)
            self._processes.append(process)
        return process

    def run(
        self,
        ns: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        check: bool = True,
        timeout: float = netns.DEADLINE,
        input: str = "",
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a namespace to its end; its output comes back as text.

        Raises CalledProcessError with the program's stderr as note (unless check is
        False), TimeoutExpired after timeout seconds, OSError."""
        pipe = subprocess.PIPE
        process = self.popen(
            ns, command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options
        )
        try:
            out, err = process.communicate(input, timeout)
        finally:
            self.stop(process, grace=0)
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        if check and done.returncode:
            error = subprocess.CalledProcessError(done.returncode, command, out, err)
            error.add_note(err.strip())
            raise error
        return done

    def stop(self, process: subprocess.Popen[Any], grace: float = GRACE) -> None:
        """End one program of popen() and what it started; close its pipes."""
        with interrupts.held():
            self._end([process], grace)

    def _build(self) -> None:
        netns.ip(f"netns add {name}" for name in self.namespaces)
        self._lay_wire()
        for number in self.numbers:
            host = self.host(number)
            netns.sysctl(host, "net.ipv4.ip_forward", 1)
            lines = [
                "link set lo up",
                f"address add {self.address(number)}/{NETWORK.prefixlen} dev eth0",
                "link set eth0 up",
                f"route add default via {GATEWAY} dev eth0",
            ]
            if self._ipv6:
                netns.sysctl(host, "net.ipv6.conf.all.forwarding", 1)
                address6 = f"{self.address6(number)}/{NETWORK6.prefixlen}"
                lines.append(f"address add {address6} dev eth0 nodad")
            netns.ip(lines, host)
            netns.ip(["link set lo up"], self.pod_ns(number))
        if self.wire != "veth":
            self.set_wire(self.wire)

    def _lay_wire(self) -> None:
        if len(self.numbers) == 2:
            one, two = self.host(1), self.host(2)
            netns.ip(
                [f"link add eth0 netns {one} type veth peer name eth0 netns {two}"]
            )
            return
        lines = ["link add br0 type bridge", "link set br0 up"]
        for number in self.numbers:
            host, port = self.host(number), f"h{number}"
            lines += [
                f"link add {port} type veth peer name eth0 netns {host}",
                f"link set {port} master br0 up",
            ]
        netns.ip(lines, f"{self._name}-wire")

    def _end(self, processes: Sequence[subprocess.Popen[Any]], grace: float) -> None:
        netns.end(processes, grace)
        self._processes = [p for p in self._processes if p not in processes]

    def _checked(self, number: int) -> int:
        if number not in self.numbers:
            raise ValueError(f"hosts are 1 to {len(self.numbers)}, not {number}")
        return number


_OFFLOADS: dict[Wire, tuple[bool, bool, bool, bool]] = {
    "veth": (True, True, True, False),
    "nic": (True, True, False, True),
    "plain": (False, False, False, True),
}


def _addresses(
    device: str, number: int, subnet: IPv4Network, subnet6: IPv6Network | None
) -> list[str]:
    """Give a device the address of that number in each subnet."""
    lines = [f"address add {subnet[number]}/{subnet.prefixlen} dev {device}"]
    if subnet6 is not None:
        address6 = f"{subnet6[number]}/{subnet6.prefixlen}"
        lines.append(f"address add {address6} dev {device} nodad")
    return lines


def _on_off(on: bool) -> str:
    return "on" if on else "off"
