"""The host-gw backend: kernel routes, and no encapsulation at all. Pure.

flannel-behaviour.md section 7.1. The nodes share a network segment: a peer's public IP
is the gateway to its subnet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flannelette.control.backends.backend import CarriedBy, Routes, wrong_type
from flannelette.control.errors import HostError
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route


@dataclass(frozen=True, slots=True)
class HostGwBackend:
    """flannel's host-gw backend (control/backend.py)."""

    type: ClassVar[str] = "host-gw"
    carried_by: ClassVar[CarriedBy] = "kernel"
    port: ClassVar[None] = None
    ipv6: bool = False
    """Dual stack."""

    @classmethod
    def from_config(cls, config: NetworkConfig) -> HostGwBackend:
        """It has no members of its own (7.1)."""
        return cls(config.network6 is not None)

    @property
    def dual_underlay(self) -> bool:
        return self.ipv6

    def check(self, external: External) -> None:
        """Nobody can be a gateway at an address that is not its own (7.1)."""
        pairs = [
            (external.public_ip, external.address),
            (external.public_ipv6, external.address6),
        ]
        for public, own in pairs[: 1 + self.ipv6]:
            if public != own:
                raise HostError(
                    f"host-gw: the public IP {public} is not the address {own} of "
                    f"interface {external.name}"
                )

    def mtus(self, external: int) -> tuple[int, int]:
        return external, external if self.ipv6 else 0

    def attrs(self, external: External, mac: int) -> LeaseAttrs:
        public_ipv6 = external.public_ipv6 if self.ipv6 else None
        return LeaseAttrs(external.public_ip, public_ipv6, backend_type=self.type)

    def objection(self, lease: Lease, own: Lease) -> str | None:
        attrs = lease.attrs
        if reason := wrong_type(attrs, self.type):
            return reason
        gateways = [attrs.public_ip, attrs.public_ipv6][: 1 + self.ipv6]
        for gateway in gateways:
            if gateway is None:
                continue
            if gateway.is_unspecified or gateway.is_multicast or gateway.is_loopback:
                return f"the public IP {gateway} can be no gateway"
        return None

    def routes(self, lease: Lease) -> Routes:
        attrs = lease.attrs
        routes: Routes = {lease.subnet: Route.to(lease.subnet, attrs.public_ip)}
        if self.ipv6 and lease.subnet6 is not None and attrs.public_ipv6 is not None:
            routes[lease.subnet6] = Route.to(lease.subnet6, attrs.public_ipv6)
        return routes
