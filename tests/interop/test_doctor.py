"""The doctor beside nodes that know no probes: it finds nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.doctors import Doctor
from tests.helpers.lab import Lab
from tests.helpers.ns import needs_namespaces
from tests.interop.flanneld import Flanneld, beside_flanneld, needs_flanneld
from tests.interop.test_handmade import beside_kernel

pytestmark = needs_namespaces


@needs_flanneld
@pytest.mark.parametrize("backend", ["udp", "vxlan", "host-gw"])
def test_beside_flanneld(tmp_path: Path, backend: str) -> None:
    """And when that one is stopped, its udp proxy is missed."""
    with beside_flanneld(tmp_path, backend={"Type": backend}) as (it, flanneld):
        document = Doctor(it).examine()
        assert document["findings"] == document["unchecked"] == []
        (peer,) = document["peers"]
        assert peer["probe"] is None
        inside = set() if backend == "host-gw" else {flanneld.subnet}
        assert peer["overlay"].keys() == inside
        check_in_its_place(it, flanneld, backend)
        if backend == "udp":
            it.rig.stop(flanneld.process)
            finding = Doctor(it).only("peer-refuses")
            assert finding["cure"]["on"] == "192.0.2.2"


def check_in_its_place(it: Lab, flanneld: Flanneld, backend: str) -> None:
    """Asked on flanneld's host, the doctor says what to stop before ours is started."""
    there, flag = Doctor(it, 2), "--etcd-endpoints=http://192.0.2.1:2379"
    if backend == "host-gw":
        assert "port-taken" not in there.names(flag)
        return
    taken, down = there.findings(flag)[:2]
    assert (taken["check"], down["check"]) == ("port-taken", "daemon-down")
    pid = flanneld.process.pid
    assert f"flanneld (pid {pid})" in taken["cause"]
    stop = f"kill {pid} && tail -f /dev/null --pid={pid}"
    delete = "; ip link delete flannel.1" if backend == "vxlan" else ""
    assert taken["cure"]["command"] == stop + delete


def test_beside_a_kernel_s_vxlan(tmp_path: Path) -> None:
    """Over both IP versions; and when its device is down, it is missed."""
    with beside_kernel(tmp_path) as (it, kernel):
        document = Doctor(it).examine()
        assert document["findings"] == document["unchecked"] == []
        assert len(document["peers"]) == 2
        assert all(peer["probe"] is None for peer in document["peers"])
        it.rig.ip(it.rig.host(2), f"link set {kernel.device} down")
        assert Doctor(it).only("peer-refuses")["cure"]["on"] == "192.0.2.2"
