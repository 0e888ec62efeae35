"""The CNI plugin with real delegates, bridge and host-local, in namespaces (T44)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks.netns import call, inside, ip
from tests.helpers.cni import SUBNETS, Answer, Host
from tests.helpers.ns import needs_namespaces

PLUGINS = [Path("/usr/lib/cni"), Path("/opt/cni/bin")]
"""Where Debian's containernetworking-plugins are, and where everybody else's."""
CNI_PATH = next((path for path in PLUGINS if (path / "bridge").exists()), None)
HOST, POD = f"flc{os.getpid()}-h", f"flc{os.getpid()}-p"

pytestmark = [
    needs_namespaces,
    pytest.mark.skipif(
        CNI_PATH is None, reason="needs the CNI plugins bridge and host-local"
    ),
]


class Node:
    """A host and a pod, each a namespace; the plugin runs as a process in the host."""

    def __init__(self, directory: Path, stack: str) -> None:
        self._host = Host(directory, stack)
        self._reserved = directory / "reserved"
        self.data = self._host.data
        self.subnet_file = self._host.subnet_file

    def config(self, **members: Any) -> dict[str, Any]:
        ipam = {"dataDir": str(self._reserved)}
        delegate = {"bridge": "cni9", "isDefaultGateway": True}
        return self._host.config(**{"ipam": ipam, "delegate": delegate, **members})

    def call(self, command: str, config: dict[str, Any], **variables: str) -> Answer:
        program = [sys.executable, "-m", "flannelette.control.cni.command"]
        return self.run(program, command, config, **variables)

    def run(
        self, program: list[str], command: str, config: dict[str, Any], **variables: str
    ) -> Answer:
        """Any plugin, as a runtime would."""
        netns = f"/run/netns/{POD}"
        usual = {"CNI_NETNS": netns, "CNI_PATH": str(CNI_PATH)}
        with inside(HOST):
            process = subprocess.Popen(
                program,
                env=self._host.environ(command, **{**usual, **variables}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        out, _ = process.communicate(json.dumps(config).encode(), timeout=60)
        return Answer(process.returncode, out)

    def add(self, config: dict[str, Any], **variables: str) -> dict[str, Any]:
        answer = self.call("ADD", config, **variables)
        assert answer.code == 0, answer.text
        return dict(json.loads(answer.text))

    def reserved(self) -> list[str]:
        """The addresses that host-local has given away."""
        names = {path.name for path in self._reserved.glob("cni-flannel/*")}
        return sorted(name for name in names if not name.startswith(("last_", "lock")))


@pytest.fixture
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    """Of the stack that the test's parameter names; by default of IPv4."""
    made = []
    try:
        for name in (HOST, POD):
            ip([f"netns add {name}"])
            made.append(name)
            ip(["link set lo up"], name)
        yield Node(tmp_path, getattr(request, "param", "IPv4"))
    finally:
        for name in made:
            ip([f"netns delete {name}"])


def shown(ns: str, command: str) -> Any:
    return json.loads(call(["ip", "-json", *command.split()], ns) or "[]")


def addresses(ns: str, device: str) -> list[str]:
    """Those of global scope."""
    [link] = shown(ns, f"address show dev {device}")
    found = [it for it in link["addr_info"] if it["scope"] == "global"]
    return [f"{it['local']}/{it['prefixlen']}" for it in found]


def routes(ns: str) -> set[tuple[str, str]]:
    found = [*shown(ns, "-4 route"), *shown(ns, "-6 route")]
    return {(it["dst"], it["gateway"]) for it in found if "gateway" in it}


POD4, POD6 = "10.1.17.2/24", "fc00::2/64"
GATE4, GATE6 = "10.1.17.1", "fc00::1"
DEFAULT4, NET4 = ("default", GATE4), ("10.1.0.0/16", GATE4)
DEFAULT6, NET6 = ("default", GATE6), ("fc00::/48", GATE6)
WANTED = {
    "IPv4": ([POD4], {DEFAULT4, NET4}),
    "two networks": ([POD4], {DEFAULT4, NET4, ("192.168.0.0/16", GATE4)}),
    "IPv6": ([POD6], {DEFAULT6, NET6}),
    "dual": ([POD4, POD6], {DEFAULT4, DEFAULT6, NET4, NET6}),
}


@pytest.mark.parametrize("node", SUBNETS, indirect=True)
def test_the_life_of_an_attachment(node: Node, request: pytest.FixtureRequest) -> None:
    """T44: and CHECK, which finds what is missing."""
    stack = request.node.callspec.params["node"]
    wanted, gates = WANTED[stack]
    config = node.config()
    result = node.add(config)
    assert [it["address"] for it in result["ips"]] == wanted
    assert addresses(POD, "eth0") == wanted
    assert routes(POD) == gates
    assert shown(POD, "link show dev eth0")[0]["mtu"] == 1472
    for gate in sorted({gate for _, gate in gates}):
        call(["ping", "-c1", "-W5", gate], POD)
    assert node.reserved() == [it.partition("/")[0] for it in wanted]

    checked = {**config, "prevResult": result}
    assert node.call("CHECK", checked) == (0, b"")
    ip(["address flush dev eth0 scope global"], POD)
    error = node.call("CHECK", checked).error
    assert "failed to delegate check" in error["msg"]

    node.subnet_file.unlink()
    for _ in range(2):
        assert node.call("DEL", checked) == (0, b"")
        assert node.reserved() == []
        assert os.listdir(node.data) == []
        assert "eth0" not in {it["ifname"] for it in shown(POD, "link")}


def test_a_second_add_fails_and_spares_the_first(node: Node) -> None:
    config = node.config()
    result = node.add(config)
    assert node.call("ADD", config).error["code"] > 0
    assert addresses(POD, "eth0") == [POD4]
    assert node.call("CHECK", {**config, "prevResult": result}) == (0, b"")
    call(["ping", "-c1", "-W5", GATE4], POD)
    assert node.call("DEL", config).code == 0
    assert node.reserved() == []


def test_a_failed_add_gives_its_address_back(node: Node) -> None:
    """There is no such namespace: nothing stays, neither here nor with host-local."""
    answer = node.call("ADD", node.config(), CNI_NETNS="/run/netns/flc-none")
    assert answer.error["msg"].startswith("failed to delegate add: ")
    assert node.reserved() == []
    assert os.listdir(node.data) == []


def test_del_when_the_namespace_is_gone(node: Node) -> None:
    config = node.config()
    node.add(config)
    ip([f"netns delete {POD}", f"netns add {POD}"])
    assert node.call("DEL", config, CNI_NETNS="").code == 0
    assert node.reserved() == []


def test_two_interfaces_of_one_pod(node: Node) -> None:
    """N6: each is deleted as it was added."""
    config = node.config()
    node.add(config)
    second = node.config(delegate={"bridge": "cni8"})
    node.add(second, CNI_IFNAME="net1")
    assert node.reserved() == ["10.1.17.2", "10.1.17.3"]
    assert node.call("DEL", config).code == 0
    assert node.reserved() == ["10.1.17.3"]
    assert addresses(POD, "net1") == ["10.1.17.3/24"]
    assert node.call("DEL", second, CNI_IFNAME="net1").code == 0
    assert node.reserved() == []


def speaks_1_1() -> bool:
    """Does the bridge? Debian's of 2022 does not."""
    assert CNI_PATH is not None
    said = subprocess.run(
        [CNI_PATH / "bridge"],
        env={**os.environ, "CNI_COMMAND": "VERSION"},
        input=b'{"cniVersion": "1.0.0"}',
        stdout=subprocess.PIPE,
        check=True,
    )
    return "1.1.0" in json.loads(said.stdout)["supportedVersions"]


def test_status_is_that_of_daemon_and_bridge(node: Node) -> None:
    """A bridge that cannot be asked in this version could not ADD in it either."""
    config = node.config(cniVersion="1.1.0")
    answer = node.call("STATUS", config)
    assert answer == (0, b"") if speaks_1_1() else answer.error["code"] == 50
    node.subnet_file.unlink()
    assert node.call("STATUS", config).error["code"] == 50


def test_gc_gives_addresses_back(node: Node) -> None:
    """Of containers that the runtime has forgotten; host-local itself does nothing."""
    config = node.config()
    node.add(config)
    node.add(config, CNI_CONTAINERID="forgotten", CNI_IFNAME="net1")
    assert node.reserved() == ["10.1.17.2", "10.1.17.3"]
    valid = [{"containerID": "some-container-id", "ifname": "eth0"}]
    known = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid}
    answer = node.call("GC", {**config, **known})
    assert answer == (0, b"") if speaks_1_1() else answer.error["code"] > 0
    assert node.reserved() == ["10.1.17.2"]
    assert addresses(POD, "eth0") == [POD4]


def connects(port: int) -> bool:
    """From the host, to a port of its own, behind which the pod listens."""
    with inside(POD):
        server = socket.socket()
    with inside(HOST):
        client = socket.socket()
    with server, client:
        server.bind(("", 80))
        server.listen()
        client.settimeout(20)
        try:
            client.connect((GATE4, port))
        except ConnectionRefusedError:
            return False
        return True


@pytest.mark.skipif(
    CNI_PATH is None or not (CNI_PATH / "portmap").exists(),
    reason="needs the CNI plugin portmap",
)
def test_flannels_own_chain_with_portmap(node: Node) -> None:
    """N12: what kube-flannel ships, called as a runtime calls a chain: each plugin is
    given the result of the one before it, and DEL goes backwards."""
    version = {"name": "cbr0", "cniVersion": "0.3.1"}
    bridge = {"bridge": "cni9", "hairpinMode": True, "isDefaultGateway": True}
    flannel = node.config(**version, delegate=bridge)
    ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    portmap = {
        **version,
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": ports},
    }
    program = [str(CNI_PATH / "portmap")] if CNI_PATH else []
    for turn in range(2):
        result = node.add(flannel)
        assert result["cniVersion"] == "0.3.1"
        assert not connects(8080)
        chained = {**portmap, "prevResult": result}
        answer = node.run(program, "ADD", chained)
        assert answer.code == 0, answer.text
        last = json.loads(answer.text)
        assert last["ips"] == result["ips"]
        assert connects(8080), turn

        for _ in range(2):
            assert node.run(program, "DEL", {**portmap, "prevResult": last}).code == 0
            assert node.call("DEL", {**flannel, "prevResult": last}) == (0, b"")
            assert not connects(8080)
            assert node.reserved() == []
