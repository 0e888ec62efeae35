"""Rules that cannot be made or compared: programs are missing or refuse, or others hold
the lock."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Sequence
from pathlib import Path

import pytest

from flannelette.control.errors import HostError
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.rules import keeper, tool
from flannelette.control.rules.desired import Wanted
from flannelette.control.rules.keeper import RulesKeeper
from tests.helpers import firewalls
from tests.helpers.firewalls import (
    ALL,
    DUAL,
    JUMPS,
    NETWORK,
    NFT,
    NFT4,
    NONE,
    SUBNETS,
    in_order,
    kept,
    needs_firewalls,
    said,
    saved,
    started,
    use_variant,
)
from tests.helpers.freshnet import in_fresh_net
from tests.helpers.ns import needs_namespaces
from tests.helpers.waiting import eventually

pytestmark = [needs_namespaces, needs_firewalls]

# ---- programs ------------------------------------------------------------------------


def only(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let nothing else be installed."""
    found = {name: tool.find(name) for name in names}

    def find(*wanted: str) -> str | None:
        return next((found[name] for name in wanted if name in found), None)

    for module in ("nft", "iptables"):
        patch.setattr(f"flannelette.control.rules.{module}.find", find)


def put(path: Path, *lines: str) -> None:
    """A shell script, in the place of what is there."""
    path.unlink(missing_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


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
    put(
        restore,
        f'case "$*" in *--test*|*--version*) exec {real} "$@";; esac',
        "echo not supported >&2; exit 4",
    )

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
    put(bad, "echo no such table >&2; exit 3")
    for module in ("nft", "iptables"):
        monkeypatch.setattr(
            f"flannelette.control.rules.{module}.find", lambda *names: str(bad)
        )

    async def body() -> None:
        with pytest.raises(HostError, match="bad: no such table"):
            await RulesKeeper.open(ALL, network, 5)

    in_fresh_net(body)


def test_a_failed_comparison_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_variant(tmp_path, "nft", monkeypatch)
    failed: list[OSError] = []

    async def noted(command: Sequence[str], text: str = "") -> str:
        try:
            return await tool.run(command, text)
        except OSError as error:
            failed.append(error)
            raise

    monkeypatch.setattr("flannelette.control.rules.iptables.run", noted)

    async def body() -> None:
        keeper = await started()
        (tmp_path / "iptables-save").rename(tmp_path / "gone")
        async with kept(keeper):
            await eventually(lambda: len(failed) > 3)
            assert keeper.error is not None
            said("iptables -t nat -F")
            (tmp_path / "gone").rename(tmp_path / "iptables-save")
            await eventually(lambda: keeper.error is None and in_order())

    in_fresh_net(body)
    complaints = [it for it in caplog.messages if "iptables-save" in it]
    assert len(complaints) == 1


# ---- the lock ------------------------------------------------------------------------


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
            await eventually(lambda: keeper.error is not None)
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
            put(tmp_path / "iptables-restore", "echo not supported >&2; exit 4")
            await asyncio.wait_for(keeper.keep(), 20)
            assert saved("iptables") == []
            return
        async with kept(keeper):
            made = [JUMPS[1], *firewalls.forward()]
            await eventually(lambda: saved("iptables") == made)
            await eventually(lambda: keeper.error is None)
            assert "nat FLANNEL-POSTRTG" not in firewalls.chain_names("iptables")
            assert keeper.repairs == 0

    in_fresh_net(body)
    assert sum("xtables lock" in it for it in caplog.messages) == 1
    assert any(it.startswith("no forward rules") for it in caplog.messages) == fault
