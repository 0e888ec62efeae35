"""The node's rules in the kernel: made at start, and repaired for as long as we run.

Whoever restarts a firewall flushes what others put into it, so every --iptables-resync
seconds we compare (M3). What an earlier run left, for another network or of the other
backend, goes at start (M2, M5); at exit nothing goes (M6), or each restart would cut
the pods off. `flannelette cleanup` removes all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Self

from flannelette.control.config import Config
from flannelette.control.errors import HostError, one_line
from flannelette.control.lease import Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.rules.desired import Rules, RulesBackend, Wanted, desired
from flannelette.control.rules.iptables import IptablesBackend
from flannelette.control.rules.nft import NftBackend
from flannelette.control.rules.tool import RulesBusy

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until the next try while somebody else changes rules."""
_CURE = (
    "install it, or choose the other kind of rules by EnableNFTables in the network "
    "config, or start without --ip-masq and with --iptables-forward-rules=false"
)


def nft_backends() -> list[RulesBackend]:
    return [NftBackend(4), NftBackend(6)]


def iptables_backends() -> list[RulesBackend]:
    return [IptablesBackend(4), IptablesBackend(6)]


class RulesKeeper:
    """One node's rules. open(), then start(), then keep()."""

    def __init__(
        self,
        wanted: Wanted,
        network: NetworkConfig,
        used: list[RulesBackend],
        unused: list[RulesBackend],
        resync: float,
    ) -> None:
        """`resync`: seconds between two comparisons."""
        self.repairs = 0
        self.error: str | None = None
        """Why rules could not be compared or repaired, the last time."""
        self._wanted = wanted
        self._network = network
        self._used = used
        self._unused = unused
        self._resync = resync
        self._rules: tuple[Rules, ...] = ()
        self._unmade: list[Rules] = []
        """Those of them that were not made yet."""
        self._told: list[str] = []

    @classmethod
    async def open(cls, wanted: Wanted, network: NetworkConfig, resync: float) -> Self:
        """Choose the backend, and find out whether it will work, before there is a
        lease. Raises HostError, OSError."""
        nft, iptables = nft_backends(), iptables_backends()
        used, unused = (nft, iptables) if network.nftables else (iptables, nft)
        keeper = cls(wanted, network, used, unused, resync)
        try:
            await keeper._check()
        except (HostError, OSError) as error:
            keeper._do_without(error)
        return keeper

    @property
    def asked_for(self) -> bool:
        """Did somebody ask for rules, or for nftables, by name?"""
        return not self._wanted.optional or self._network.nftables

    def _do_without(self, error: HostError | OSError) -> None:
        """Raises the error if somebody asked for them."""
        if self.asked_for:
            raise error
        log.warning("no forward rules: error=%s", one_line(error))
        self._wanted = Wanted(False, False, False)
        self._rules, self._unmade = (), []

    async def _check(self) -> None:
        subnets = Subnets(self._network.network, self._network.network6)
        for rules in desired(self._wanted, self._network, subnets):
            backend = self._backend(rules)
            if missing := backend.missing():
                raise HostError(f"the program {missing} is not installed: {_CURE}")
            try:
                await backend.check(rules)
            except RulesBusy:
                log.info("rules are being changed by others: program=%s", backend.name)

    def _backend(self, rules: Rules) -> RulesBackend:
        return next(it for it in self._used if it.version == rules.version)

    async def start(self, subnets: Subnets) -> None:
        """Make the rules of a node with these subnets; remove what is left of others.
        Waits for as long as somebody else holds the firewall's lock; but if nobody
        asked for rules by name, the node need not wait for them: keep() makes them.

        Raises HostError, OSError."""
        self._rules = desired(self._wanted, self._network, subnets)
        self._unmade = list(self._rules)
        while self._unmade:
            try:
                await self._make()
            except RulesBusy as error:
                self._complain(error)
                if not self.asked_for:
                    break
                await asyncio.sleep(RETRY)
            else:
                self.error = None
        kept = [self._backend(rules) for rules in self._rules]
        others = [it for it in (*self._used, *self._unused) if it not in kept]
        await asyncio.gather(*map(_recycle, others))

    async def _make(self) -> None:
        """What was not made yet. Raises RulesBusy, HostError, OSError."""
        try:
            while self._unmade:
                rules = self._unmade[0]
                changes = await self._backend(rules).apply(rules, everything=True)
                for change in changes:
                    log.info("rules: changed=%r", change)
                del self._unmade[0]
        except RulesBusy:
            raise
        except (HostError, OSError) as error:  # a check does not foresee everything
            self._do_without(error)

    async def keep(self) -> None:
        """Compare and repair, until cancelled."""
        while self._rules:
            await asyncio.sleep(self._resync)
            try:
                await self._repair()
            except (HostError, OSError) as error:
                self._complain(error)
            else:
                self.error = None

    async def _repair(self) -> None:
        """Say it once when the same is undone again and again."""
        await self._make()
        repairs: list[str] = []
        for rules in self._rules:
            repairs += await self._backend(rules).apply(rules)
        self.repairs += len(repairs)
        for repair in repairs:
            if repair not in self._told:
                log.warning("repaired: what=%r", repair)
        self._told = repairs

    def _complain(self, error: Exception) -> None:
        why = one_line(error)
        if why != self.error:
            log.error("rules cannot be compared or repaired: error=%s", why)
        self.error = why


async def open_rules(config: Config, network: NetworkConfig) -> RulesKeeper:
    """Of a daemon with these settings. Raises HostError, OSError."""
    wanted = Wanted(
        masquerade=config.ip_masq,
        forward=config.iptables_forward_rules is not False,
        fully_random=not config.ip_masq_fully_random_disable,
        optional=config.iptables_forward_rules is None and not config.ip_masq,
    )
    return await RulesKeeper.open(wanted, network, config.iptables_resync)


async def _recycle(backend: RulesBackend) -> None:
    """Remove what an earlier run left there. None of it is worth not starting."""
    if backend.missing():
        return
    try:
        for removed in await remove(backend):
            log.info("rules: removed=%r", removed)
    except (HostError, OSError) as error:
        log.warning("old rules may be left: error=%s", one_line(error))


async def remove(backend: RulesBackend) -> list[str]:
    """Remove all rules of ours, or of a flanneld before us; what was removed.

    Raises HostError, OSError."""
    return await backend.apply(Rules(backend.version), everything=True)
