"""Rules in a real kernel: made and repaired, by each backend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from flannelette.control.netconfig import NetworkConfig
from flannelette.control.rules.desired import Rules, Wanted
from flannelette.control.rules.keeper import RulesKeeper
from flannelette.control.rules.nft import NftBackend
from tests.helpers import firewalls
from tests.helpers.firewalls import (
    DUAL,
    JUMPS,
    NETWORK,
    NFT,
    NFT4,
    NFT6,
    NFT_DUAL,
    in_order,
    kept,
    needs_firewalls,
    nft_table,
    said,
    saved,
    started,
)
from tests.helpers.freshnet import in_fresh_net
from tests.helpers.ns import needs_namespaces
from tests.helpers.waiting import eventually

pytestmark = [needs_namespaces, needs_firewalls]

# ---- made ----------------------------------------------------------------------------


@pytest.mark.parametrize("network", [NETWORK, DUAL], ids=["ipv4", "dual"])
def test_iptables_rules(variant: str, network: NetworkConfig) -> None:
    """8.1, 8.2."""

    async def body() -> None:
        await started(network=network)
        assert in_order()
        dual = network is DUAL
        assert in_order("ip6tables", 6) == dual
        assert bool(saved("ip6tables")) == dual

    in_fresh_net(body)


def test_nft_rules() -> None:
    """8.3, less its fourth rule."""

    async def body() -> None:
        await started(network=NFT)
        assert said("nft list ruleset") == NFT4

    in_fresh_net(body)


def test_nft_rules_in_dual_stack() -> None:
    async def body() -> None:
        await started(network=NFT_DUAL)
        assert nft_table("ip", "flannel-ipv4") == NFT4
        assert nft_table("ip6", "flannel-ipv6") == NFT6

    in_fresh_net(body)


def test_only_what_is_wanted(variant: str) -> None:
    async def body() -> None:
        await started(Wanted(masquerade=False, forward=True, fully_random=True))
        assert saved("iptables") == [JUMPS[1], *firewalls.forward()]
        await started(Wanted(masquerade=True, forward=False, fully_random=False))
        masquerade = [
            it.removesuffix(" --random-fully") for it in firewalls.masquerade()
        ]
        assert saved("iptables") == [JUMPS[0], *masquerade]
        assert "filter FLANNEL-FWD" not in firewalls.chain_names("iptables")

    in_fresh_net(body)


def test_a_restart_changes_nothing(
    variant: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        for network in (DUAL, NFT_DUAL):
            await started(network=network)
            caplog.clear()
            with caplog.at_level(logging.INFO):
                keeper = await started(network=network)
                async with kept(keeper):
                    await asyncio.sleep(0.2)
            assert caplog.messages == []
            assert keeper.repairs == 0

    in_fresh_net(body)


# ---- repaired ------------------------------------------------------------------------


DAMAGE = {
    "a chain is emptied": ["-t nat -F FLANNEL-POSTRTG"],
    "a table is emptied": ["-t nat -F", "-t nat -X"],
    "the jump is missing": ["-t filter -F FORWARD"],
    "the jump is there twice": ["-t nat -A POSTROUTING {masq} -j FLANNEL-POSTRTG"],
    "the order is wrong": [
        "-t nat -D FLANNEL-POSTRTG 1",
        "-t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN",
    ],
    "somebody's rule is in our chain": ["-t filter -I FLANNEL-FWD -j DROP"],
}


async def until_repaired(keeper: RulesKeeper, sound: Callable[[], bool]) -> None:
    """Keep the rules until they are sound."""
    async with kept(keeper):
        await eventually(lambda: keeper.repairs > 0 and sound())


@pytest.mark.parametrize("what", DAMAGE)
def test_iptables_damage_is_repaired(
    variant: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """M3, and its omissions: order, duplicates."""

    async def body() -> None:
        keeper = await started()
        table = DAMAGE[what][0].split()[1]
        text = "\n".join(it.partition(table)[2].strip() for it in DAMAGE[what])
        text = text.format(masq='-m comment --comment "flanneld masq"')
        said("iptables-restore --noflush", f"*{table}\n{text}\nCOMMIT\n")
        assert not in_order()
        await until_repaired(keeper, in_order)

    in_fresh_net(body)
    assert sum(it.startswith("repaired: ") for it in caplog.messages) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "flush table ip flannel-ipv4",
        "delete table ip flannel-ipv4",
        "insert rule ip flannel-ipv4 forward drop",
        "add rule ip flannel-ipv4 postrtg meta mark & 0x4000 == 0x4000 return",
        "flush chain ip flannel-ipv4 forward",
    ],
)
def test_nft_damage_is_repaired(damage: str) -> None:
    async def body() -> None:
        keeper = await started(network=NFT)
        said(f"nft {damage}")
        # Chains that were made anew stand behind the others.
        await until_repaired(
            keeper,
            lambda: (
                "flannel-ipv4" in said("nft list tables")
                and sorted(said("nft list ruleset")) == sorted(NFT4)
            ),
        )

    in_fresh_net(body)


def test_what_is_undone_again_and_again_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apply = NftBackend.apply

    async def undone(
        self: NftBackend, rules: Rules, everything: bool = False
    ) -> list[str]:
        said("nft delete table ip flannel-ipv4")
        return await apply(self, rules, everything)

    async def body() -> None:
        keeper = await started(network=NFT)
        monkeypatch.setattr(NftBackend, "apply", undone)
        await until_repaired(keeper, lambda: keeper.repairs >= 10)

    in_fresh_net(body)
    repaired = [it for it in caplog.messages if it.startswith("repaired: ")]
    assert len(repaired) == len(set(repaired)) == 2
