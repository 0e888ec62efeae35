"""Rules in a real kernel: made and repaired, by each backend."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.rules import keeper, tool
from flannelette.control.rules.desired import Rules, Wanted
from flannelette.control.rules.keeper import RulesKeeper
from flannelette.control.rules.nft import NftBackend
from tests.helpers import firewalls
from tests.helpers.firewalls import (
    ALL,
    DUAL,
    JUMPS,
    NETWORK,
    NFT,
    NFT4,
    NFT6,
    NFT_DUAL,
    NONE,
    SUBNETS,
    in_order,
    needs_firewalls,
    nft_table,
    said,
    saved,
    started,
    use_variant,
)
from tests.helpers.freshnet import in_fresh_net
from tests.helpers.ns import needs_namespaces

pytestmark = [needs_namespaces, needs_firewalls]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def until_repaired(keeper: RulesKeeper, sound: Callable[[], bool]) -> None:
    """Keep the rules until they are sound."""
    keeping = asyncio.create_task(keeper.keep())
    try:
        await until(lambda: keeper.repairs > 0 and sound())
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


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
                keeping = asyncio.create_task(keeper.keep())
                await asyncio.wait([keeping], timeout=0.2)
                keeping.cancel()
                await asyncio.wait([keeping])
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


# ---- what goes wrong -----------------------------------------------------------------


def only(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let nothing else be installed."""
    found = {name: tool.find(name) for name in names}

    def find(*wanted: str) -> str | None:
        return next((found[name] for name in wanted if name in found), None)

    for module in ("nft", "iptables"):
        patch.setattr(f"flannelette.control.rules.{module}.find", find)


def test_the_other_backend_need_not_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """M7: flanneld does not start with nftables when iptables is missing."""
    only(monkeypatch, "nft")

    async def body() -> None:
        await started(network=NFT)
        assert said("nft list ruleset") == NFT4

    in_fresh_net(body)


@pytest.mark.parametrize(
    ("network", "there", "missing"),
    [
        (NETWORK, (), "iptables-restore"),
        (NETWORK, ("iptables-restore",), "iptables-save"),
        (DUAL, ("iptables-restore", "iptables-save"), "ip6tables-restore"),
        (NFT, ("iptables-restore", "iptables-save"), "nft"),
    ],
    ids=["iptables", "save", "ip6tables", "nft"],
)
def test_a_missing_program_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
    network: NetworkConfig,
    there: tuple[str, ...],
    missing: str,
) -> None:
    only(monkeypatch, *there)

    async def body() -> None:
        with pytest.raises(HostError, match=f"program {missing} is not installed"):
            await RulesKeeper.open(ALL, network, 5)
        await RulesKeeper.open(NONE, network, 5)

    in_fresh_net(body)


def test_nobody_asked_so_nothing_is_needed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By default there are forward rules, but no daemon ends for the lack of them."""
    only(monkeypatch)
    wanted = Wanted(False, True, True, optional=True)

    async def body() -> None:
        keeper = await started(wanted)
        await asyncio.wait_for(keeper.keep(), 20)
        with pytest.raises(HostError, match="program nft"):  # the network asked for it
            await started(wanted, NFT)

    in_fresh_net(body)
    assert "the program iptables-restore is not installed" in caplog.text


def test_nobody_asked_so_a_refusal_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel may lack what iptables-restore --test does not ask it for."""
    use_variant(tmp_path, "nft", monkeypatch)
    restore = tmp_path / "iptables-restore"
    real = restore.readlink()
    restore.unlink()
    restore.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--test*|*--version*) exec {real} "$@";; esac\n'
        "echo not supported >&2; exit 4\n"
    )
    restore.chmod(0o755)

    async def body() -> None:
        keeper = await started(Wanted(False, True, True, optional=True))
        assert saved("iptables") == []
        await asyncio.wait_for(keeper.keep(), 20)
        with pytest.raises(HostError, match="not supported"):
            await started()

    in_fresh_net(body)
    assert "no forward rules: error=iptables-restore: not supported" in caplog.text


@pytest.mark.parametrize("network", [NETWORK, NFT], ids=["iptables", "nft"])
def test_what_the_program_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: NetworkConfig
) -> None:
    bad = tmp_path / "bad"
    bad.write_text("#!/bin/sh\necho no such table >&2; exit 3\n")
    bad.chmod(0o755)
    for module in ("nft", "iptables"):
        monkeypatch.setattr(
            f"flannelette.control.rules.{module}.find", lambda *names: str(bad)
        )

    async def body() -> None:
        with pytest.raises(HostError, match="bad: no such table"):
            await RulesKeeper.open(ALL, network, 5)

    in_fresh_net(body)


def test_a_held_lock_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At start, and said once; later, until the next comparison (#933)."""
    use_variant(tmp_path, "legacy", monkeypatch)
    monkeypatch.setattr("flannelette.control.rules.iptables.LOCK_WAIT", 1)
    monkeypatch.setattr(keeper, "RETRY", 0.01)

    async def body() -> None:
        keeper = await RulesKeeper.open(ALL, NETWORK, 0.01)
        with (tmp_path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            starting = asyncio.create_task(keeper.start(SUBNETS))
            await until(lambda: keeper.error is not None)
            assert saved("iptables") == []
        await starting
        assert in_order()
        assert keeper.error is None

    in_fresh_net(body)
    complaints = [it for it in caplog.messages if "xtables lock" in it]
    assert len(complaints) == 1


@pytest.mark.parametrize("fault", [False, True], ids=["then free", "then a fault"])
def test_nobody_asked_so_a_held_lock_is_not_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: bool,
) -> None:
    """Who holds it for ever would keep the node from being ready. What is made later
    is no repair; what cannot be made then is done without, as at start."""
    use_variant(tmp_path, "legacy", monkeypatch)
    monkeypatch.setattr("flannelette.control.rules.iptables.LOCK_WAIT", 1)
    wanted = Wanted(False, True, True, optional=True)

    async def body() -> None:
        said("iptables-restore", "*nat\n:FLANNEL-POSTRTG - [0:0]\nCOMMIT\n")
        keeper = await RulesKeeper.open(wanted, NETWORK, 0.01)
        with (tmp_path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            await asyncio.wait_for(keeper.start(SUBNETS), 20)
            assert keeper.error is not None
            assert saved("iptables") == []
        if fault:
            restore = tmp_path / "iptables-restore"
            restore.unlink()
            restore.write_text("#!/bin/sh\necho not supported >&2; exit 4\n")
            restore.chmod(0o755)
            await asyncio.wait_for(keeper.keep(), 20)
            assert saved("iptables") == []
            return
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: saved("iptables") == [JUMPS[1], *firewalls.forward()])
        await until(lambda: keeper.error is None)
        assert "nat FLANNEL-POSTRTG" not in firewalls.chain_names("iptables")
        assert keeper.repairs == 0
        keeping.cancel()
        await asyncio.wait([keeping])

    in_fresh_net(body)
    assert sum("xtables lock" in it for it in caplog.messages) == 1
    assert any(it.startswith("no forward rules") for it in caplog.messages) == fault


def test_a_failed_comparison_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_variant(tmp_path, "nft", monkeypatch)

    async def body() -> None:
        keeper = await started()
        (tmp_path / "iptables-save").rename(tmp_path / "gone")
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: keeper.error is not None)
        await asyncio.wait([keeping], timeout=0.1)
        said("iptables -t nat -F")
        (tmp_path / "gone").rename(tmp_path / "iptables-save")
        await until(lambda: keeper.error is None and in_order())
        keeping.cancel()
        await asyncio.wait([keeping])

    in_fresh_net(body)
    complaints = [it for it in caplog.messages if "iptables-save" in it]
    assert len(complaints) == 1
