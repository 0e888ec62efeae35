"""A port that another program has: what is said names who that may be."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address
from typing import cast

import pytest

from flannelette.control import config
from flannelette.control.backends.udp import UdpBackend
from flannelette.control.errors import one_line
from flannelette.control.handover.handover import Handover
from flannelette.control.interface import External
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.plan import Plan
from flannelette.control.systemd.notify import Notifier
from flannelette.control.usercarrier import open_user_carrier
from flannelette.tun.link import Netlink

HERE = IPv4Address("127.0.0.1")


def test_flanneld_is_named_where_it_may_have_the_port_of_udp() -> None:
    settings = config.parse([], {})
    network = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
    nobody = cast(Netlink, None)  # it does not come so far
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((str(HERE), 0))
        backend = UdpBackend(other.getsockname()[1])
        plan = Plan(External("lo", 1, 1500, HERE, HERE), network, backend)
        with pytest.raises(OSError, match="already in use") as caught:
            open_user_carrier(settings, plan, nobody, Handover(Notifier()))
    assert caught.value.errno == errno.EADDRINUSE
    assert one_line(caught.value).endswith("such as flanneld: stop that first")
