"""A real TUN device, in a namespace of the test's own."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from flannelette.benchmarks import netns
from flannelette.tun.device import open_tun
from tests.helpers.ns import needs_namespaces
from tests.helpers.packets import packet

pytestmark = needs_namespaces


@pytest.fixture
def ns() -> Iterator[str]:
    name = f"fltun{os.getpid()}"
    netns.ip([f"netns add {name}"])
    try:
        yield name
    finally:
        netns.delete([name])


def names(ns: str) -> list[str]:
    with netns.inside(ns):
        return [name for _, name in socket.if_nameindex()]


def test_named_by_the_first_free_number_and_gone_with_the_descriptor_u3(
    ns: str,
) -> None:
    with netns.inside(ns):
        first, second = open_tun(), open_tun()
    assert (first.name, second.name) == ("flannel0", "flannel1")
    assert not os.get_inheritable(first.queues[0])
    assert not os.get_blocking(first.queues[0])
    assert {"flannel0", "flannel1"} <= set(names(ns))
    first.close()
    assert "flannel0" not in names(ns)
    second.close()


def test_one_read_is_one_packet_without_a_header(ns: str) -> None:
    with netns.inside(ns):
        tun = open_tun()
        netns.ip(["address add 10.5.1.0/32 dev flannel0", "link set flannel0 up"], ns)
        netns.ip(["route add 10.5.0.0/16 dev flannel0"], ns)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"hello", ("10.5.2.2", 9))
    while True:
        try:
            frame = os.read(tun.queues[0], 65536)
        except BlockingIOError:
            continue
        if frame[0] >> 4 == 4:  # the kernel's IPv6 noise comes first
            break
    assert frame[16:20] == bytes([10, 5, 2, 2])
    assert frame[-5:] == b"hello"
    tun.close()


def test_a_name_in_use(ns: str) -> None:
    with netns.inside(ns):
        tun = open_tun("flannel7")
        with pytest.raises(OSError, match="busy") as caught:
            open_tun("flannel7")
    assert caught.value.errno == errno.EBUSY
    tun.close()


def test_reading_a_deleted_device_says_so(ns: str) -> None:
    """What the pumps tell their driver (api.h: EBADFD)."""
    with netns.inside(ns):
        tun = open_tun()
    netns.ip(["link delete flannel0"], ns)
    for attempt in (
        lambda: os.read(tun.queues[0], 65536),
        lambda: os.write(tun.queues[0], packet()),
    ):
        with pytest.raises(OSError, match="bad state") as caught:
            attempt()
        assert caught.value.errno == errno.EBADFD
    tun.close()
