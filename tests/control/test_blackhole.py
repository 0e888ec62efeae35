"""--ip-blackhole-route: made, repaired, removed, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network
from typing import cast

import pytest

from flannelette.control.blackhole import open_blackholes
from flannelette.control.config import parse
from flannelette.control.lease import Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.tun.link import Netlink
from flannelette.tun.repairs import Network

DUAL = NetworkConfig.parse(
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}'
)
SUBNETS = Subnets(IPv4Network("10.5.1.0/24"), IPv6Network("fd00:5:0:1::/64"))


class Kernel:
    """Is told what is desired; answers with what is next, and then that all is well."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self.told: list[tuple[Network, ...]] = []
        self.answers = list(answers)
        self.asked_all = asyncio.Event()

    async def reconcile_blackholes(
        self, desired: Collection[Network], overlay: Collection[Network]
    ) -> list[str]:
        assert overlay == DUAL.networks
        self.told.append(tuple(desired))
        if not self.answers:
            self.asked_all.set()
            return []
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def test_every_resync_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    async def body() -> None:
        kernel = Kernel()
        config = parse(["--ip-blackhole-route", "--iptables-resync=7"], {})
        keeper = open_blackholes(config, DUAL, cast(Netlink, kernel))
        await keeper.start(SUBNETS)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await keeper.keep()
        assert pauses == [7, 7, 7]
        assert kernel.told == [tuple(SUBNETS)] * 3

    asyncio.run(body())


async def test_without_the_flag_old_ones_are_removed_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel = Kernel(OSError(1, "no"))
    keeper = open_blackholes(parse([], {}), DUAL, cast(Netlink, kernel))
    await keeper.start(SUBNETS)
    await keeper.keep()  # there is nothing to keep
    assert kernel.told == [()]
    assert caplog.messages == ["an old blackhole may be left: error=[Errno 1] no"]


async def test_with_the_flag_a_fault_ends_the_start() -> None:
    config = parse(["--ip-blackhole-route"], {})
    kernel = Kernel(OSError(1, "no"))
    keeper = open_blackholes(config, DUAL, cast(Netlink, kernel))
    with pytest.raises(OSError, match="no"):
        await keeper.start(SUBNETS)


async def test_repairs_are_counted_and_faults_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fault = OSError(1, "no")
    kernel = Kernel(["made"], ["repaired"], fault, fault)
    config = parse(["--ip-blackhole-route"], {})
    keeper = open_blackholes(config, DUAL, cast(Netlink, kernel))
    keeper._resync = 0
    with caplog.at_level(logging.INFO):
        await keeper.start(SUBNETS)
        keeping = asyncio.create_task(keeper.keep())
        await asyncio.wait_for(kernel.asked_all.wait(), 20)
        keeping.cancel()
        await asyncio.wait([keeping])
    assert caplog.messages == [
        "blackhole: changed='made'",
        "repaired: what='repaired'",
        "blackholes cannot be repaired: error=[Errno 1] no",
    ]
    assert keeper.repairs == 1
    assert keeper.error is None
