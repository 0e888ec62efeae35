"""A daemon on etcd: what it survives, what ends it, and what it costs when idle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.gateway import LEASES, Gateway
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces


@pytest.fixture
def on_etcd(tmp_path: Path) -> Iterator[tuple[Lab, Gateway]]:
    with lab(tmp_path, store="etcd") as it:
        it.up()
        yield it, Gateway(it.rig)


def key_of(it: Lab, number: int) -> str:
    return str(it.status(number)["lease"]["subnet"]).replace("/", "-")


def routes(it: Lab, number: int) -> list[str]:
    return [route["subnet"] for route in it.status(number)["routes"]]


NEW = "10.5.250.0-24"
VALUE = b'{"PublicIP":"192.0.2.77","PublicIPv6":null}'


def test_a_revoked_lease_is_taken_again(on_etcd: tuple[Lab, Gateway]) -> None:
    it, etcd = on_etcd
    key = key_of(it, 1)
    value, lease = etcd.leases()[key]
    etcd.revoke(lease)
    until(lambda: etcd.leases().get(key, (b"", 0))[0] == value)
    assert etcd.leases()[key][1] not in (0, lease)
    assert key_of(it, 1) == key
    until(lambda: len(routes(it, 2)) == 1)
    it.until_reaches(1, 2)
    assert "our lease was revoked" in it.log(1)


def test_a_refusal_does_not_end_a_daemon_that_has_a_lease(
    on_etcd: tuple[Lab, Gateway],
) -> None:
    """Its lease is revoked, and etcd does not let it take it again."""
    it, etcd = on_etcd
    key = key_of(it, 1)
    _, lease = etcd.leases()[key]
    etcd.add_user("root", "secret")
    etcd.call("auth/enable")
    etcd.log_in("root", "secret")
    try:
        etcd.revoke(lease)
        refusal = "waiting for the store: to='take the lease again' error=etcd refuses"
        until(lambda: refusal in it.log(1))
        assert "etcd refuses" in it.status(1)["last_error"]
    finally:
        etcd.disable_auth()
    until(lambda: key in etcd.leases())
    it.until_reaches(1, 2)
    assert it.log(1).count(refusal) == 1


def test_what_keeps_a_daemon_from_its_lease_is_reported(tmp_path: Path) -> None:
    """An etcd that is full can be read, and takes no leases."""
    full = {"memberID": 0, "alarm": "NOSPACE"}
    with lab(tmp_path, store="etcd") as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        etcd = Gateway(it.rig)
        etcd.call("maintenance/alarm", action="ACTIVATE", **full)
        daemon = it.cluster.start_daemon(1)
        until(lambda: "waiting for the store: to='take a lease'" in it.log(1))
        status = daemon.status()
        assert status is not None
        assert not status["ready"]
        assert "space exceeded" in status["last_error"]
        etcd.call("maintenance/alarm", action="DEACTIVATE", **full)
        until(lambda: it.is_ready(1))
        assert it.status(1)["last_error"] is None


def test_without_a_subnet_file_no_lease_is_taken(tmp_path: Path) -> None:
    with lab(tmp_path, store="etcd") as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        it.cluster._flags.append("--subnet-file=/proc/nowhere/subnet.env")
        daemon = it.cluster.start_daemon(1)
        assert daemon.process.wait(DEADLINE) == 1
        assert "the subnet file /proc/nowhere/subnet.env" in it.log(1)
        assert len(it.log(1).splitlines()) == 1, "one line, and nothing before it"
        assert Gateway(it.rig).leases() == {}


def test_a_lease_that_somebody_else_took_ends_the_daemon(
    on_etcd: tuple[Lab, Gateway],
) -> None:
    it, etcd = on_etcd
    daemon = it.cluster.daemons[1]
    etcd.put(LEASES + key_of(it, 1), VALUE)
    assert daemon.process.wait(DEADLINE) == 1
    last = it.log(1).splitlines()[-1]
    assert last.startswith("flannelette: ")
    assert "192.0.2.77" in last
    assert "Traceback" not in it.log(1)


def test_foreign_entries_empty_nothing(on_etcd: tuple[Lab, Gateway]) -> None:
    """Where flanneld would forget all its peers (H1)."""
    it, etcd = on_etcd
    garbage = {
        "10.5.251.0-24": b"\xff not JSON",
        "10.5.252.0-24": b'{"PublicIP":null}',
        "not-a-subnet": VALUE,
        "10.5.253.0-32": VALUE,
        "stats/10.5.254.0-24": VALUE,
        "0.0.0.0-0": VALUE,
    }
    for key, value in garbage.items():
        etcd.put(LEASES + key, value)
    etcd.put(LEASES + NEW, VALUE)
    until(lambda: "10.5.250.0/24" in routes(it, 1))
    assert len(routes(it, 1)) == 2
    assert it.status(1)["store"]["skipped"] >= 4
    it.reach(1, 2)


def test_leases_that_are_no_routes(on_etcd: tuple[Lab, Gateway]) -> None:
    """With our own public IP, or outside the network: said once, and nothing more."""
    it, etcd = on_etcd
    before = routes(it, 1)
    ours = b'{"PublicIP":"192.0.2.1","PublicIPv6":null}'
    ignored = {"10.5.249.0-24": ours, "10.6.0.0-24": VALUE}
    etcd.put(LEASES + NEW, VALUE)
    until(lambda: "10.5.250.0/24" in routes(it, 1))
    for _ in range(2):
        for key, value in ignored.items():
            etcd.put(LEASES + key, value)
    etcd.put(LEASES + NEW, ours)
    until(lambda: routes(it, 1) == before)
    for key in ignored:
        etcd.delete(LEASES + key)
    etcd.put(LEASES + NEW, VALUE)
    until(lambda: "10.5.250.0/24" in routes(it, 1))
    for key in ignored:
        subnet = key.replace("-", "/")
        assert it.log(1).count(f"ignored a lease: subnet={subnet} ") == 1
        assert f"route removed: subnet={subnet}" not in it.log(1)
    it.reach(1, 2)


def test_idle_costs_next_to_nothing(on_etcd: tuple[Lab, Gateway]) -> None:
    """Under 80 MiB resident; no CPU to speak of when nothing moves."""
    it, _ = on_etcd
    for number in (1, 2):
        process = psutil.Process(it.cluster.daemons[number].process.pid)
        assert process.memory_info().rss < 80 << 20
        before = process.cpu_times()
        time.sleep(5)  # a measure, not a wait: CPU time is what is compared
        after = process.cpu_times()
        spent = after.user + after.system - before.user - before.system
        assert spent < 0.05, f"{spent} s of CPU in 5 s"


def test_ready_within_a_second_of_the_lease(on_etcd: tuple[Lab, Gateway]) -> None:
    """Some 20 ms, of which a second is left: this measures an order, not a speed."""
    it, _ = on_etcd
    times = {}
    for line in it.log(1).splitlines():
        for word in ("lease:", "ready:"):
            if word in line:
                _, _, clock, *_ = line.split()
                hours, minutes, seconds = clock.replace(",", ".").split(":")
                times[word] = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    assert (times["ready:"] - times["lease:"]) % 86400 < 1.0
