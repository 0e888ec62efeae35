"""What readiness and metrics look at, as it is now."""

from __future__ import annotations

from flannelette.control.config import Config
from flannelette.control.health.readiness import Facts
from flannelette.control.node import Node
from flannelette.control.store import Store


def facts(
    config: Config, store: Store | None, node: Node | None, waiting_for: str | None
) -> Facts:
    """For readiness. Costs next to nothing, whatever the cluster's size."""
    if store is None or node is None:
        return Facts(started=False, waiting_for=waiting_for)
    status = store.status()
    forwarder, device = node.carrier.forwarder, node.carrier.device
    return Facts(
        margin=config.subnet_lease_renew_margin * 60.0,
        lease_revoked=node.keeper.revoked,
        lease_left=node.keeper.seconds_left(),
        lease_error=node.keeper.error,
        store_outage=status.outage,
        store_error=status.error,
        tun_lost=forwarder is not None and device is None,
        carrier_error=node.carrier_error,
        pump_ended=forwarder is not None and not forwarder.pumping,
        rules_error=node.rules_error,
    )
