"""Who is compared: overlays, each on a rig of its own with a pod on either host.

The rungs of flannelette's ladder differ by one thing each, and carry flannel's udp. All
but those named for threads are driven by the event loop, the driver that is at home in
Python. Two more carry VXLAN, as the kernel's own does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flannelette.benchmarks import netns
from flannelette.benchmarks.cluster import POLL, UDP, Cluster, Program
from flannelette.benchmarks.rig import Pod, Rig, Wire
from flannelette.control import flags, goflags

SUBNETS = {1: "10.5.1", 2: "10.5.2"}
"""Where the overlay does not give them: the subnets' first three numbers."""
SUBNETS6 = {1: "fd00:5:0:1::/64", 2: "fd00:5:0:2::/64"}
"""Those of our own dual-stack nodes."""
START_SECONDS = 30.0
WIRE_MTU = 1500
VXLAN_MTU = WIRE_MTU - 50
IPERF_PORT = 5201


@dataclass(frozen=True, slots=True)
class Contender:
    """An overlay, or none."""

    name: str
    about: str
    flags: tuple[str, ...] | None = None
    """Of `flannelette run`; None: not ours."""
    backend: Mapping[str, Any] = field(default_factory=lambda: UDP)
    """Of ours, as in the network configuration."""
    ipv6: bool = False
    """Ours in dual stack: the traffic is IPv6, inside and on the wire."""
    measures: tuple[str, ...] | None = None
    """Those it takes part in; None: all."""


_VXLAN = {"Type": "vxlan"}
_LOOP = "--driver=loop"
CONTENDERS = (
    Contender("none", "no overlay: routed over the wire"),
    Contender("vxlan", "the kernel's VXLAN, as flannel sets it up"),
    Contender("flanneld", "flanneld's udp backend"),
    Contender("python", "PurePath, one packet a call", ("--datapath=python", _LOOP)),
    Contender("c", "in C, one packet a call", (_LOOP, "--batch=1", "--offload=none")),
    Contender("batched", "+ many packets a call", (_LOOP, "--offload=none")),
    Contender("gso", "+ UDP GSO and GRO on the socket", (_LOOP, "--offload=gso,gro")),
    Contender("tun", "+ TSO and USO on the TUN", (_LOOP,)),
    Contender("thread", "+ one thread for both directions", ("--driver=thread",)),
    Contender("threads", "+ a thread for each direction", ("--driver=threads",)),
    Contender("uservxlan", "VXLAN in userspace, our default driver", (), _VXLAN),
    Contender(
        "uservxlan6",
        "the same in dual stack, the traffic being IPv6",
        (),
        _VXLAN,
        ipv6=True,
        measures=("tcp1", "tcp4"),
    ),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
OURS: str = goflags.defaults(flags.FLAGS)["driver"]
"""Our udp backend with our default driver, whose name it has."""
VXLAN, VXLAN6 = "uservxlan", "uservxlan6"
"""Our vxlan backend with the same driver."""
MAIN = ("none", "vxlan", "flanneld", OURS, VXLAN, VXLAN6)
"""Those whom the bars are about, and what would be without any."""


@dataclass(slots=True)
class Stand:
    """A contender that is up."""

    contender: Contender
    rig: Rig
    pods: tuple[Pod, Pod]
    """The source of the traffic and its target."""
    mtu: int
    """Of the pods, bytes."""
    daemons: Sequence[Program] = ()
    """The overlay's own programs."""
    tun: str | None = None
    """The device that they forward between."""
    others: list[Program] = field(default_factory=list)
    """What else must run."""

    @property
    def target(self) -> IPv4Address | IPv6Address:
        """Where the traffic goes."""
        pod = self.pods[1]
        return pod.address6 if self.contender.ipv6 and pod.address6 else pod.address

    @property
    def pids(self) -> list[int]:
        return [daemon.process.pid for daemon in self.daemons]

    def check(self) -> None:
        """Raises ProgramDied."""
        for program in (*self.daemons, *self.others):
            program.check()


@contextmanager
def stand(
    contender: Contender, wire: Wire, directory: Path, flanneld: Path
) -> Iterator[Stand]:
    """The contender up and its pods talking, with an iperf3 server in the target.

    Raises RigError, OSError."""
    directory.mkdir()
    with Rig(2, wire, contender.ipv6) as rig:
        if contender.flags is not None:
            it = _ours(contender, rig, directory, contender.flags)
        elif contender.name == "flanneld":
            it = _flanneld(contender, rig, directory, flanneld)
        else:
            it = _kernel(contender, rig)
        _start_iperf(it, directory)
        yield it


def _ours(
    contender: Contender, rig: Rig, directory: Path, flags: tuple[str, ...]
) -> Stand:
    # A static store: the subnets are known, and nothing but forwarding goes on. Nobody
    # here has a firewall.
    cluster = Cluster(
        rig,
        directory,
        "static",
        flags=("--iptables-forward-rules=false", *flags),
        backend=contender.backend,
        ipv6=contender.ipv6,
    )
    deadline = time.monotonic() + START_SECONDS
    cluster.start_store(deadline)
    cluster.start()
    node = cluster.wait_connected(deadline)[1]["node"]
    mtu = node["mtu6"] if contender.ipv6 else node["mtu"]
    pods = _pods(rig, mtu, SUBNETS6 if contender.ipv6 else {})
    daemons = list(cluster.daemons.values())
    return Stand(contender, rig, pods, mtu, daemons, node["device"])


def _kernel(contender: Contender, rig: Rig) -> Stand:
    mtu = WIRE_MTU if contender.name == "none" else VXLAN_MTU
    for number, other in ((1, 2), (2, 1)):
        if contender.name == "none":
            route = f"route add {SUBNETS[other]}.0/24 via {rig.address(other)}"
            rig.ip(rig.host(number), route)
        else:
            _vxlan(rig, number, other)
    return Stand(contender, rig, _pods(rig, mtu), mtu)


def _vxlan(rig: Rig, number: int, other: int) -> None:
    """flannel's own set-up: one device, its peers entered by hand."""
    host, there = rig.host(number), SUBNETS[other]
    rig.ip(
        host,
        f"link add flannel.1 type vxlan id 1 local {rig.address(number)} dev eth0"
        " dstport 8472 nolearning",
        f"link set flannel.1 address {_mac(number)} mtu {VXLAN_MTU} up",
        f"address add {SUBNETS[number]}.0/32 dev flannel.1",
        f"route add {there}.0/24 via {there}.0 dev flannel.1 onlink",
        f"neighbour add {there}.0 lladdr {_mac(other)} dev flannel.1 nud permanent",
    )
    entry = [_mac(other), "dev", "flannel.1", "dst", str(rig.address(other))]
    command = [netns.tool("bridge"), "fdb", "add", *entry, "self", "permanent"]
    netns.call(command, host)


def _mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _pods(
    rig: Rig, mtu: int, subnets6: Mapping[int, str] = MappingProxyType({})
) -> tuple[Pod, Pod]:
    one, two = (
        rig.pod(n, f"{net}.0/24", mtu, subnets6.get(n)) for n, net in SUBNETS.items()
    )
    return one, two


# ---- flanneld ------------------------------------------------------------------------


def _flanneld(contender: Contender, rig: Rig, directory: Path, binary: Path) -> Stand:
    if not os.access(binary, os.X_OK):
        raise netns.RigError(f"there is no program {binary}")
    deadline = time.monotonic() + START_SECONDS
    cluster = Cluster(rig, directory, "etcd")
    cluster.start_store(deadline)
    daemons, pods, mtu = [], [], 0
    for number in rig.numbers:
        subnet_file = directory / f"subnet{number}.env"
        command = [
            str(binary),
            f"--etcd-endpoints=http://{rig.address(1)}:2379",
            "--iface=eth0",
            f"--subnet-file={subnet_file}",
            "--iptables-forward-rules=false",
        ]
        name, log = f"flanneld of host {number}", directory / f"flanneld{number}.log"
        daemon = Program(rig, rig.host(number), name, command, log)
        # One after the other: two that start at once may miss each other.
        _wait(subnet_file.exists, daemon, deadline)
        env = dict(line.split("=", 1) for line in subnet_file.read_text().splitlines())
        mtu = int(env["FLANNEL_MTU"])
        subnet = env["FLANNEL_SUBNET"].replace(".1/", ".0/")
        pods.append(rig.pod(number, subnet, mtu))
        daemons.append(daemon)
    one, two = pods
    others = list(cluster.programs)
    return Stand(contender, rig, (one, two), mtu, daemons, "flannel0", others)


def _wait(condition: Callable[[], object], program: Program, deadline: float) -> None:
    """Raises ProgramDied, RigError when it is too late."""
    while not condition():
        program.check()
        if time.monotonic() >= deadline:
            raise netns.RigError(f"{program.name} is not ready in time")
        time.sleep(POLL)


def _start_iperf(it: Stand, directory: Path) -> None:
    command = [netns.tool("iperf3"), "--server", "--port", str(IPERF_PORT)]
    log, deadline = directory / "iperf3.log", time.monotonic() + START_SECONDS
    server = Program(it.rig, it.pods[1].ns, "the iperf3 server", command, log)
    listening = f":{IPERF_PORT:04X} "
    sockets = Path("/proc", str(server.process.pid), "net/tcp6")

    def listens() -> bool:
        try:
            return listening in sockets.read_text()
        except OSError:  # it has ended
            return False

    _wait(listens, server, deadline)
    it.others.append(server)
