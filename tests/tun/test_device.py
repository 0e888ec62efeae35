"""A real TUN device, in a namespace of the test's own."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
from collections.abc import Iterator

import pytest

from flannelette.benchmarks import netns
from flannelette.tun import device
from flannelette.tun.device import MAX_QUEUES, QUEUE_FRAMES, VNET_HEADER, open_tun
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


def test_what_the_ring_cannot_hold_is_dropped_and_counted_trap_16(ns: str) -> None:
    """Silently for the sender; the device's own counter tells. What is kept is the
    oldest, in order: the ring never makes room by losing what it has."""
    with netns.inside(ns):
        tun = open_tun()
        netns.ip(["link set flannel0 addrgenmode none"], ns)
        netns.ip(["address add 10.5.1.0/32 dev flannel0", "link set flannel0 up"], ns)
        netns.ip(["route add 10.5.0.0/16 dev flannel0"], ns)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for number in range(QUEUE_FRAMES + 100):
            sender.sendto(number.to_bytes(2, "big"), ("10.5.2.2", 9))
    (link,) = json.loads(netns.call(["ip", "-s", "-j", "link", "show", tun.name], ns))
    assert link["stats64"]["tx"]["dropped"] == 100
    kept = [os.read(tun.queues[0], 65536)[-2:] for _ in range(QUEUE_FRAMES)]
    assert [int.from_bytes(data, "big") for data in kept] == list(range(QUEUE_FRAMES))
    with pytest.raises(BlockingIOError):
        os.read(tun.queues[0], 65536)
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


# ---- queues --------------------------------------------------------------------------


def sent_by_queue(fds: tuple[int, ...], count: int) -> dict[int, list[bytes]]:
    """So many frames from port 4000 on, by the queue that had them."""
    got: dict[int, list[bytes]] = {}
    while sum(map(len, got.values())) < count:
        ready, _, _ = select.select(fds, [], [], 10)
        assert ready
        for fd in ready:
            got.setdefault(fds.index(fd), []).append(os.read(fd, 65536))
    return got


def bring_up(ns: str, name: str) -> None:
    netns.ip(
        [
            f"link set {name} addrgenmode none multicast off",
            f"address add 10.5.1.0/32 dev {name}",
            f"link set {name} up",
            f"route add 10.5.0.0/16 dev {name}",
        ],
        ns,
    )


@pytest.mark.parametrize("queues", [2, MAX_QUEUES])
def test_all_queues_are_of_one_device_and_gone_with_it(ns: str, queues: int) -> None:
    with netns.inside(ns):
        tun = open_tun(queues=queues)
    assert len(set(tun.queues)) == queues
    assert names(ns) == ["lo", "flannel0"]
    for fd in tun.queues:
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
    bring_up(ns, tun.name)
    with netns.inside(ns):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for host in range(200):
            sender.sendto(b"x", (f"10.5.2.{host}", 9))
    got = sent_by_queue(tun.queues, 200)
    assert len(got) == 2 if queues == 2 else len(got) > 100
    tun.close()
    assert names(ns) == ["lo"]


def test_offloads_are_for_every_queue(ns: str) -> None:
    """They belong to the device: each frame of each queue has its header, and a
    superpacket may come through any of them."""
    with netns.inside(ns):
        tun = open_tun(queues=4, tso=True, uso=True)
    assert (tun.vnet, tun.tso) == (True, True)
    bring_up(ns, tun.name)
    features = netns.call(["ethtool", "-k", tun.name], ns)
    assert "tcp-segmentation-offload: on" in features
    with netns.inside(ns):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for host in range(100):
            sender.sendto(b"x" * 2800, (f"10.5.2.{host}", 9))
    got = sent_by_queue(tun.queues, 200)
    assert set(got) == {0, 1, 2, 3}
    for frame in [frame for part in got.values() for frame in part]:
        assert frame[VNET_HEADER] == 0x45
    tun.close()


def test_one_queue_is_no_multi_queue_device(ns: str) -> None:
    with netns.inside(ns):
        tun = open_tun()
        with pytest.raises(OSError, match=r"busy|Invalid") as caught:
            device._attach(tun.name, 0x1001 | 0x0100)
    assert caught.value.errno in (errno.EBUSY, errno.EINVAL)
    assert tun.unsteered is None
    tun.close()


def test_others_queues_are_not_joined(ns: str) -> None:
    with netns.inside(ns):
        tun = open_tun("flannel7", queues=2)
        with pytest.raises(OSError, match="busy") as caught:
            open_tun("flannel7", queues=2)
    assert caught.value.errno == errno.EBUSY
    tun.close()


@pytest.mark.parametrize("at", ["open", "attach"])
def test_a_queue_too_few_is_none(
    ns: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    place, name = {"open": (os, "open"), "attach": (fcntl, "ioctl")}[at]
    real, calls = getattr(place, name), []

    def third_fails(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(errno.EMFILE, "no more")
        return real(*arguments)

    with netns.inside(ns), monkeypatch.context() as broken:
        broken.setattr(place, name, third_fails)
        with pytest.raises(OSError, match="no more"):
            open_tun(queues=4)
    assert set(os.listdir("/proc/self/fd")) == before
    assert names(ns) == ["lo"]


def test_without_the_program_there_are_queues_all_the_same(
    ns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.EPERM, "not for you")

    monkeypatch.setattr(device, "steer", refuse)
    with netns.inside(ns):
        tun = open_tun(queues=3, tso=True)
    assert len(tun.queues) == 3
    assert tun.tso
    assert tun.unsteered is not None
    assert tun.unsteered.errno == errno.EPERM
    tun.close()
