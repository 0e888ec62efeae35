"""Which carrier the backend asks for."""

from __future__ import annotations

from flannelette.control.backends.alloc import AllocBackend
from flannelette.control.backends.extension import ExtensionBackend
from flannelette.control.backends.hostgw import HostGwBackend
from flannelette.control.backends.vxlan import VxlanBackend
from flannelette.control.carrier import Carrier
from flannelette.control.config import Config
from flannelette.control.extensioncarrier import ExtensionCarrier
from flannelette.control.handover.handover import Handover
from flannelette.control.kernelcarrier import HostGwCarrier, VxlanCarrier
from flannelette.control.nocarrier import NoCarrier
from flannelette.control.plan import Plan
from flannelette.control.usercarrier import open_user_carrier
from flannelette.tun.link import Netlink


def open_carrier(
    config: Config, plan: Plan, netlink: Netlink, handover: Handover
) -> Carrier:
    """Ready to carry once there is a lease; what forwards already is taken over by the
    carrier that can. Raises OSError."""
    match plan.backend:
        case AllocBackend():
            return NoCarrier()
        case ExtensionBackend() as extension:
            return ExtensionCarrier(plan, extension)
        case HostGwBackend():
            return HostGwCarrier(plan, netlink)
        case VxlanBackend(kernel=True) as vxlan:
            return VxlanCarrier(plan, vxlan, netlink)
    return open_user_carrier(config, plan, netlink, handover)
