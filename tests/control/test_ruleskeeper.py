"""Rules in a real kernel: made, repaired, recycled and removed, by each backend."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from flannelette.control import main, ruleskeeper, rulestool
from flannelette.control.errors import HostError
from flannelette.control.lease import Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.rules import Rules, Wanted
from flannelette.control.ruleskeeper import RulesKeeper
from flannelette.control.rulesnft import NftBackend
from tests.helpers import firewalls
from tests.helpers.firewalls import (
    DUAL,
    DUAL_SUBNETS,
    JUMPS,
    NETWORK,
    NFT4,
    NFT6,
    SUBNETS,
    VARIANTS,
    needs_firewalls,
    said,
    saved,
    use_variant,
)
from tests.helpers.freshnet import in_fresh_net
from tests.helpers.ns import needs_namespaces

pytestmark = [needs_namespaces, needs_firewalls]

ALL = Wanted(masquerade=True, forward=True, fully_random=True)
NONE = Wanted(masquerade=False, forward=False, fully_random=True)
NFT = replace(NETWORK, nftables=True)
NFT_DUAL = replace(DUAL, nftables=True)
OTHER = Subnets(IPv4Network("10.5.9.0/24"))


@pytest.fixture(params=VARIANTS)
def variant(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    name: str = request.param
    use_variant(tmp_path, name, monkeypatch)
    return name


def fresh(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    in_fresh_net(body)


async def started(
    wanted: Wanted = ALL, network: NetworkConfig = NETWORK, resync: float = 0.01
) -> RulesKeeper:
    keeper = await RulesKeeper.open(wanted, network, resync)
    await keeper.start(DUAL_SUBNETS if network.network6 else SUBNETS)
    return keeper


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


def in_order(name: str = "iptables", version: int = 4) -> bool:
    nat = saved(name, "POSTROUTING", "FLANNEL-POSTRTG")
    fwd = saved(name, "FORWARD", "FLANNEL-FWD")
    masquerade = [JUMPS[0], *firewalls.masquerade(version)]
    return nat == masquerade and fwd == [JUMPS[1], *firewalls.forward(version)]


def nft_table(family: str, name: str) -> str:
    return said(f"nft list table {family} {name}")


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

    fresh(body)


def test_nft_rules() -> None:
    """8.3, less its fourth rule."""

    async def body() -> None:
        await started(network=NFT)
        assert said("nft list ruleset") == NFT4

    fresh(body)


def test_nft_rules_in_dual_stack() -> None:
    async def body() -> None:
        await started(network=NFT_DUAL)
        assert nft_table("ip", "flannel-ipv4") == NFT4
        assert nft_table("ip6", "flannel-ipv6") == NFT6

    fresh(body)


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

    fresh(body)


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

    fresh(body)


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

    fresh(body)
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

    fresh(body)


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

    fresh(body)
    repaired = [it for it in caplog.messages if it.startswith("repaired: ")]
    assert len(repaired) == len(set(repaired)) == 2


# ---- recycled ------------------------------------------------------------------------


def test_the_old_networks_rules_go(variant: str) -> None:
    """M2, without asking subnet.env for what was."""

    async def body() -> None:
        for network in (NETWORK, NFT):
            keeper = await RulesKeeper.open(ALL, network, 5)
            await keeper.start(OTHER)
            text = said("nft list ruleset") + said("iptables-save")
            assert "10.5.9.0/24" in text
            await started(network=network)
            text = said("nft list ruleset") + said("iptables-save")
            assert "10.5.9.0/24" not in text
            assert "10.5.1.0/24" in text

    fresh(body)


def test_each_backend_removes_the_other(variant: str) -> None:
    """M5; M8: FLANNEL-FWD, too."""

    async def body() -> None:
        await started(network=DUAL)
        await started(network=NFT_DUAL)
        for name in ("iptables", "ip6tables"):
            assert not any("FLANNEL" in it for it in firewalls.chain_names(name))
            assert saved(name) == []
        await started(network=DUAL)
        assert "flannel-ipv" not in said("nft list tables")
        assert in_order("ip6tables", 6)

    fresh(body)


def test_rules_that_are_not_wanted_any_more_go(variant: str) -> None:
    async def body() -> None:
        await started(network=DUAL)
        await started(NONE, DUAL)
        assert saved("iptables") == saved("ip6tables") == []

    fresh(body)


def test_the_other_backend_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M7: flanneld does not start with nftables when iptables is missing."""
    only(tmp_path, monkeypatch, "nft")

    async def body() -> None:
        await started(network=NFT)
        assert said("nft list ruleset") == NFT4

    fresh(body)


# ---- others' rules -------------------------------------------------------------------

FOREIGN = """\
*nat
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -m comment --comment "not flanneld masq" -j RETURN
-A DOCKER -m comment --comment "flanneld masq" -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -i docker0 -j ACCEPT
-A INPUT -s 203.0.113.0/24 -j DROP
COMMIT
"""
FOREIGN_NFT = """
table ip flannel-ipv4 { chain others { ip saddr 10.5.0.0/16 drop; }; }
table inet flannel-ipv4 { chain postrtg { counter drop; }; }
"""


def test_foreign_iptables_rules_stay(variant: str) -> None:
    async def body() -> None:
        said("iptables-restore", FOREIGN)
        before = saved("iptables")
        await started()
        ours = {*JUMPS, *firewalls.masquerade(), *firewalls.forward()}
        assert [it for it in saved("iptables") if it not in ours] == before
        await started(NONE)
        assert saved("iptables") == before
        assert ":FORWARD DROP" in said("iptables-save")

    fresh(body)


def test_foreign_nft_chains_stay() -> None:
    """Also in a table of our name, and in one of our name of another family."""

    async def body() -> None:
        said("nft -f -", FOREIGN_NFT)
        inet = nft_table("inet", "flannel-ipv4")
        await started(network=NFT)
        await started(NONE, NFT)
        assert nft_table("inet", "flannel-ipv4") == inet
        mine = nft_table("ip", "flannel-ipv4")
        assert "chain others" in mine
        assert "postrtg" not in mine

    fresh(body)


def test_a_foreign_chain_with_our_name_is_taken_over(variant: str) -> None:
    """By its name it is ours, as flannel's is (M2)."""

    async def body() -> None:
        text = "*nat\n:FLANNEL-POSTRTG - [0:0]\n-A FLANNEL-POSTRTG -j ACCEPT\nCOMMIT\n"
        said("iptables-restore --noflush", text)
        said("nft -f -", "table ip flannel-ipv4 { chain postrtg { counter drop; }; }")
        await started()
        assert in_order()
        said("nft -f -", "table ip flannel-ipv4 { chain postrtg { counter drop; }; }")
        await started(network=NFT)
        assert sorted(nft_table("ip", "flannel-ipv4")) == sorted(NFT4)

    fresh(body)


def test_a_chain_that_others_need_is_only_emptied(variant: str) -> None:
    async def body() -> None:
        await started()
        jump = "-A OUTPUT -j FLANNEL-FWD"
        said("iptables-restore --noflush", f"*filter\n{jump}\nCOMMIT\n")
        await started(NONE)
        assert saved("iptables") == [jump]

    fresh(body)


# ---- what goes wrong -----------------------------------------------------------------


def only(directory: Path, patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let nothing else be installed."""
    found = {name: rulestool.find(name) for name in names}

    def find(*wanted: str) -> str | None:
        return next((found[name] for name in wanted if name in found), None)

    for module in ("rulesnft", "rulesiptables"):
        patch.setattr(f"flannelette.control.{module}.find", find)


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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: NetworkConfig,
    there: tuple[str, ...],
    missing: str,
) -> None:
    only(tmp_path, monkeypatch, *there)

    async def body() -> None:
        with pytest.raises(HostError, match=f"program {missing} is not installed"):
            await RulesKeeper.open(ALL, network, 5)
        await RulesKeeper.open(NONE, network, 5)

    fresh(body)


def test_nobody_asked_so_nothing_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By default there are forward rules, but no daemon ends for the lack of them."""
    only(tmp_path, monkeypatch)
    wanted = Wanted(False, True, True, optional=True)

    async def body() -> None:
        keeper = await started(wanted)
        await asyncio.wait_for(keeper.keep(), 20)
        with pytest.raises(HostError, match="program nft"):  # the network asked for it
            await started(wanted, NFT)

    fresh(body)
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

    fresh(body)
    assert "no forward rules: error=iptables-restore: not supported" in caplog.text


@pytest.mark.parametrize("network", [NETWORK, NFT], ids=["iptables", "nft"])
def test_what_the_program_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: NetworkConfig
) -> None:
    bad = tmp_path / "bad"
    bad.write_text("#!/bin/sh\necho no such table >&2; exit 3\n")
    bad.chmod(0o755)
    for module in ("rulesnft", "rulesiptables"):
        monkeypatch.setattr(
            f"flannelette.control.{module}.find", lambda *names: str(bad)
        )

    async def body() -> None:
        with pytest.raises(HostError, match="bad: no such table"):
            await RulesKeeper.open(ALL, network, 5)

    fresh(body)


def test_a_held_lock_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At start, and said once; later, until the next comparison (#933)."""
    use_variant(tmp_path, "legacy", monkeypatch)
    monkeypatch.setattr("flannelette.control.rulesiptables.LOCK_WAIT", 1)
    monkeypatch.setattr(ruleskeeper, "RETRY", 0.01)

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

    fresh(body)
    complaints = [it for it in caplog.messages if "xtables lock" in it]
    assert len(complaints) == 1


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

    fresh(body)
    complaints = [it for it in caplog.messages if "iptables-save" in it]
    assert len(complaints) == 1


def test_a_program_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, be it late or we in a hurry; conftest looks for what is left."""
    monkeypatch.setattr(rulestool, "DEADLINE", 0.1)
    with pytest.raises(rulestool.RulesBusy, match="sleep did not end"):
        asyncio.run(rulestool.run(["sleep", "1000"]))
    monkeypatch.setattr(rulestool, "DEADLINE", 1000)

    async def hurry() -> asyncio.Task[str]:
        running = asyncio.create_task(rulestool.run(["sleep", "1000"]))
        await asyncio.wait([running], timeout=0.1)
        running.cancel()
        await asyncio.wait([running])
        return running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(hurry()).result()
    with pytest.raises(FileNotFoundError) as caught:
        asyncio.run(rulestool.run(["/nonexistent/nft"]))
    assert caught.value.__notes__ == ["while starting /nonexistent/nft"]


# ---- cleanup -------------------------------------------------------------------------


def test_cleanup(variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def rules() -> None:
        said("iptables-restore", FOREIGN)
        await started(network=DUAL)
        said("nft -f -", f"{NFT4}{NFT6}table ip others {{ chain x {{ }}; }}")

    async def body() -> None:
        before = [it for it in FOREIGN.splitlines() if it.startswith("-A ")]
        await rules()
        assert await asyncio.to_thread(main.main, ["cleanup"]) == 0
        assert sorted(saved("iptables")) == sorted(before)
        assert saved("ip6tables") == []
        assert not any("FLANNEL" in it for it in firewalls.chain_names("iptables"))
        tables = said("nft list tables")
        assert "flannel" not in tables
        assert "table ip others" in tables
        assert await asyncio.to_thread(main.main, ["cleanup"]) == 0

    fresh(body)
    *removed, last = capsys.readouterr().out.splitlines()
    assert len(removed) == 8
    assert all(line.startswith("removed: ") for line in removed)
    assert last == "nothing to remove"


def test_cleanup_tries_all_and_tells_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_variant(tmp_path, "nft", monkeypatch)

    async def body() -> None:
        await started()
        bad = tmp_path / "nft"
        bad.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
        bad.chmod(0o755)
        assert await asyncio.to_thread(main.main, ["cleanup"]) == 1
        assert saved("iptables") == []

    fresh(body)
    assert capsys.readouterr().err == "flannelette: nft: broken\n" * 2


def test_cleanup_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["cleanup", "now"]) == 2
    assert main.main(["cleanup", "--help"]) == 0
    assert "flannel-ipv6" in capsys.readouterr().out
