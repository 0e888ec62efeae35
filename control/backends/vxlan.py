"""The vxlan backend: Ethernet frames in VXLAN (RFC 7348). Pure.

flannel-behaviour.md section 6. A peer is reached at its public IP and our own
configured port; the frames inside are for its VTEP's MAC, which its lease tells.
Inner IPv4 travels over IPv4 and inner IPv6 over IPv6, as between flanneld's two devices
(V8). We have one MAC for both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar

from flannelette.control import mac as macs
from flannelette.control.backends.backend import (
    CarriedBy,
    Members,
    Routes,
    Subnet,
    wrong_type,
)
from flannelette.control.errors import NetworkConfigError
from flannelette.control.gojson import GoJSONError, fold, loads_object
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.dataplane.forwarder import Route
from flannelette.dataplane.underlay import (
    UDP_MOST,
    VXLAN_HEADER,
    VXLAN_OVERHEAD,
    VXLAN_OVERHEAD6,
    VXLAN_PORT,
)

_DEFAULT_VNI = 1
_IFNAME_MAX = 15
_MEMBERS = ("VNI", "Port", "MTU", "GBP", "Learning", "DirectRouting", "Datapath")


@dataclass(frozen=True, slots=True)
class VxlanBackend:
    """flannel's vxlan backend (control/backend.py)."""

    type: ClassVar[str] = "vxlan"
    vni: int = _DEFAULT_VNI
    port: int = VXLAN_PORT
    """V2; flanneld leaves it to the kernel, whose default is the same."""
    mtu: int = 0
    """Of the underlay, bytes; 0: the external interface's (V4)."""
    direct_routing: bool = False
    """Peers on our network segment are reached without encapsulation (V11)."""
    gbp: bool = False
    learning: bool = False
    kernel: bool = False
    ipv6: bool = False
    """Dual stack."""

    @classmethod
    def from_config(cls, config: NetworkConfig) -> VxlanBackend:
        """V1 to V4, and `Datapath`, which is ours: user or kernel.

        Raises NetworkConfigError, also for what only the kernel can do."""
        members = Members(config, _MEMBERS)
        kernel = members.choice("Datapath", "user", "kernel") == "kernel"
        for name in ("GBP", "Learning"):
            if members.boolean(name) and not kernel:
                raise NetworkConfigError(
                    f"network config: Backend.{name} needs Backend.Datapath kernel"
                )
        vni_default = 0 if members.has("VNI") else _DEFAULT_VNI  # 0 is a VNI as well
        backend = cls(
            vni=members.number("VNI", vni_default, 0, (1 << 24) - 1),
            port=members.number("Port", VXLAN_PORT, 1, 65535),
            mtu=members.number("MTU", 0, 68, 65535),
            direct_routing=members.boolean("DirectRouting"),
            gbp=members.boolean("GBP"),
            learning=members.boolean("Learning"),
            kernel=kernel,
            ipv6=config.network6 is not None,
        )
        longest = backend.device6 if backend.ipv6 else backend.device
        if kernel and len(longest) > _IFNAME_MAX:
            raise NetworkConfigError(
                f"network config: Backend.VNI {backend.vni} is too large: the kernel "
                f"takes no device name as long as {longest}"
            )
        return backend

    @property
    def device(self) -> str:
        """Of the kernel's datapath (V1)."""
        return f"flannel.{self.vni}"

    @property
    def device6(self) -> str:
        return f"flannel-v6.{self.vni}"

    @property
    def carried_by(self) -> CarriedBy:
        return "kernel" if self.kernel else "us"

    @property
    def dual_underlay(self) -> bool:
        return self.ipv6

    def check(self, external: External) -> None:
        """It works with any interface."""

    def mtus(self, external: int) -> tuple[int, int]:
        """V4; less the true overhead of each version, where flanneld always takes that
        of IPv4 (V8)."""
        base, most = self.mtu or external, UDP_MOST - VXLAN_HEADER
        six = min(base - VXLAN_OVERHEAD6, most) if self.ipv6 else 0
        return min(base - VXLAN_OVERHEAD, most), six

    def attrs(self, external: External, mac: int) -> LeaseAttrs:
        """L6, H8: two members, compact."""
        data = json.dumps(
            {"VNI": self.vni, "VtepMAC": macs.show(mac)}, separators=(",", ":")
        )
        return LeaseAttrs(
            external.public_ip,
            public_ipv6=external.public_ipv6 if self.ipv6 else None,
            backend_type=self.type,
            backend_data=data,
            backend_v6_data=data if self.ipv6 else None,
        )

    def objection(self, lease: Lease, own: Lease) -> str | None:
        """What flanneld skips (L7, H4), and MACs that no frame can be sent to."""
        attrs = lease.attrs
        if reason := wrong_type(attrs, self.type):
            return reason
        ours = vtep_mac(own.attrs.backend_data)
        try:
            found = [vtep_mac(data) for _, _, data in self._ways(lease)]
        except ValueError as error:
            return str(error)
        return "our own MAC" if ours in found else None

    def routes(self, lease: Lease) -> Routes:
        return {
            subnet: Route.to(subnet, peer, self.port, vtep_mac(data))
            for subnet, peer, data in self._ways(lease)
        }

    def _ways(
        self, lease: Lease
    ) -> list[tuple[Subnet, IPv4Address | IPv6Address, str | None]]:
        """Subnets, the peer's address for each, and the data with its MAC."""
        attrs = lease.attrs
        ways: list[tuple[Subnet, IPv4Address | IPv6Address, str | None]] = [
            (lease.subnet, attrs.public_ip, attrs.backend_data)
        ]
        if self.ipv6 and lease.subnet6 is not None and attrs.public_ipv6 is not None:
            ways.append((lease.subnet6, attrs.public_ipv6, attrs.backend_v6_data))
        return ways


@lru_cache(16)  # our own is asked for with each peer's, and that more than once
def vtep_mac(data: str | None) -> int:
    """The MAC in a lease's BackendData, or BackendV6Data. Raises ValueError."""
    if data is None:
        raise ValueError("no VtepMAC")
    try:
        text = fold(loads_object(data), ["VtepMAC"]).get("VtepMAC")
    except GoJSONError:
        text = None
    if not isinstance(text, str):
        raise ValueError("no VtepMAC")
    mac = macs.parse(text)
    if not macs.is_unicast(mac):
        raise ValueError(f"the VtepMAC {macs.show(mac)} is no device's")
    return mac
