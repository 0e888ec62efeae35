"""What a node decided before it changed anything."""

from __future__ import annotations

from dataclasses import dataclass

from flannelette.control.backends.backend import Backend
from flannelette.control.errors import HostError
from flannelette.control.interface import External
from flannelette.control.netconfig import NetworkConfig

MIN_MTU = 68
"""Bytes that every IPv4 link must carry (RFC 791 section 3.2)."""
MIN_MTU6 = 1280
"""Bytes that every IPv6 link must carry (RFC 8200 section 5)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """By which interface, in which network, with which backend."""

    external: External
    network: NetworkConfig
    backend: Backend

    def __post_init__(self) -> None:
        """Raises HostError for an interface that the backend cannot work with."""
        self.backend.check(self.external)
        checks = [("", self.mtu, MIN_MTU), (" for IPv6", self.mtu6, MIN_MTU6)]
        for version, mtu, least in checks[: 1 + self.dual]:
            if mtu < least:
                raise HostError(
                    f"interface {self.external.name}: its MTU {self.external.mtu} "
                    f"leaves {mtu} bytes for the overlay; {least} are needed{version}"
                )

    @property
    def dual(self) -> bool:
        """Dual stack?"""
        return self.network.network6 is not None

    @property
    def mtu(self) -> int:
        """Of IPv4 packets in the overlay, bytes."""
        return self.backend.mtus(self.external.mtu)[0]

    @property
    def mtu6(self) -> int:
        """Of IPv6 packets in the overlay, bytes; 0: there are none."""
        return self.backend.mtus(self.external.mtu)[1]

    @property
    def smallest_mtu(self) -> int:
        """What fits whatever its version (FLANNEL_MTU)."""
        return min(self.mtu, self.mtu6) if self.dual else self.mtu
