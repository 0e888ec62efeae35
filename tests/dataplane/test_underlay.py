"""The outside sockets."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import IPv4Address, IPv6Address

import pytest

from flannelette.dataplane.underlay import BUFFER_BYTES, open_underlay
from tests.helpers.bench import drain

LOOPBACK = IPv4Address("127.0.0.1")


@contextmanager
def opened(queues: int = 1, port: int = 0) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        underlay = open_underlay(LOOPBACK, port, queues)
        stack.callback(underlay.close)
        yield list(underlay.rx)


@pytest.mark.parametrize("queues", [1, 3])
def test_bound_to_the_address_and_not_blocking(queues: int) -> None:
    with opened(queues) as sockets:
        assert len(sockets) == queues
        assert len({sock.getsockname() for sock in sockets}) == 1
        for sock in sockets:
            assert sock.getsockname()[0] == "127.0.0.1"
            assert not sock.getblocking()
            assert not sock.get_inheritable()
            size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            assert size <= 2 * BUFFER_BYTES


@pytest.mark.parametrize("second", [1, 2])
@pytest.mark.parametrize("first", [1, 2])
def test_a_port_in_use_is_named(first: int, second: int) -> None:
    """Also if those who have it share it among themselves, as a daemon's queues do."""
    with opened(first) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="in use") as caught:
            open_underlay(LOOPBACK, port, second)
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.__notes__ == [f"binding UDP 127.0.0.1:{port}"]


def test_one_socket_shares_with_nobody() -> None:
    with (
        opened() as sockets,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(sockets[0].getsockname())


def test_what_a_peer_sends_comes_to_one_of_them_in_order() -> None:
    per_peer = [bytes([number]) for number in range(20)]
    busy = set()
    with opened(4) as sockets:
        for _ in range(64):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for data in per_peer:
                    peer.sendto(data, sockets[0].getsockname())
            got = [drain(sock) for sock in sockets]
            assert [datagrams for datagrams in got if datagrams] == [per_peer]
            busy.add(got.index(per_peer))
    assert busy == {0, 1, 2, 3}


def test_nothing_stays_open_when_one_of_them_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bind = socket.socket.bind
    bound: list[socket.socket] = []

    class Third(socket.socket):
        def bind(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            if len(bound) == 2:
                raise OSError(errno.ENOBUFS, "no room")
            bind(self, address)
            bound.append(self)

    monkeypatch.setattr(socket, "socket", Third)
    with pytest.raises(OSError, match="no room"):
        open_underlay(LOOPBACK, 0, 3)
    assert [sock.fileno() for sock in bound] == [-1, -1]


# ---- IPv6, and sockets that only send ------------------------------------------------

LOOPBACK6 = IPv6Address("::1")


def test_each_ip_version_has_queues_and_flows_of_its_own() -> None:
    underlay = open_underlay(LOOPBACK, 0, 2, LOOPBACK6, flows=3)
    with closing(underlay):
        assert [len(of) for of in (underlay.rx, underlay.rx6)] == [2, 2]
        for family, rx, flows in (
            (socket.AF_INET, underlay.rx, underlay.flows),
            (socket.AF_INET6, underlay.rx6, underlay.flows6),
        ):
            assert {sock.family for sock in (*rx, *flows)} == {family}
            ports = {sock.getsockname()[1] for sock in flows}
            assert len(ports) == 3, "each flow has a source port of its own"
            assert rx[0].getsockname()[1] not in ports
    assert {sock.fileno() for sock in underlay.sockets} == {-1}


def test_ipv6_leaves_the_port_to_ipv4() -> None:
    """Both may have the same one, as VXLAN wants."""
    first = open_underlay(LOOPBACK, 0)
    port = first.rx[0].getsockname()[1]
    first.close()
    with closing(open_underlay(LOOPBACK, port, 1, LOOPBACK6)) as underlay:
        assert underlay.rx6[0].getsockname()[:2] == ("::1", port)


def test_what_is_sent_to_a_sender_is_discarded() -> None:
    with closing(open_underlay(LOOPBACK, 0, flows=1)) as underlay:
        (sender,), (receiver,) = underlay.flows, underlay.rx
        receiver.sendto(b"to nobody", sender.getsockname())
        assert drain(sender) == []
        sender.sendto(b"to us", receiver.getsockname())
        assert drain(receiver) == [b"to us"]


def test_vxlan_may_be_fragmented_on_its_way_w1() -> None:
    """DF is clear, as kernels send it; of the udp backend it is set, as flanneld's."""
    with closing(open_underlay(LOOPBACK, 0, flows=2)) as underlay:
        option = socket.IPPROTO_IP, 10  # IP_MTU_DISCOVER; 0: dont, 1: want
        assert [sock.getsockopt(*option) for sock in underlay.flows] == [0, 0]
        assert [sock.getsockopt(*option) for sock in underlay.rx] == [1]


def test_an_ipv6_address_is_named_in_brackets() -> None:
    with pytest.raises(OSError, match="assign") as caught:
        open_underlay(LOOPBACK, 0, 1, IPv6Address("2001:db8::1"))
    assert caught.value.__notes__ == ["binding UDP [2001:db8::1]:0"]


# ---- what waits in them --------------------------------------------------------------


def test_fill_tells_what_waits_and_what_found_no_room() -> None:
    with closing(open_underlay(LOOPBACK, 0)) as underlay:
        (receiver,) = underlay.rx
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
        (empty,) = underlay.fill()
        assert (empty.queue, empty.version) == (0, 4)
        assert (empty.rx_bytes, empty.rx_room, empty.rx_drops) == (0, 40_000, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(100):
                peer.sendto(bytes(1000), receiver.getsockname())
        (full,) = underlay.fill()
        received = drain(receiver)
        assert full.rx_bytes > 1000 * len(received) > 0
        assert full.rx_room == 40_000
        assert full.rx_drops == 100 - len(received) > 0
        (drained,) = underlay.fill()
        assert (drained.rx_bytes, drained.rx_drops) == (0, full.rx_drops)


def test_fill_tells_of_each_queue_and_ip_version() -> None:
    with closing(open_underlay(LOOPBACK, 0, 2, LOOPBACK6, flows=2)) as underlay:
        where = [(fill.queue, fill.version) for fill in underlay.fill()]
        assert where == [(0, 4), (1, 4), (0, 6), (1, 6)]
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"one", underlay.rx6[0].getsockname())
        busy = [fill.version for fill in underlay.fill() if fill.rx_bytes]
        assert busy == [6]
