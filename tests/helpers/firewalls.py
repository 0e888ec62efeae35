"""Real firewalls in a namespace of the test's own: what there is, what there should be,
and what makes it so."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from flannelette.benchmarks.netns import tool
from flannelette.control.lease import Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.rules.desired import Wanted
from flannelette.control.rules.keeper import RulesKeeper

PROGRAMS = ("nft", "iptables-nft", "iptables-legacy")
VARIANTS = ("nft", "legacy")
"""Of iptables."""

needs_firewalls = pytest.mark.skipif(
    not all(shutil.which(name, path="/usr/sbin:/sbin") for name in PROGRAMS),
    reason=f"needs {', '.join(PROGRAMS)}",
)

NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
DUAL = NetworkConfig.parse(
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}'
)
NFT = replace(NETWORK, nftables=True)
NFT_DUAL = replace(DUAL, nftables=True)
SUBNETS = Subnets(IPv4Network("10.5.1.0/24"))
DUAL_SUBNETS = Subnets(SUBNETS.v4, IPv6Network("fd00:5:0:1::/64"))
ALL = Wanted(masquerade=True, forward=True, fully_random=True)
NONE = Wanted(masquerade=False, forward=False, fully_random=True)

MASQUERADE = """\
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {own} -d {all} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {all} -d {own} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s {all} -d {own} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {all} ! -d {multicast} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {all} -d {all} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"""  # noqa: E501 (as iptables-save writes them)
FORWARD = """\
-A FLANNEL-FWD -s {all} -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d {all} -m comment --comment "flanneld forward" -j ACCEPT
"""
JUMPS = (
    '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
    '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
)
V4 = {"own": "10.5.1.0/24", "all": "10.5.0.0/16", "multicast": "224.0.0.0/4"}
V6 = {"own": "fd00:5:0:1::/64", "all": "fd00:5::/48", "multicast": "ff00::/8"}

TABLE = """\
table {family} {name} {{
	chain postrtg {{
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00004000 return
		{family} saddr {own} {family} daddr {all} return
		{family} saddr {all} {family} daddr {own} return
		{family} saddr != {all} {family} daddr {own} return
		{family} saddr {all} {family} daddr != {multicast} masquerade fully-random
		{family} saddr != {all} {family} daddr {all} masquerade fully-random
	}}

	chain forward {{
		type filter hook forward priority filter; policy accept;
		{family} saddr {all} accept
		{family} daddr {all} accept
	}}
}}
"""
NFT4 = TABLE.format(family="ip", name="flannel-ipv4", **V4)
NFT6 = TABLE.format(family="ip6", name="flannel-ipv6", **V6)


def masquerade(version: int = 4) -> list[str]:
    """8.1 for SUBNETS, or DUAL_SUBNETS."""
    return MASQUERADE.format(**(V4 if version == 4 else V6)).splitlines()


def forward(version: int = 4) -> list[str]:
    """8.2."""
    return FORWARD.format(**(V4 if version == 4 else V6)).splitlines()


def use_variant(directory: Path, variant: str, patch: pytest.MonkeyPatch) -> None:
    """Let iptables be that variant, and its lock a file of the test's own."""
    for name in ("iptables", "ip6tables"):
        for what in ("", "-save", "-restore"):
            (directory / f"{name}{what}").symlink_to(tool(f"{name}-{variant}{what}"))
    patch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    patch.setenv("XTABLES_LOCKFILE", str(directory / "lock"))


def said(command: str, text: str = "") -> str:
    """What a program prints, in this thread's namespace."""
    name, *arguments = command.split()
    return subprocess.run(
        [tool(name), *arguments],
        input=text,
        text=True,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout


def saved(name: str, *chains: str) -> list[str]:
    """Rules, as iptables-save tells them, of these chains or of all."""
    lines = [it for it in said(f"{name}-save").splitlines() if it.startswith("-A ")]
    return [it for it in lines if not chains or it.split()[1] in chains]


def chain_names(name: str) -> set[str]:
    """Of all chains, each with its table."""
    found, table = set(), ""
    for line in said(f"{name}-save").splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            found.add(f"{table} {line[1:].split()[0]}")
    return found


def in_order(name: str = "iptables", version: int = 4) -> bool:
    nat = saved(name, "POSTROUTING", "FLANNEL-POSTRTG")
    fwd = saved(name, "FORWARD", "FLANNEL-FWD")
    wanted = [JUMPS[0], *masquerade(version)], [JUMPS[1], *forward(version)]
    return (nat, fwd) == wanted


def nft_table(family: str, name: str) -> str:
    return said(f"nft list table {family} {name}")


async def started(
    wanted: Wanted = ALL, network: NetworkConfig = NETWORK, resync: float = 0.01
) -> RulesKeeper:
    keeper = await RulesKeeper.open(wanted, network, resync)
    await keeper.start(DUAL_SUBNETS if network.network6 else SUBNETS)
    return keeper


@asynccontextmanager
async def kept(keeper: RulesKeeper) -> AsyncIterator[None]:
    """Meanwhile the rules are compared and repaired."""
    task = asyncio.create_task(keeper.keep())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
