"""The doctor beside nodes that know no probes: it finds nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.doctors import Doctor
from tests.helpers.ns import needs_namespaces
from tests.interop.flanneld import beside_flanneld, needs_flanneld
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
        if backend == "udp":
            it.rig.stop(flanneld.process)
            finding = Doctor(it).only("peer-refuses")
            assert finding["cure"]["on"] == "192.0.2.2"


def test_beside_a_kernel_s_vxlan(tmp_path: Path) -> None:
    """Over both IP versions; and when its device is down, it is missed."""
    with beside_kernel(tmp_path) as (it, kernel):
        document = Doctor(it).examine()
        assert document["findings"] == document["unchecked"] == []
        assert len(document["peers"]) == 2
        assert all(peer["probe"] is None for peer in document["peers"])
        it.rig.ip(it.rig.host(2), f"link set {kernel.device} down")
        assert Doctor(it).only("peer-refuses")["cure"]["on"] == "192.0.2.2"
