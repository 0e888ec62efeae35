"""The worker that speaks netlink, and its dumps."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from flannelette.tun.link import Netlink
from flannelette.tun.netlink import Worker, dump
from tests.helpers import uvloops
from tests.helpers.freshnet import FRESH, in_fresh_net, ip
from tests.helpers.ns import needs_namespaces


@needs_namespaces
def test_the_kernel_picks_what_a_dump_asks_for() -> None:
    """A machine may have 100 000 routes: they must not all come up here."""

    def routes(ip: Any, **criteria: Any) -> list[Any]:
        return dump(ip.route, family=2, **criteria)

    async def run() -> None:
        ip(*FRESH, "link set fl0 up", "address add 10.1.0.1/24 dev fl0")
        ip(*(f"route add 10.9.{n}.0/24 dev peer0" for n in range(50)))
        worker = Worker()
        try:
            (device,) = await worker.call(lambda ip: ip.link("get", ifname="fl0"))
            index = device["index"]
            assert len(await worker.call(routes)) > 50
            there = await worker.call(lambda ip: routes(ip, table=254, oif=index))
            assert [route.get("dst") for route in there] == ["10.1.0.0"]
            (address,) = await worker.call(
                lambda ip: dump(ip.addr, family=2, index=index)
            )
            assert address.get("local") == "10.1.0.1"
        finally:
            await worker.close()

    in_fresh_net(run)


async def test_closing_ends_the_thread_and_the_socket() -> None:
    def look() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = look()
    netlink = Netlink()
    await netlink.interfaces()
    assert look() > before
    await netlink.close()
    assert look() == before


async def test_closing_what_was_never_used() -> None:
    await Netlink().close()


async def test_failures_leave_no_descriptors() -> None:
    worker = Worker()
    try:
        await worker.call(lambda ip: ip.link("get", index=1))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await worker.call(lambda ip: 1 / 0)
            await worker.call(lambda ip: ip.link("get", index=1))
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        await worker.close()


async def test_a_failed_socket_is_replaced() -> None:
    """After ENOBUFS pyroute2's socket answers nothing but ENOBUFS."""

    def fail(ip: Any) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    worker = Worker()
    try:
        first = await worker.call(lambda ip: ip)
        assert await worker.call(lambda ip: ip) is first
        with pytest.raises(OSError, match="No buffer space"):
            await worker.call(fail)
        assert await worker.call(lambda ip: ip) is not first
    finally:
        await worker.close()


async def test_the_programs_choice_of_loops_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after uvloop.install(): uvloop has no netlink sockets."""
    monkeypatch.setattr(asyncio, "new_event_loop", uvloops.new_event_loop)
    netlink = Netlink()
    try:
        assert (await netlink.interfaces())[0].name == "lo"
    finally:
        await netlink.close()


async def test_a_cancelled_call_does_not_disturb_the_next() -> None:
    worker = Worker()
    started, go_on = threading.Event(), threading.Event()

    def slow(ip: Any) -> None:
        started.set()
        assert go_on.wait(5)

    try:
        call = asyncio.create_task(worker.call(slow))
        assert await asyncio.to_thread(started.wait, 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
        (device,) = await worker.call(lambda ip: ip.link("get", index=1))
        assert device.get("ifname") == "lo"
    finally:
        await worker.close()


async def test_calls_are_made_one_at_a_time() -> None:
    running: list[int] = []

    def one(ip: Any) -> int:
        running.append(1)
        ip.link("get", index=1)
        count = len(running)
        running.pop()
        return count

    worker = Worker()
    try:
        counts = await asyncio.gather(*(worker.call(one) for _ in range(20)))
    finally:
        await worker.close()
    assert counts == [1] * 20


def entry(interrupted: bool) -> dict[str, Any]:
    return {"header": {"flags": 0x12 if interrupted else 0x02}}


def test_an_interrupted_dump_is_asked_for_again() -> None:
    answers = [[entry(False), entry(True)], [entry(True)], [entry(False)], []]

    def call(command: str, **criteria: Any) -> Sequence[Any]:
        # With a filter of its own pyroute2 would not hand the criteria on.
        assert (command, criteria) == ("dump", {"index": 3, "dump_filter": None})
        return answers.pop(0)

    assert dump(call, index=3) == [entry(False)]
    assert answers == [[]]


def test_a_dump_that_is_always_interrupted_is_an_error() -> None:
    with pytest.raises(BlockingIOError, match="do not stop changing"):
        dump(lambda command, **criteria: [entry(True)])
