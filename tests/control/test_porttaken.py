"""A port that another program has: what is said names who that may be."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import cast

import pytest

from flannelette.control import config
from flannelette.control.backends.backend import Backend
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.backends.vxlan import VxlanBackend
from flannelette.control.errors import one_line
from flannelette.control.handover.handover import Handover
from flannelette.control.interface import External
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.plan import Plan
from flannelette.control.systemd.notify import Notifier
from flannelette.control.usercarrier import open_user_carrier
from flannelette.tun.link import Netlink

HERE = IPv4Address("127.0.0.1")


def refused(make: Callable[[int], Backend]) -> str:
    """All that is said where another socket has the port."""
    settings = config.parse([], {})
    network = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
    nobody = cast(Netlink, None)  # it does not come so far
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((str(HERE), 0))
        backend = make(other.getsockname()[1])
        plan = Plan(External("lo", 1, 1500, HERE, HERE), network, backend)
        with pytest.raises(OSError, match="already in use") as caught:
            open_user_carrier(settings, plan, nobody, Handover(Notifier()))
    assert caught.value.errno == errno.EADDRINUSE
    return one_line(caught.value)


def test_flanneld_is_named_where_it_may_have_the_port_of_udp() -> None:
    assert refused(UdpBackend).endswith("such as flanneld: stop that first")


def test_a_device_is_named_only_where_there_is_one() -> None:
    """That there is one: tests/integration/test_vxlan.py."""
    said = refused(lambda port: VxlanBackend(4242, port))
    assert "flannel.4242" not in said
    assert said.endswith("another program or device has it: stop that first")
