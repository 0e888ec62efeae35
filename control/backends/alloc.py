"""The alloc backend: a lease, and nobody who carries packets. Pure.

flannel-behaviour.md section 7.6. For hosts whose network knows by other means which
host has which subnet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flannelette.control.backends.backend import CarriedBy, Routes
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig


@dataclass(frozen=True, slots=True)
class AllocBackend:
    """flannel's alloc backend (control/backend.py)."""

    type: ClassVar[str] = "alloc"
    carried_by: ClassVar[CarriedBy] = "others"
    port: ClassVar[None] = None
    dual_underlay: ClassVar[bool] = False
    ipv6: bool = False
    """Dual stack."""

    @classmethod
    def from_config(cls, config: NetworkConfig) -> AllocBackend:
        """It has no members of its own."""
        return cls(config.network6 is not None)

    def check(self, external: External) -> None:
        """It works with any interface."""

    def mtus(self, external: int) -> tuple[int, int]:
        """S4."""
        return external, external if self.ipv6 else 0

    def attrs(self, external: External, mac: int) -> LeaseAttrs:
        """L3: flanneld says neither a type nor an address of IPv6."""
        return LeaseAttrs(external.public_ip)

    def objection(self, lease: Lease, own: Lease) -> str | None:
        """None at all: nothing is done about a lease."""
        return None

    def routes(self, lease: Lease) -> Routes:
        return {}
