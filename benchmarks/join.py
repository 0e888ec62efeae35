"""How long a node that joins a large cluster takes until it reaches every peer.

    host 1: the daemon, with 1,000 leases     host 2: the public addresses of all peers
    in its local store                        and the port that they listen on

The daemon is real and starts as ever. From then on a small packet is sent now and then
to each peer that none has reached; before the overlay is there it goes nowhere. What
leaves by the daemon's wire arrives at host 2, and counts if it is what that peer, and
no other, has to get.

The clock starts with the lease. The local store notes when that ends, which tells when
it was written; peers' leases are reservations, so that it is the only one that ends.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from pathlib import Path

from flannelette.benchmarks.cluster import Daemon
from flannelette.benchmarks.contenders import OURS, VXLAN
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.probe import Probe
from flannelette.benchmarks.rig import Rig
from flannelette.control import mac
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.localdb import LocalDB, writing
from flannelette.control.store import LEASE_TTL
from flannelette.dataplane.underlay import UDP_PORT, VXLAN_PORT
from flannelette.encap import vxlan

PEERS = 1000
BACKENDS = {OURS: "udp", VXLAN: "vxlan"}
"""By contender."""
PORTS = {"udp": UDP_PORT, "vxlan": VXLAN_PORT}
NETWORK = IPv4Network("10.0.0.0/8")
FIRST = IPv4Network("10.1.0.0/24")
"""The first peer's subnet; the others follow it."""
PUBLIC = IPv4Network("198.18.0.0/15")
"""The peers' public addresses: those for benchmarks (RFC 2544), so nobody's."""
JOIN_SECONDS = 30.0
"""From the daemon's start."""
AT_ONCE = 100
"""Packets without a look at what arrived."""
NAP = 1e-3


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that is only a lease."""

    lease: Lease
    mac: int

    @property
    def pod(self) -> IPv4Address:
        """Whom the packet is for."""
        return self.lease.subnet[2]

    @property
    def public(self) -> IPv4Address:
        return self.lease.attrs.public_ip


def seconds(backend: str, directory: Path, peers: int = PEERS) -> float:
    """From the lease to the last of the peers' first packets.

    Raises RigError when one was wrong or did not come; OSError."""
    directory.mkdir()
    store = directory / "store.sqlite"
    everyone = make_peers(backend, peers)
    fill(store, backend, everyone)
    with Rig(2) as rig:
        one, two = rig.host(1), rig.host(2)
        rig.ip(two, f"route add local {PUBLIC} dev lo")
        rig.ip(one, "route del default", f"route add {PUBLIC} via {rig.address(2)}")
        with Probe(rig, 1, 2, PORTS[backend]) as probe:
            daemon = Daemon(rig, 1, directory / "h1", [f"--store=local:{store}"])
            reached = reach(probe, everyone, daemon)
    return reached - lease_taken(store)


def make_peers(backend: str, number: int) -> list[Peer]:
    """So many nodes of that backend, with the subnets from FIRST on."""
    size = FIRST.num_addresses
    return [
        _peer(backend, FIRST[0] + index * size, PUBLIC[index + 1], 2 << 40 | index + 1)
        for index in range(number)
    ]


def _peer(backend: str, base: IPv4Address, public: IPv4Address, own: int) -> Peer:
    attrs = LeaseAttrs(public)
    if backend == "vxlan":
        data = f'{{"VNI":1,"VtepMAC":"{mac.show(own)}"}}'
        attrs = LeaseAttrs(public, backend_type=backend, backend_data=data)
    return Peer(Lease(IPv4Network((base, FIRST.prefixlen)), attrs), own)


def fill(store: Path, backend: str, peers: list[Peer]) -> None:
    """Make a local store with the network configuration and the peers' leases."""
    network = {"Network": str(NETWORK), "Backend": {"Type": backend}}
    rows = [(peer.lease.key, peer.lease.attrs.encode()) for peer in peers]
    file = LocalDB(store)
    db = file.connection()
    with writing(db):
        db.execute("INSERT INTO config VALUES (1, ?)", (json.dumps(network),))
        db.executemany("INSERT INTO lease (key, value) VALUES (?, ?)", rows)
    file.close()


def lease_taken(store: Path) -> float:
    """When the only lease that ends was written, Unix time in seconds."""
    file = LocalDB(store)
    query = "SELECT expires FROM lease WHERE expires IS NOT NULL"
    ((expires,),) = file.connection().execute(query).fetchall()
    file.close()
    return float(expires) - LEASE_TTL


def reach(probe: Probe, peers: list[Peer], daemon: Daemon) -> float:
    """Send to each peer until all were reached; when that was, Unix time.

    Raises RigError."""
    missing = {peer.public: peer for peer in peers}
    deadline, reached = time.monotonic() + JOIN_SECONDS, 0.0
    while missing:
        if time.monotonic() >= deadline:
            number = f"{len(missing)} of {len(peers)}"
            raise RigError(f"{number} peers were not reached in time")
        daemon.check()
        for peer in islice(missing.values(), AT_ONCE):
            if not probe.send(peer.pod):
                break  # there is no overlay yet
        time.sleep(NAP)
        for arrival in probe.arrivals():
            if (peer_reached := missing.pop(arrival.to, None)) is not None:
                check(arrival.data, peer_reached)
                reached = arrival.when
    return reached


def check(datagram: bytes, peer: Peer) -> None:
    """Is it what that peer has to get? Raises RigError."""
    packet = datagram
    if peer.lease.attrs.backend_type == "vxlan":
        packet = datagram[vxlan.HEADER :]
        if int.from_bytes(datagram[8:14]) != peer.mac:
            raise RigError(f"{peer.public} got a datagram for another MAC")
    if packet[16:20] != peer.pod.packed:
        raise RigError(f"{peer.public} got a packet for another subnet")


def run(directory: Path) -> dict[str, float]:
    """Of each backend, by contender. Raises RigError, OSError."""
    return {
        name: seconds(backend, directory / backend)
        for name, backend in BACKENDS.items()
    }
