"""Pings and a file between pods, over hosts that route by themselves."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks import traffic
from flannelette.benchmarks.rig import Pod, Rig
from flannelette.benchmarks.traffic import TrafficError, ping, send_file
from tests.helpers.ns import needs_namespaces

pytestmark = needs_namespaces

BACK = "10.5.1.0/24 via 192.0.2.1"


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def rig() -> Iterator[Rig]:
    threads = threading.active_count()
    with Rig() as rig:
        rig.ip(rig.host(1), "route add 10.5.2.0/24 via 192.0.2.2")
        rig.ip(rig.host(2), f"route add {BACK}")
        yield rig
    assert threading.active_count() <= threads


@pytest.fixture
def pods(rig: Rig) -> tuple[Pod, Pod]:
    return rig.pod(1, "10.5.1.0/24", 1472), rig.pod(2, "10.5.2.0/24", 1472)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3_000_001))
    return path


def test_ping(pods: tuple[Pod, Pod]) -> None:
    one, two = pods
    delay = ping(one, two.address, 10, soon())
    assert 0 < delay.min <= delay.mean <= delay.max < 1


def test_no_answer(pods: tuple[Pod, Pod]) -> None:
    one, two = pods
    with pytest.raises(TrafficError, match=r"^no answer to pings from 10\.5\.1\.2"):
        ping(one, two.address + 100, 1, soon(0.2))


def test_what_an_answer_is() -> None:
    """A late answer to an earlier echo must not be taken for a quick one to this."""
    reply = b"\0" + traffic.echo_request(258, 7)[1:]
    plain, options = b"\x45" + bytes(19), b"\x47" + bytes(27)
    assert traffic.is_answer(plain + reply, 258, 7)
    assert traffic.is_answer(options + reply, 258, 7)
    assert not traffic.is_answer(plain + reply, 258, 8)
    assert not traffic.is_answer(plain + reply, 259, 7)
    assert not traffic.is_answer(plain + traffic.echo_request(258, 7), 258, 7)
    for size in range(28):
        assert not traffic.is_answer((plain + reply)[:size], 258, 7)


def test_ping_goes_on_after_a_loss(rig: Rig, pods: tuple[Pod, Pod]) -> None:
    one, two = pods
    rig.ip(rig.host(2), f"route delete {BACK}")
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        delay = pool.submit(ping, one, two.address, 2, soon())
        with pytest.raises(TrafficError):
            ping(one, two.address, 1, soon(0.1))
        rig.ip(rig.host(2), f"route add {BACK}")
        delay.result()
    assert time.monotonic() - started >= 1


def test_a_file_arrives(pods: tuple[Pod, Pod], file: Path) -> None:
    one, two = pods
    transfer = send_file(one, two, file, soon())
    assert transfer.size == 3_000_001
    assert transfer.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert transfer.bits_per_second == pytest.approx(24_000_008 / transfer.seconds)


def test_a_file_that_does_not_arrive_in_time(
    rig: Rig, pods: tuple[Pod, Pod], file: Path
) -> None:
    rig.ip(rig.host(2), f"route delete {BACK}")
    with pytest.raises(TrafficError, match=r"^3000001 bytes .* did not arrive in time"):
        send_file(*pods, file, soon(0.2))


def test_a_file_that_arrives_otherwise(
    pods: tuple[Pod, Pod], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = traffic._receive

    def flip(receiver: socket.socket, buffer: bytearray, deadline: float) -> None:
        receive(receiver, buffer, deadline)
        buffer[1_000_000] ^= 1

    monkeypatch.setattr(traffic, "_receive", flip)
    with pytest.raises(TrafficError, match=r"^what 10\.5\.2\.2 received is not what"):
        send_file(*pods, file, soon())


def test_a_connection_that_ends_too_early(
    pods: tuple[Pod, Pod], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_less(self: socket.socket, data: Any) -> None:
        self.send(data[:1000])
        self.shutdown(socket.SHUT_WR)

    monkeypatch.setattr(socket.socket, "sendall", send_less, raising=False)
    with pytest.raises(TrafficError, match=r"ended 2999001 bytes too early"):
        send_file(*pods, file, soon())


def test_a_receiver_that_fails_does_not_keep_the_sender(
    rig: Rig, pods: tuple[Pod, Pod], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by Ctrl-C: the sender's thread must not wait for its own deadline, even
    if it will never hear from the receiver again."""
    file.write_bytes(bytes(30_000_000))  # more than the sockets' buffers take

    def fail(*_: object) -> None:
        rig.ip(rig.host(2), f"route delete {BACK}")
        raise KeyboardInterrupt

    monkeypatch.setattr(traffic, "_receive", fail)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        send_file(*pods, file, soon(30))
    assert time.monotonic() - started < 20
