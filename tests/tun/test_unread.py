"""A real TUN that nobody reads."""

from __future__ import annotations

import socket
from contextlib import closing

from flannelette.tun.device import open_tun
from flannelette.tun.unread import unread_drops
from tests.helpers.freshnet import in_fresh_net, ip, shown
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces


def test_what_finds_the_queue_full_is_counted() -> None:
    """The queue has room for as many frames as the device's txqlen says."""

    async def body() -> None:
        with closing(open_tun()) as tun:
            ip(
                f"link set {tun.name} up txqueuelen 100",
                f"address add 10.5.1.0/16 dev {tun.name}",
            )
            assert unread_drops(tun.name) == 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(150):
                    sender.sendto(b"unread", ("10.5.2.2", 9))
            (device,) = shown(f"-statistics link show {tun.name}")
            drops = unread_drops(tun.name)
            assert drops is not None
            assert drops == device["stats64"]["tx"]["dropped"]
            assert drops >= 50
        assert unread_drops(tun.name) is None

    in_fresh_net(body)


def test_another_device_with_a_longer_name_is_another() -> None:
    async def body() -> None:
        ip("link add name fl01 type veth peer name peer01")
        assert unread_drops("fl0") is None
        assert unread_drops("fl01") == 0

    in_fresh_net(body)
