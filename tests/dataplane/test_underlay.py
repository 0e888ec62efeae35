"""The outside socket."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address

import pytest

from flannelette.dataplane.underlay import BUFFER_BYTES, open_underlay

LOOPBACK = IPv4Address("127.0.0.1")


def test_bound_to_the_address_and_not_blocking() -> None:
    with open_underlay(LOOPBACK, 0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * BUFFER_BYTES


def test_a_port_in_use_is_named() -> None:
    with open_underlay(LOOPBACK, 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use") as caught:
            open_underlay(LOOPBACK, port)
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.__notes__ == [f"binding UDP 127.0.0.1:{port}"]
