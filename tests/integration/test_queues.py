"""Daemons with several queues: in order, started, refused, lost and found."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flannelette.benchmarks import cluster
from flannelette.benchmarks.cluster import FLANNELETTE
from flannelette.dataplane.drivers import DRIVERS
from tests.helpers.flows import exchange, open_flows
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.tcp import send_file

pytestmark = needs_namespaces

NO_BPF = ["setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"]


@contextmanager
def queued(
    directory: Path, hosts: int = 2, queues: int = 4, driver: str = "thread"
) -> Iterator[Lab]:
    """Every daemon has so many queues."""
    with lab(directory, hosts, driver=driver) as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        for number in it.rig.numbers:
            it.cluster.start_daemon(number, f"--queues={queues}")
        it.cluster.wait_connected(time.monotonic() + DEADLINE)
        it.add_pods()
        yield it


def busy_queues(it: Lab, number: int) -> int:
    """Into how many queues of its TUN a host's kernel has put packets."""
    tc = ["tc", "-s", "-j", "qdisc", "show", "dev", it.status(number)["node"]["device"]]
    shown = json.loads(it.rig.run(it.rig.host(number), tc).stdout)
    return sum("parent" in qdisc and qdisc["packets"] > 0 for qdisc in shown)


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_flow_stays_in_order(tmp_path: Path, driver: str) -> None:
    """Small datagrams of many flows, both ways at once, and TCP both ways beside them.

    Each direction of a flow has a queue of its own at its host. Some packets may be
    lost, none may overtake another."""
    each = 1000
    with queued(tmp_path, hosts=3, driver=driver) as it, ExitStack() as stack:
        assert it.status(1)["node"]["queues"] == 4
        assert it.status(1)["node"]["steering"] == "fixed"
        flows = open_flows(it, stack, [(1, 2), (1, 3)], count=6)
        received: dict[int, bytes] = {}
        data = random.Random(4).randbytes(5_000_000)

        def transfer(source: int, target: int) -> None:
            received[source] = send_file(it, source, target, data)

        transfers = [
            threading.Thread(target=transfer, args=pair) for pair in [(1, 2), (2, 1)]
        ]
        for thread in transfers:
            thread.start()
        exchange(flows, each)
        for thread in transfers:
            thread.join()
        for flow in flows:
            assert flow.numbers == sorted(set(flow.numbers))
            assert len(flow.numbers) > each // 10
        digest = hashlib.sha256(data).digest()
        for source in (1, 2):
            assert hashlib.sha256(received[source]).digest() == digest
        assert all(busy_queues(it, number) >= 2 for number in (1, 2, 3))


@pytest.mark.parametrize("driver", DRIVERS)
def test_flannel0_deleted_under_us(tmp_path: Path, driver: str) -> None:
    """One loss, though every pump of every queue has seen it."""
    with queued(tmp_path, driver=driver) as it:
        it.reach(1, 2)
        packets = it.status(1)["counters"]["tx"]["packets"]
        it.rig.ip(it.rig.host(1), f"link delete {it.status(1)['node']['device']}")
        it.until_reaches(1, 2)
        status = it.status(1)
        assert status["repairs"] == 1
        assert status["node"]["device"] == "flannel0"
        assert status["node"]["steering"] == "fixed"
        assert status["counters"]["tx"]["packets"] > packets
        assert it.log(1).count("a pump has ended") == 1
        assert it.log(1).count("the TUN was lost") == 1
        data = random.Random(7).randbytes(1_000_000)
        assert send_file(it, 1, 2, data) == data


def test_a_daemon_starts_again_where_it_was(tmp_path: Path) -> None:
    with queued(tmp_path) as it:
        process = it.cluster.daemons[1].process
        process.terminate()
        assert process.wait(DEADLINE) == 0
        devices = it.rig.run(it.rig.host(1), ["ip", "-o", "link"]).stdout
        assert "flannel0" not in devices
        it.cluster.start_daemon(1, "--queues=2")
        until(lambda: it.is_ready(1))
        it.until_reaches(1, 2)
        assert it.status(1)["node"]["queues"] == 2


@pytest.mark.parametrize(("first", "others"), [(1, [4]), (4, [1, 4])])
def test_a_second_daemon_is_refused(
    tmp_path: Path, first: int, others: list[int]
) -> None:
    with queued(tmp_path, queues=first) as it:
        for second in others:
            command = [
                *FLANNELETTE,
                "run",
                f"--store=local:{tmp_path / 'store.sqlite'}",
                "--iface=eth0",
                f"--queues={second}",
                f"--subnet-file={tmp_path / 'other' / 'subnet.env'}",
            ]
            done = it.rig.run(it.rig.host(1), command, check=False)
            assert done.returncode == 1
            assert "Address already in use" in done.stderr.splitlines()[-1]
            it.reach(2, 1)


def test_where_programs_for_the_kernel_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in most containers. Said once, shown in status, and it works."""
    if Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip() == "0":
        pytest.skip("this kernel takes bpf(2) from everybody")
    monkeypatch.setattr(cluster, "FLANNELETTE", (*NO_BPF, *FLANNELETTE))
    with queued(tmp_path) as it:
        assert it.status(1)["node"]["steering"] == "automatic"
        it.reach(1, 2, count=20)
        data = random.Random(6).randbytes(5_000_000)
        assert send_file(it, 1, 2, data) == data
        it.rig.ip(it.rig.host(1), "link delete flannel0")
        it.until_reaches(1, 2)
        assert it.log(1).count("may change their queue") == 1
        assert "Operation not permitted" in it.log(1)
        shown = subprocess.run(
            [
                *FLANNELETTE,
                "status",
                f"--operator-socket={it.cluster.daemons[1].socket}",
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "queues   4, automatic steering" in shown.stdout.splitlines()


def test_one_queue_shares_its_port_with_nobody(tmp_path: Path) -> None:
    """The default: as it was before there were queues."""
    with queued(tmp_path, queues=1) as it:
        assert it.status(1)["node"]["steering"] is None
        with it.socket_in(it.rig.host(1)) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("192.0.2.1", 8285))
        show = ["ip", "-d", "link", "show", "flannel0"]
        assert "numtxqueues 1 " in it.rig.run(it.rig.host(1), show).stdout
