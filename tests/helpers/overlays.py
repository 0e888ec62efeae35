"""Is everything carried between two pods, each way, whoever their nodes are?"""

from __future__ import annotations

import random
from collections.abc import Iterable

from flannelette.benchmarks import netns
from tests.helpers.datagrams import LARGEST, check_segmented_udp, check_udp
from tests.helpers.lab import Lab
from tests.helpers.tcp import check_stream, send_file

TCP_BYTES = 10_000_000
DATA = random.Random(4).randbytes(TCP_BYTES)
BOTH = (4, 6)


def check_all(
    it: Lab, one: int, other: int, versions: Iterable[int] = BOTH, ttl: int = 62
) -> None:
    """Ping, TCP, and UDP of every size: what one packet can hold, and some that cross
    as fragments. W7: 64 hops become 62."""
    for version in versions:
        for source, target in ((one, other), (other, one)):
            it.until_reaches(source, target, version=version)
            pings = it.reach(source, target, count=5, version=version)
            assert pings.count(f"ttl={ttl} ") == 5
            assert send_file(it, source, target, DATA, version) == DATA
            sizes = [*range(1475), 5000, LARGEST]
            check_udp(it, source, target, *sizes, version=version)
            check_segmented_udp(it, source, target, 100, 1000, 1382, version=version)


def check_gigabyte(it: Lab, one: int, other: int) -> None:
    """Each way."""
    for source, target in ((one, other), (other, one)):
        check_stream(it, source, target, DATA, 10**9 // TCP_BYTES)


def check_some(it: Lab, one: int, other: int, versions: Iterable[int] = BOTH) -> None:
    """As check_all, and quick: sizes about the MTUs."""
    sizes = [0, 1, 1000, 1280, 1401, 1402, 1403, 1421, 1422, 1423, 1444, 9000]
    for version in versions:
        for source, target in ((one, other), (other, one)):
            it.until_reaches(source, target, version=version)
            it.reach(source, target, count=5, version=version)
            data = DATA[:3_000_000]
            assert send_file(it, source, target, data, version) == data
            check_udp(it, source, target, *sizes, version=version)


def check_none_dropped(it: Lab, number: int) -> None:
    """By our node, of what was to be forwarded."""
    drops = it.drops(number, "tx")
    # Multicast of the host's own IPv6, which flannel drops as well (W9).
    drops.pop("no_route", None)
    assert (drops, it.drops(number, "rx")) == ({}, {})


def switch_tx_off(it: Lab) -> None:
    """No host's eth0 makes checksums, or cuts anything, in its hardware."""
    for number in it.rig.numbers:
        command = [netns.tool("ethtool"), "-K", "eth0", "tx", "off"]
        netns.call(command, it.rig.host(number))
