"""Which backend the network configuration asks for."""

from __future__ import annotations

from flannelette.control.backends.alloc import AllocBackend
from flannelette.control.backends.backend import Backend
from flannelette.control.backends.extension import ExtensionBackend
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
        case AllocBackend.type:
            return AllocBackend.from_config(config)
        case ExtensionBackend.type:
            return ExtensionBackend.from_config(config)
    all_there_are = UdpBackend, VxlanBackend, HostGwBackend, AllocBackend
    known = ", ".join(each.type for each in (*all_there_are, ExtensionBackend))
    raise NetworkConfigError(
        f"network config: backend {config.backend_type!r} is not supported: {known} are"
    )
