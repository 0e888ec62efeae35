"""Which rules in a real kernel go, at a start and by `flannelette cleanup`, and which
stay: they are others'."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from flannelette.control import main
from flannelette.control.errors import HostError
from flannelette.control.lease import Subnets
from flannelette.control.rules.keeper import RulesKeeper
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

OTHER = Subnets(IPv4Network("10.5.9.0/24"))


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

    in_fresh_net(body)


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

    in_fresh_net(body)


def test_rules_that_are_not_wanted_any_more_go(variant: str) -> None:
    async def body() -> None:
        await started(network=DUAL)
        await started(NONE, DUAL)
        assert saved("iptables") == saved("ip6tables") == []

    in_fresh_net(body)


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

    in_fresh_net(body)


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

    in_fresh_net(body)


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

    in_fresh_net(body)


def test_a_foreign_chain_with_our_name_that_others_need() -> None:
    """nftables removes none that is jumped to; that is found out before there is a
    lease, and nothing is changed."""
    theirs = "table ip flannel-ipv4 { chain forward { }; chain x { jump forward; }; }"

    async def body() -> None:
        said("nft -f -", theirs)
        before = said("nft list ruleset")
        with pytest.raises(HostError, match=r"nft: .*resource busy"):
            await started(network=NFT)
        assert said("nft list ruleset") == before

    in_fresh_net(body)


def test_a_chain_that_others_need_is_only_emptied(variant: str) -> None:
    async def body() -> None:
        await started()
        jump = "-A OUTPUT -j FLANNEL-FWD"
        said("iptables-restore --noflush", f"*filter\n{jump}\nCOMMIT\n")
        await started(NONE)
        assert saved("iptables") == [jump]

    in_fresh_net(body)


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

    in_fresh_net(body)
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

    in_fresh_net(body)
    assert capsys.readouterr().err == "flannelette: nft: broken\n" * 2


def test_cleanup_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["cleanup", "now"]) == 2
    assert main.main(["cleanup", "--help"]) == 0
    assert "flannel-ipv6" in capsys.readouterr().out
