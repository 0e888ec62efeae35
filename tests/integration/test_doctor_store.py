"""Something is wrong with the store or what is in it: the doctor names it, and its
command cures it."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

from flannelette.benchmarks.cluster import FLANNELETTE
from flannelette.control.lease import LeaseAttrs
from tests.helpers.doctors import Doctor
from tests.helpers.lab import lab
from tests.helpers.leases import put_lease
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces


def test_two_leases_have_one_public_ip(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    with lab(tmp_path) as it:
        it.up()
        for address in ("192.0.2.2", "192.0.2.1"):
            put_lease(store, "10.5.255.0/24", LeaseAttrs(IPv4Address(address)))
            until(lambda: "10.5.255.0/24" in str(it.status(1)))
            finding = Doctor(it).only("duplicate-public-ip")
            assert finding["what"].count("/24") == 2
            assert "10.5.255.0-24" in finding["cure"]["command"]
            Doctor(it).cure(finding)
            until(lambda: "10.5.255.0/24" not in str(it.status(1)))
            until(lambda: Doctor(it).findings() == [])


def test_two_leases_share_addresses(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    with lab(tmp_path) as it:
        it.up()
        base = it.status(1)["lease"]["subnet"].partition("/")[0]
        nobody = LeaseAttrs(IPv4Address("192.0.2.77"))
        put_lease(store, f"{base}/25", nobody)
        until(lambda: it.status(1)["ignored"])
        finding = Doctor(it).only("duplicate-subnet")
        assert finding["what"] == f"192.0.2.1 and 192.0.2.77 both hold {base}/25"
        Doctor(it).cure(finding)
        until(lambda: not it.status(1)["ignored"])
        until(lambda: Doctor(it).findings() == [])


def test_a_lease_is_of_no_use(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    with lab(tmp_path, backend={"Type": "vxlan"}) as it:
        it.up()
        attrs = LeaseAttrs(IPv4Address("192.0.2.77"), None, "host-gw")
        put_lease(store, "10.5.255.0/24", attrs)
        until(lambda: it.status(1)["ignored"])
        finding = Doctor(it).only("lease-ignored")
        assert "host-gw, not vxlan" in finding["what"]
        Doctor(it).cure(finding)
        until(lambda: not it.status(1)["ignored"])


def test_the_store_is_gone_and_comes_back(tmp_path: Path) -> None:
    with lab(tmp_path, store="etcd") as it:
        it.up()
        etcd = next(it.cluster.programs)
        etcd.process.send_signal(signal.SIGSTOP)
        try:
            finding = Doctor(it).only("store-unreachable")
            assert finding["severity"] == "warning"
            endpoints = "--endpoints=http://192.0.2.1:2379"
            assert f"etcdctl {endpoints}" in finding["cure"]["command"]
            it.rig.stop(it.cluster.daemons.pop(2).process)
            flag = "--etcd-endpoints=http://192.0.2.1:2379"
            assert Doctor(it, 2).names(flag) == ["daemon-down", "store-unreachable"]
        finally:
            etcd.process.send_signal(signal.SIGCONT)
        until(lambda: Doctor(it).names() == ["peer-refuses"])


def test_there_is_no_network_configuration(tmp_path: Path) -> None:
    store = f"--store=local:{tmp_path / 'store.sqlite'}"
    with lab(tmp_path) as it:
        it.start_store()
        it.cluster.start_daemon(1)
        until(lambda: it.is_ready(1))
        it.rig.stop(it.cluster.daemons[1].process)
        with closing(sqlite3.connect(tmp_path / "store.sqlite")) as db, db:
            db.execute("DELETE FROM config")
        it.cluster.start_daemon(1)
        until(lambda: it.cluster.daemons[1].status() is not None)
        finding = Doctor(it).only("network-config")
        assert store in finding["cure"]["command"]
        Doctor(it).cure(finding)
        until(lambda: it.is_ready(1))
        assert Doctor(it).findings() == []
        change = [*FLANNELETTE, "net-config", store, '{"Network": "10.6.0.0/16"}']
        it.rig.run(it.rig.host(1), change)
        assert "network-changed" in Doctor(it).names()
