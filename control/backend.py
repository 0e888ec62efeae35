"""The udp backend: what its network configuration means, and what a lease means to it.

flannel-behaviour.md section 5.1. A lease's attributes say little here: any node whose
lease is in the store is reached at its public IP and our own configured port (U7, L7).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from flannelette.control.errors import NetworkConfigError
from flannelette.control.gojson import fold
from flannelette.control.lease import LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route
from flannelette.dataplane.underlay import UDP_MOST, UDP_OVERHEAD, UDP_PORT

TYPE = "udp"


@dataclass(frozen=True, slots=True)
class UdpBackend:
    """flannel's udp backend: raw IPv4 packets in UDP."""

    port: int
    """Where every node of the cluster listens (U1)."""

    @classmethod
    def from_config(cls, config: NetworkConfig) -> UdpBackend:
        """Raises NetworkConfigError for another backend, or a port out of range."""
        if config.backend_type != TYPE:
            raise NetworkConfigError(
                f"network config: backend {config.backend_type!r} is not supported, "
                f"only {TYPE!r} is"
            )
        port = fold(dict(config.backend), ["Port"]).get("Port", UDP_PORT)
        if not isinstance(port, int) or isinstance(port, bool):
            raise NetworkConfigError("network config: Backend.Port is not a number")
        port = port or UDP_PORT  # Go's zero value, as flanneld reads it
        if not 1 <= port <= 65535:
            raise NetworkConfigError(f"network config: Backend.Port {port} is no port")
        return cls(port)

    def mtu(self, external: int) -> int:
        """The overlay's MTU, bytes, on an interface with that MTU (U5)."""
        return min(external - UDP_OVERHEAD, UDP_MOST)

    def attrs(self, public_ip: IPv4Address) -> LeaseAttrs:
        """What our lease says (L3)."""
        return LeaseAttrs(public_ip)

    def route(self, subnet: IPv4Network, attrs: LeaseAttrs) -> Route:
        """How that lease's subnet is reached."""
        return Route.to(subnet, attrs.public_ip, self.port)
