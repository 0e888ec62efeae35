"""Which backend the network configuration asks for."""

from __future__ import annotations

from flannelette.control.backends.backend import Backend
from flannelette.control.backends.hostgw import HostGwBackend
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.backends.vxlan import VxlanBackend
from flannelette.control.errors import NetworkConfigError
from flannelette.control.netconfig import NetworkConfig


def from_config(config: NetworkConfig) -> Backend:
    """Raises NetworkConfigError for an unknown backend, or wrong members."""
    match config.backend_type:
        case UdpBackend.type:
            return UdpBackend.from_config(config)
        case VxlanBackend.type:
            return VxlanBackend.from_config(config)
        case HostGwBackend.type:
            return HostGwBackend.from_config(config)
    known = ", ".join(each.type for each in (UdpBackend, VxlanBackend, HostGwBackend))
    raise NetworkConfigError(
        f"network config: backend {config.backend_type!r} is not supported: {known} are"
    )
