"""The rig: hosts that reach each other, wires that offload, programs on the hosts."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from flannelette.benchmarks import netns
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.rig import Pod, Rig, Wire
from tests.helpers.ns import needs_namespaces
from tests.helpers.rigs import pods_by_kernel_routes

pytestmark = [needs_namespaces, pytest.mark.usefixtures("rigs_end_clean")]


def reaches(rig: Rig, one: Pod, two: Pod) -> bool:
    """One TCP connection from pod to pod, and a byte through it."""
    with rig.inside(two.ns):
        server = socket.create_server((str(two.address), 0))
    with rig.inside(one.ns):
        client = socket.socket()
    with server, client:
        server.settimeout(5)
        client.settimeout(5)
        client.connect(server.getsockname())
        peer, address = server.accept()
        with peer:
            peer.sendall(b"x")
            return client.recv(1) == b"x" and address[0] == str(one.address)


def test_hosts_and_pods_with_ipv6() -> None:
    """By kernel routes: from the one pod to the other, over both hosts."""
    with Rig(ipv6=True) as rig:
        pods = []
        for here, there in ((1, 2), (2, 1)):
            via = f"via {rig.address6(there)}"
            rig.ip(rig.host(here), f"route add fd00:5:0:{there}::/64 {via}")
            six = f"fd00:5:0:{here}::/64"
            pods.append(rig.pod(here, f"10.5.{here}.0/24", 1430, six))
        assert str(pods[1].address6) == "fd00:5:0:2::2"
        rig.run(pods[0].ns, ["ping", "-n", "-c1", "-W5", str(pods[1].address6)])


@pytest.mark.parametrize("hosts", [2, 3])
def test_every_pod_reaches_every_other(hosts: int) -> None:
    with Rig(hosts) as rig:
        pods = pods_by_kernel_routes(rig)
        for one in pods:
            for two in pods:
                assert one is two or reaches(rig, one, two)


def test_hosts_are_as_daemons_expect_them() -> None:
    with Rig() as rig:
        pod = rig.pod(2, "10.5.7.0/24", 1450)
        assert str(rig.address(2)) == "192.0.2.2"
        route = rig.run(rig.host(2), ["ip", "route", "show", "default"]).stdout
        assert route.split() == ["default", "via", "192.0.2.254", "dev", "eth0"]
        forward = ["cat", "/proc/sys/net/ipv4/ip_forward"]
        assert rig.run(rig.host(2), forward).stdout == "1\n"
        for ns, device, mtu in [
            (rig.host(2), "eth0", 1500),
            (rig.host(2), "cni0", 1450),
            (pod.ns, "eth0", 1450),
        ]:
            link = rig.run(ns, ["ip", "-o", "link", "show", device, "up"]).stdout
            assert f" mtu {mtu} " in link
        assert (str(pod.address), pod.ns) == ("10.5.7.2", rig.pod_ns(2))


def test_the_wire_of_two_is_a_plain_veth_pair() -> None:
    with Rig() as rig:
        links = rig.run(rig.host(1), ["ip", "-d", "link", "show", "eth0"]).stdout
        assert "veth" in links
        assert f"link-netns {rig.host(2)}" in links


def test_two_rigs_at_once() -> None:
    with Rig() as one, Rig() as two:
        assert not set(one.namespaces) & set(two.namespaces)
        for rig in (one, two):
            assert reaches(rig, *pods_by_kernel_routes(rig))


@pytest.mark.parametrize(
    ("wire", "tso", "udp", "tunnel", "gro"),
    [
        ("veth", "on", "on", "on", "off"),
        ("nic", "on", "on", "off", "on"),
        ("plain", "off", "off", "off", "on"),
    ],
)
@pytest.mark.parametrize("hosts", [2, 3])
def test_wire_offloads(
    hosts: int, wire: Wire, tso: str, udp: str, tunnel: str, gro: str
) -> None:
    with Rig(hosts, wire) as rig:
        for number in rig.numbers:
            text = rig.run(rig.host(number), [netns.tool("ethtool"), "-k", "eth0"])
            lines = (line.split(":") for line in text.stdout.splitlines())
            has = {line[0].strip(): line[1].strip() for line in lines}
            assert has["tcp-segmentation-offload"] == tso
            assert has["generic-segmentation-offload"] == tso
            assert has["tx-udp-segmentation"] == udp
            assert has["tx-udp_tnl-segmentation"] == tunnel
            assert has["tx-udp_tnl-csum-segmentation"] == tunnel
            assert has["generic-receive-offload"] == gro


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="2 to 200 hosts"):
        Rig(1)
    with pytest.raises(ValueError, match="a wire is one of"):
        Rig(2, "tin")  # type: ignore[arg-type]  # what is tested
    with Rig() as rig, pytest.raises(ValueError, match="hosts are 1 to 2"):
        rig.host(3)


def test_run_says_what_went_wrong() -> None:
    with Rig() as rig:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            rig.run(rig.host(1), ["sh", "-c", "echo oh no >&2; exit 3"])
        assert caught.value.returncode == 3
        assert caught.value.__notes__ == ["oh no"]
        done = rig.run(rig.host(1), ["sh", "-c", "cat; exit 3"], check=False, input="x")
        assert (done.returncode, done.stdout) == (3, "x")
        with pytest.raises(subprocess.TimeoutExpired):
            rig.run(rig.host(1), ["sleep", "60"], timeout=0.1)
        with pytest.raises(FileNotFoundError):
            rig.run(rig.host(1), ["/no/such/program"])


def test_ip_errors_are_one_line() -> None:
    with Rig() as rig, pytest.raises(RigError, match=r"^\S*ip -batch -: .*nonsense"):
        rig.ip(rig.host(1), "nonsense")


def test_tool_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert netns.tool("ip")  # found in sbin all the same
    with pytest.raises(RigError, match="no-such-tool is needed"):
        netns.tool("no-such-tool")
