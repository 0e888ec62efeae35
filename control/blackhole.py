"""--ip-blackhole-route: packets for a pod of ours that is not there go nowhere.

Else they take the next larger route: back into the overlay, or out by the default
route. flannel-behaviour.md 4.1. The routes are made at start, and repaired with the
traffic rules; a start without the flag, or on another subnet, removes what is left. At
exit they stay (C8).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from flannelette.control.config import Config
from flannelette.control.errors import one_line
from flannelette.control.lease import Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.tun.link import Netlink
from flannelette.tun.repairs import Network

log = logging.getLogger(__name__)


def open_blackholes(
    config: Config, network: NetworkConfig, netlink: Netlink
) -> BlackholeKeeper:
    """Of a daemon with these settings."""
    resync, wanted = config.iptables_resync, config.ip_blackhole_route
    return BlackholeKeeper(netlink, wanted, network.networks, resync)


class BlackholeKeeper:
    """One node's blackholes. start(), then keep()."""

    def __init__(
        self,
        netlink: Netlink,
        wanted: bool,
        overlay: Collection[Network],
        resync: float,
    ) -> None:
        """`overlay`: its networks; `resync`: seconds between two comparisons."""
        self.repairs = 0
        self.error: str | None = None
        """Why they could not be compared or repaired, the last time."""
        self._netlink = netlink
        self._wanted = wanted
        self._overlay = overlay
        self._resync = resync
        self._desired: tuple[Network, ...] = ()

    async def start(self, subnets: Subnets) -> None:
        """Of a node with these subnets. Raises OSError if they are wanted."""
        if self._wanted:
            self._desired = tuple(it for it in subnets if it is not None)
        try:
            for step in await self._reconcile():
                log.info("blackhole: changed=%r", step)
        except OSError as error:
            if self._wanted:
                raise
            log.warning("an old blackhole may be left: error=%s", one_line(error))

    async def keep(self) -> None:
        """Compare and repair, until cancelled."""
        while self._desired:
            await asyncio.sleep(self._resync)
            try:
                for step in await self._reconcile():
                    self.repairs += 1
                    log.warning("repaired: what=%r", step)
                self.error = None
            except OSError as error:
                why = one_line(error)
                if why != self.error:
                    log.error("blackholes cannot be repaired: error=%s", why)
                self.error = why

    async def _reconcile(self) -> list[str]:
        netlink = self._netlink
        return await netlink.reconcile_blackholes(self._desired, self._overlay)
