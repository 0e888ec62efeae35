"""--ip-blackhole-route of a real daemon: its pods are reached, and others nowhere."""

from __future__ import annotations

from pathlib import Path

from flannelette.benchmarks.netns import tool
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces


def blackholes(it: Lab) -> list[str]:
    """On host 1."""
    lines: list[str] = []
    for version in "46":
        command = [tool("ip"), f"-{version}", "route", "show", "type", "blackhole"]
        lines += it.rig.run(it.rig.host(1), command).stdout.splitlines()
    return [line.split()[1] for line in lines]


def test_a_blackhole_and_its_pods(tmp_path: Path) -> None:
    """Made before there is a pod, where flanneld's would cut it off."""
    flags = ["--ip-blackhole-route", "--iptables-resync=1"]
    with lab(tmp_path, ipv6=True, flags=flags) as it:
        it.up()
        lease, host = it.status(1)["lease"], it.rig.host(1)
        both = [lease["subnet"], lease["subnet6"]]
        assert blackholes(it) == both
        for version in (4, 6):
            it.until_reaches(1, 2, version=version)
            it.until_reaches(2, 1, version=version)
        assert it.status(1)["repairs"] == 0

        it.rig.ip(host, f"route delete blackhole {both[0]} metric {(1 << 32) - 1}")
        until(lambda: it.status(1)["repairs"] > 0)
        assert blackholes(it) == both
        assert it.status(1)["repairs"] == 1

        it.rig.stop(it.cluster.daemons[1].process)
        assert blackholes(it) == both, "C8"
        it.cluster.start_daemon(1, "--ip-blackhole-route=false")
        until(lambda: it.is_ready(1))
        assert blackholes(it) == []
