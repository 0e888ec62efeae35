"""The udp backend: raw IP packets in UDP. Pure.

flannel-behaviour.md section 5.1. A lease's attributes say little here: any node whose
lease is in the store is reached at its public IP and our own configured port (U7, L7).

IPv6 is our own addition: its packets travel raw as well, over IPv4, and only to nodes
whose lease announces that they take them. flanneld would misread them (U14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flannelette.control.backends.backend import CarriedBy, Members, Routes
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route
from flannelette.dataplane.underlay import UDP_MOST, UDP_OVERHEAD, UDP_PORT


@dataclass(frozen=True, slots=True)
class UdpBackend:
    """flannel's udp backend (control/backend.py)."""

    type: ClassVar[str] = "udp"
    carried_by: ClassVar[CarriedBy] = "us"
    dual_underlay: ClassVar[bool] = False
    port: int = UDP_PORT
    """Where every node of the cluster listens (U1)."""
    ipv6: bool = False
    """Dual stack."""

    @classmethod
    def from_config(cls, config: NetworkConfig) -> UdpBackend:
        """Raises NetworkConfigError for a port out of range, or `Datapath` kernel."""
        members = Members(config, ["Port", "Datapath"])
        members.choice("Datapath", "user")
        port = members.number("Port", UDP_PORT, 1, 65535)
        return cls(port, config.network6 is not None)

    def check(self, external: External) -> None:
        """It works with any interface."""

    def mtus(self, external: int) -> tuple[int, int]:
        """U5. Both versions travel over IPv4."""
        mtu = min(external - UDP_OVERHEAD, UDP_MOST)
        return mtu, mtu if self.ipv6 else 0

    def attrs(self, external: External, mac: int) -> LeaseAttrs:
        """L3."""
        return LeaseAttrs(external.public_ip, raw_ipv6=self.ipv6)

    def objection(self, lease: Lease, own: Lease) -> str | None:
        """None at all: flannel's udp does not filter either (L7)."""
        return None

    def routes(self, lease: Lease) -> Routes:
        peer = lease.attrs.public_ip
        routes: Routes = {lease.subnet: Route.to(lease.subnet, peer, self.port)}
        if self.ipv6 and lease.subnet6 is not None and lease.attrs.raw_ipv6:
            routes[lease.subnet6] = Route.to(lease.subnet6, peer, self.port)
        return routes
