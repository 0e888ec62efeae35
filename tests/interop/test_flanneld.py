"""flannelette and real flanneld in one cluster, over a real etcd."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP

from flannelette.benchmarks.netns import RigError
from tests.helpers.datagrams import check_udp
from tests.helpers.gateway import LEASES, Gateway
from tests.helpers.lab import DEADLINE, MTU, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.tcp import send_file
from tests.interop.flanneld import (
    Flanneld,
    beside_flanneld,
    needs_flanneld,
    start_flanneld,
    start_ours,
)

pytestmark = [needs_namespaces, needs_flanneld]


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[tuple[Lab, Flanneld]]:
    """Ours on host 1, flanneld on host 2; a pod on each."""
    with beside_flanneld(tmp_path) as both:
        yield both


def test_ping_and_tcp_both_ways(mixed: tuple[Lab, Flanneld]) -> None:
    """TTL 64 arrives as 60 through either pair of daemons (U16)."""
    it, _ = mixed
    assert "ttl=60" in it.reach(1, 2, count=20)
    assert "ttl=60" in it.reach(2, 1, count=20)
    data = random.Random(7).randbytes(20_000_000)
    digest = hashlib.sha256(data).digest()
    for source, target in ((1, 2), (2, 1)):
        assert hashlib.sha256(send_file(it, source, target, data)).digest() == digest
    assert it.drops(1, "tx") == it.drops(1, "rx") == {}


@pytest.mark.parametrize("size", [0, 1, 100, 1444, 1445, 5000])
def test_udp_of_all_sizes_both_ways(mixed: tuple[Lab, Flanneld], size: int) -> None:
    """1444 bytes fill a packet; what is larger crosses as fragments."""
    it, _ = mixed
    for source, target in ((1, 2), (2, 1)):
        check_udp(it, source, target, size)


def test_both_answer_alike_when_there_is_no_route_u17(
    mixed: tuple[Lab, Flanneld],
) -> None:
    it, _ = mixed
    answers = []
    for number in (1, 2):
        with it.capture_in(it.rig.host(number), "flannel0") as seen:
            with it.socket_in(it.pods[number].ns) as sender:
                sender.bind(("", 4000))
                sender.sendto(b"to nobody, and long enough", ("10.5.0.9", 9))
            while True:
                packet = IP(seen.recv(4096))
                if ICMP in packet and packet[ICMP].type == 3:
                    break
        quoted = packet[ICMP].payload
        assert packet.src == str(it.pods[number].address - 2)
        assert packet.dst == quoted.src == str(it.pods[number].address)
        for layer in (packet, quoted):
            layer.src = layer.dst = "0.0.0.0"
            layer.chksum = 0
        packet[ICMP].chksum = quoted.id = 0
        quoted.payload.chksum = 0
        answers.append(bytes(packet))
    assert answers[0] == answers[1]


def test_leases_are_what_flanneld_writes(mixed: tuple[Lab, Flanneld]) -> None:
    """Key and value of ours, byte for byte but for the addresses (E3, L3, S1)."""
    it, flanneld = mixed
    leases = Gateway(it.rig).leases()
    subnet = it.status(1)["lease"]["subnet"]
    value, lease = leases[subnet.replace("/", "-")]
    assert lease != 0
    assert flanneld.subnet is not None
    theirs, _ = leases[flanneld.subnet.replace("/", "-")]
    assert value == theirs.replace(b"192.0.2.2", b"192.0.2.1")
    env = flanneld.subnet_file.read_text()
    base, other = subnet.partition("/")[0], flanneld.subnet.partition("/")[0]
    assert (
        env.replace(other[:-1], base[:-1])
        == (it.directory / "h1" / "subnet.env").read_text()
    )


def test_either_finds_its_lease_after_a_restart(mixed: tuple[Lab, Flanneld]) -> None:
    it, flanneld = mixed
    ours, theirs = it.status(1)["lease"]["subnet"], flanneld.subnet
    before = Gateway(it.rig).leases().keys()
    it.rig.stop(it.cluster.daemons[1].process)
    start_ours(it, 1)
    it.rig.stop(flanneld.process)
    flanneld.subnet_file.unlink()
    again = start_flanneld(it, 2)
    assert (it.status(1)["lease"]["subnet"], again.subnet) == (ours, theirs)
    assert Gateway(it.rig).leases().keys() == before
    it.until_reaches(1, 2)
    it.until_reaches(2, 1)


def test_flanneld_may_take_over_our_host_and_back(mixed: tuple[Lab, Flanneld]) -> None:
    """Same public IP, same subnet file, same lease: a drop-in either way."""
    it, _ = mixed
    ours = it.status(1)["lease"]["subnet"]
    it.rig.stop(it.cluster.daemons.pop(1).process)
    flanneld = start_flanneld(it, 1)
    assert flanneld.subnet == ours
    it.until_reaches(1, 2)
    it.rig.stop(flanneld.process)
    start_ours(it, 1)
    assert it.status(1)["lease"]["subnet"] == ours
    it.until_reaches(1, 2)


def test_a_node_of_ours_joins_and_leaves(tmp_path: Path) -> None:
    """flanneld learns of it by its lease, and forgets it when the lease is deleted."""
    with lab(tmp_path, hosts=3, store="etcd") as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        flanneld = start_flanneld(it, 2)
        start_ours(it, 1)
        start_ours(it, 3)
        it.add_pods()
        assert flanneld.subnet is not None
        it.pods[2] = it.rig.pod(2, flanneld.subnet, MTU)
        for source, target in ((2, 3), (3, 2), (1, 3), (3, 1)):
            it.until_reaches(source, target)

        subnet = it.status(3)["lease"]["subnet"]
        it.rig.stop(it.cluster.daemons.pop(3).process)
        Gateway(it.rig).delete(LEASES + subnet.replace("/", "-"))
        until(lambda: subnet not in [r["subnet"] for r in it.status(1)["routes"]])
        until(lambda: f"Subnet removed: {subnet}" in flanneld.log_file.read_text())
        it.until_reaches(1, 2)
        it.until_reaches(2, 1)


def test_a_lease_of_flanneld_is_forgotten_when_it_ends(
    mixed: tuple[Lab, Flanneld],
) -> None:
    it, flanneld = mixed
    assert flanneld.subnet is not None
    Gateway(it.rig).revoke(
        Gateway(it.rig).leases()[flanneld.subnet.replace("/", "-")][1]
    )
    until(lambda: it.status(1)["routes"] == [])


def test_three_start_in_the_same_instant_twenty_times(tmp_path: Path) -> None:
    """Each time all see each other: no gap between the list and the watch.

    flanneld dies of a lost race for a subnet (E18); its supervisor's part, to start it
    again, is ours here. Two of ours never need that."""
    with lab(tmp_path, hosts=3, store="etcd") as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        etcd = Gateway(it.rig)
        for _ in range(20):
            etcd.delete_leases()
            for directory in tmp_path.glob("*/subnet.env"):
                directory.unlink()
            it.cluster.start_daemon(1)
            flanneld = Flanneld(it.rig, 2, it.directory / "f2")
            it.cluster.start_daemon(3)
            flanneld = supervised(it, flanneld)
            for number in (1, 3):
                until(lambda n=number: it.is_ready(n))  # type: ignore[misc]
                until(lambda n=number: len(it.status(n)["routes"]) == 2)  # type: ignore[misc]
            bases = {n: it.status(n)["lease"]["subnet"].split("/")[0] for n in (1, 3)}
            assert flanneld.subnet is not None
            bases[2] = flanneld.subnet.split("/")[0]
            for source in bases:
                for target in bases.keys() - {source}:
                    until(lambda s=source, t=bases[target]: hosts_talk(it, s, t))  # type: ignore[misc]
            for program in (flanneld, *it.cluster.daemons.values()):
                it.rig.stop(program.process)


def supervised(it: Lab, flanneld: Flanneld) -> Flanneld:
    """flanneld once it is ready, after as many starts as that takes."""
    for _ in range(5):
        try:
            until(flanneld.is_ready)
        except RigError:
            flanneld = Flanneld(it.rig, 2, it.directory / "f2")
        else:
            return flanneld
    raise AssertionError(flanneld.log_file.read_text())


def hosts_talk(it: Lab, source: int, address: str) -> bool:
    command = ["ping", "-n", "-c", "1", "-W", "1", address]
    return it.rig.run(it.rig.host(source), command, check=False).returncode == 0
