"""What the CNI plugin is told, and tells its delegate: flannel-behaviour.md N1 to N5,
N8, T44; CNI 1.1. The delegate only records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flannelette.control.cni.netconf import VERSIONS
from tests.helpers.cni import CONTAINER, N4, N6, RESULT, SUBNETS, V4, V6, Delegate, Host

# ---- what the delegate is told -------------------------------------------------------

STACKS: dict[str, tuple[list[Any], list[Any]]] = {
    "IPv4": ([V4], [N4]),
    "two networks": ([V4], [N4, {"dst": "192.168.0.0/16"}]),
    "IPv6": ([V6], [N6]),
    "dual": ([V4, V6], [N4, N6]),
}


@pytest.mark.parametrize("stack", STACKS)
def test_the_delegate_is_told_of_the_node(tmp_path: Path, stack: str) -> None:
    """N4, N5, T44: what is saved and what the delegate gets; its answer is ours."""
    host = Host(tmp_path, stack)
    bridge = Delegate(host)
    ranges, routes = STACKS[stack]
    answer = host.call("ADD", host.config())
    assert answer == (0, b'{"cniVersion": "1.0.0", "ips": []}')
    wanted = {
        "name": "cni-flannel",
        "cniVersion": "1.0.0",
        "type": "bridge",
        "ipMasq": False,
        "mtu": 1472,
        "isGateway": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
    }
    [call] = bridge.calls
    assert call.config == wanted
    assert json.loads((host.data / CONTAINER).read_bytes()) == wanted
    assert call.environ == {
        name: value
        for name, value in host.environ("ADD").items()
        if name.startswith("CNI_")
    }


def test_ipmasq_is_the_opposite_of_the_daemons(host: Host, bridge: Delegate) -> None:
    """N4, and N2: true only if the text is exactly that."""
    for text, masq in [("true", False), ("false", True), ("True", True), ("1", True)]:
        host.subnet_file.write_text(
            f"{SUBNETS['IPv4']}FLANNEL_MTU=9\nFLANNEL_IPMASQ={text}"
        )
        assert host.call("ADD", host.config()).code == 0
        assert bridge.calls[-1].config["ipMasq"] is masq


def test_what_the_user_says_of_the_delegate_stays(host: Host, bridge: Delegate) -> None:
    """N4: defaults yield; name, cniVersion, runtimeConfig do not."""
    delegate = {
        "hairpinMode": True,
        "isDefaultGateway": True,
        "ipMasq": "anything",
        "mtu": 1300,
        "isGateway": False,
        "cniVersion": "0.1.0",
        "runtimeConfig": 5,
    }
    runtime: dict[str, Any] = {"portMappings": []}
    config = host.config(delegate=delegate, runtimeConfig=runtime)
    assert host.call("ADD", config).code == 0
    told = bridge.calls[0].config
    del told["ipam"]
    assert told == {
        **delegate,
        "type": "bridge",
        "name": "cni-flannel",
        "cniVersion": "1.0.0",
        "runtimeConfig": runtime,
    }


def test_another_delegate_is_no_gateway(host: Host) -> None:
    """N4: isGateway is bridge's; without a version none is passed on."""
    ptp = Delegate(host, "ptp")
    config = host.config(delegate={"type": "ptp"}, cniVersion=None)
    assert host.call("ADD", config).code == 0
    assert set(ptp.calls[0].config) == {"name", "type", "ipMasq", "mtu", "ipam"}


@pytest.mark.parametrize("kind", ["host-local", "static", None])
def test_the_users_ipam_is_kept(host: Host, bridge: Delegate, kind: str | None) -> None:
    """N5, T44: type, routes and unknown members; ranges are overwritten."""
    ipam = {"dataDir": "/some", "ranges": 5, "routes": [{"dst": "0.0.0.0/0"}]}
    if kind:
        ipam["type"] = kind
    assert host.call("ADD", host.config(ipam=ipam)).code == 0
    assert bridge.calls[0].config["ipam"] == {
        "type": kind or "host-local",
        "dataDir": "/some",
        "ranges": [V4],
        "routes": [{"dst": "0.0.0.0/0"}, N4],
    }


def test_members_match_in_any_case(host: Host, bridge: Delegate) -> None:
    """As Go's JSON does; null is as good as nothing."""
    config = host.config(delegate=None) | {"IPAM": {"type": "x"}, "runtimeConfig": None}
    assert host.call("ADD", config).code == 0
    assert bridge.calls[0].config["ipam"]["type"] == "x"


# ---- wrong input ---------------------------------------------------------------------

BAD_CONFIGS: dict[str, tuple[Any, int]] = {
    "name missing": ({"name": None}, 7),
    "name empty": ({"name": ""}, 7),
    "name with a slash": ({"name": "a/b"}, 7),
    "name a number": ({"name": 5}, 7),
    "version unknown": ({"cniVersion": "9.0.0"}, 1),
    "version a number": ({"cniVersion": 0}, 1),
    "version a list": ({"cniVersion": ["1.0.0"]}, 1),
    "delegate a list": ({"delegate": []}, 7),
    "delegate with name": ({"delegate": {"name": "x"}}, 7),
    "delegate with ipam": ({"delegate": {"ipam": {}}}, 7),
    "delegate of type null": ({"delegate": {"type": None}}, 7),
    "delegate of type 5": ({"delegate": {"type": 5}}, 7),
    "delegate empty": ({"delegate": {"type": ""}}, 7),
    "delegate a path": ({"delegate": {"type": "../bridge"}}, 7),
    "delegate above": ({"delegate": {"type": ".."}}, 7),
    "delegate unknown": ({"delegate": {"type": "nothing"}}, 999),
    "delegate no file": ({"delegate": {"type": "bridge.d"}}, 999),
    "delegate with NUL": ({"delegate": {"type": "a\0b"}}, 999),
    "delegate no Unicode": ({"delegate": {"type": "a\ud800"}}, 999),
    "ipam a string": ({"ipam": "host-local"}, 7),
    "ipam of type 5": ({"ipam": {"type": 5}}, 7),
    "ipam routes an object": ({"ipam": {"routes": {}}}, 7),
    "runtimeConfig a list": ({"runtimeConfig": []}, 7),
    "dataDir a number": ({"dataDir": 1}, 7),
    "dataDir with NUL": ({"dataDir": "a\0b"}, 7),
    "dataDir no Unicode": ({"dataDir": "\ud800"}, 7),
    "dataDir no directory": ({"dataDir": "/dev/null"}, 5),
    "subnetFile a list": ({"subnetFile": []}, 7),
    "subnetFile with NUL": ({"subnetFile": "a\0b"}, 7),
    "subnetFile missing": ({"subnetFile": "/no/where"}, 11),
    "subnetFile a directory": ({"subnetFile": "/"}, 11),
    "number too large": ({"delegate": {"x": float("inf")}}, 6),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_wrong_configuration(host: Host, bridge: Delegate, case: str) -> None:
    """N3, T44: with the error as JSON, in the version that was asked in."""
    members, code = BAD_CONFIGS[case]
    config = {**host.config(), **members}
    error = host.call("ADD", config).error
    assert error["code"] == code
    version = config["cniVersion"]
    assert error["cniVersion"] == (
        version if version in VERSIONS and code != 6 else "1.1.0"
    )
    assert bridge.calls == []
    assert host.saved() == []


def test_a_number_that_is_no_double(host: Host, bridge: Delegate) -> None:
    """JSON can write it, Go could not read it, and we cannot pass it on."""
    text = json.dumps(host.config(delegate={"x": 0})).replace('"x": 0', '"x": 1e999')
    assert host.call("ADD", text.encode()).error["code"] == 7


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"CNI_COMMAND": ""}, "CNI_COMMAND"),
        ({"CNI_COMMAND": "add"}, "add"),
        ({"CNI_CONTAINERID": ""}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "../../etc/passwd"}, "passwd"),
        ({"CNI_CONTAINERID": "a:b"}, "a:b"),
        ({"CNI_CONTAINERID": ".hidden"}, "hidden"),
        ({"CNI_CONTAINERID": "a\n"}, "container ID"),
        ({"CNI_IFNAME": ""}, "CNI_IFNAME"),
        ({"CNI_IFNAME": ".."}, "interface name"),
        ({"CNI_IFNAME": "a/b"}, "interface name"),
        ({"CNI_IFNAME": "a:b"}, "interface name"),
        ({"CNI_IFNAME": "a b"}, "interface name"),
        ({"CNI_IFNAME": "sixteen-letters-"}, "interface name"),
        ({"CNI_IFNAME": "ä" * 8}, "interface name"),
        ({"CNI_NETNS": ""}, "CNI_NETNS"),
        ({"CNI_PATH": "", "CNI_IFNAME": ""}, "CNI_IFNAME,CNI_PATH"),
    ],
)
def test_a_wrong_environment(
    host: Host, bridge: Delegate, variables: dict[str, str], word: str
) -> None:
    command = variables.get("CNI_COMMAND", "ADD")
    rest = {k: v for k, v in variables.items() if k != "CNI_COMMAND"}
    error = host.call(command, host.config(), **rest).error
    assert error["code"] == 4
    assert word in error["msg"]
    assert host.saved() == []


@pytest.mark.parametrize(
    ("command", "version", "code"),
    [
        ("CHECK", None, 1),
        ("CHECK", "0.3.1", 1),
        ("CHECK", "0.4.0", 3),
        ("STATUS", "1.0.0", 1),
        ("STATUS", None, 1),
        ("GC", "1.0.0", 1),
    ],
)
def test_operations_have_a_first_version(
    host: Host, bridge: Delegate, command: str, version: str | None, code: int
) -> None:
    config = host.config(cniVersion=version, prevResult=RESULT)
    assert host.call(command, config).error["code"] == code
