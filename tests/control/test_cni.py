"""The CNI plugin: flannel-behaviour.md N1 to N10, T44; CNI 1.1.

The delegate here only records; tests/integration/test_cni.py has real ones.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flannelette.control.cniconfig import ATTACHMENTS, VERSIONS
from tests.helpers.cni import REST, SUBNETS, Delegate, Host

RESULT = {"cniVersion": "1.0.0", "ips": []}
LEGACY = "some-container-id"
SAVED = ["some-container-id", "some-container-id:eth0"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def bridge(host: Host) -> Delegate:
    return Delegate(host)


# ---- ADD -----------------------------------------------------------------------------

V4, V6 = [{"subnet": "10.1.17.0/24"}], [{"subnet": "fc00::/64"}]
N4, N6 = {"dst": "10.1.0.0/16"}, {"dst": "fc00::/48"}
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
    assert json.loads((host.data / LEGACY).read_bytes()) == wanted
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


def test_it_is_saved_before_the_delegate_runs(host: Host, bridge: Delegate) -> None:
    """N6: and readable by root alone, whatever the umask."""
    (host.plugins / "bridge").write_text(f"#!/bin/sh\ncat {host.data}/{SAVED[1]}")
    before = os.umask(0)
    try:
        answer = host.call("ADD", host.config())
    finally:
        os.umask(before)
    assert answer.code == 0
    assert json.loads(answer.text)["type"] == "bridge"
    assert host.saved() == SAVED
    assert host.data.stat().st_mode & 0o777 == 0o700
    assert (host.data / SAVED[1]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("broken", ["fails", "junk", "dies", "cannot be run"])
def test_a_failed_add_leaves_nothing(host: Host, bridge: Delegate, broken: str) -> None:
    """N6's leak; CNI 1.1, section 4: the delegate is told DEL."""
    code, message = 999, "failed to delegate add"
    match broken:
        case "fails":
            bridge.fails("ADD", code=11, message="busy")
            code, message = 11, "failed to delegate add: busy"
        case "junk":
            bridge.says("ADD", "[]")
        case "dies":
            bridge.says("ADD", "", code=3)
        case _:
            (host.plugins / "bridge").write_text("#!/no/such/interpreter")
            code, message = 5, "while running the plugin"
    error = host.call("ADD", host.config()).error
    assert error["code"] == code
    assert message in error["msg"]
    assert bridge.commands == ([] if broken == "cannot be run" else ["ADD", "DEL"])
    assert host.saved() == []


def test_what_cannot_be_undone_stays_for_the_runtimes_del(
    host: Host, bridge: Delegate, capsys: pytest.CaptureFixture[str]
) -> None:
    bridge.fails("ADD")
    bridge.fails("DEL")
    assert host.call("ADD", host.config()).error["code"] == 7
    assert "not undone" in capsys.readouterr().err
    assert host.saved() == SAVED
    bridge.says("DEL", "")
    assert host.call("DEL", host.config()) == (0, b"")
    assert host.saved() == []


def test_a_second_add_that_fails_spares_the_first(host: Host, bridge: Delegate) -> None:
    """The attachment that is there goes on to work, and keeps its configuration."""
    assert host.call("ADD", host.config()).code == 0
    before = (host.data / SAVED[1]).read_bytes()
    bridge.fails("ADD")
    config = host.config(delegate={"mtu": 1})
    assert host.call("ADD", config).error["code"] == 7
    assert bridge.commands == ["ADD", "ADD"]
    assert (host.data / SAVED[1]).read_bytes() == before
    assert host.saved() == SAVED


# ---- DEL -----------------------------------------------------------------------------


def test_del_is_told_what_add_was(host: Host, bridge: Delegate) -> None:
    """N9: whatever configuration and subnet.env say by now; and it may come again."""
    assert host.call("ADD", host.config()).code == 0
    host.subnet_file.unlink()
    config = host.config(delegate={"type": "other"}, prevResult=RESULT)
    assert host.call("DEL", config) == (0, b"")
    add, delete = bridge.calls
    assert delete.config == {**add.config, "prevResult": RESULT}
    assert delete.environ == {**add.environ, "CNI_COMMAND": "DEL"}
    assert host.saved() == []
    assert host.call("DEL", config) == (0, b"")
    assert len(bridge.calls) == 2


def test_a_result_in_another_version_is_not_passed_on(
    host: Host, bridge: Delegate
) -> None:
    assert host.call("ADD", host.config(cniVersion="0.4.0")).code == 0
    assert host.call("DEL", host.config(prevResult=RESULT)).code == 0
    assert "prevResult" not in bridge.calls[1].config


def test_del_needs_no_namespace(host: Host, bridge: Delegate) -> None:
    assert host.call("ADD", host.config()).code == 0
    assert host.call("DEL", host.config(), CNI_NETNS="").code == 0
    assert host.saved() == []


def test_a_del_that_fails_can_be_tried_again(host: Host, bridge: Delegate) -> None:
    """N9: the file goes only when the delegate is done."""
    assert host.call("ADD", host.config()).code == 0
    bridge.fails("DEL", code=42, message="not now")
    error = host.call("DEL", host.config()).error
    assert (error["code"], error["msg"]) == (42, "failed to delegate del: not now")
    assert host.saved() == SAVED
    bridge.says("DEL", "")
    assert host.call("DEL", host.config()).code == 0
    assert host.saved() == []


def test_what_cannot_be_read_is_no_error_for_del(
    host: Host, bridge: Delegate, capsys: pytest.CaptureFixture[str]
) -> None:
    """N9: half-written by flannel's plugin, say."""
    host.data.mkdir()
    (host.data / LEGACY).write_text('{"name": "cni-fl')
    assert host.call("DEL", host.config()) == (0, b"")
    assert "no configuration" in capsys.readouterr().err
    assert host.saved() == []
    assert bridge.calls == []


def test_del_of_another_network_spares_this(host: Host, bridge: Delegate) -> None:
    assert host.call("ADD", host.config()).code == 0
    assert host.call("DEL", host.config(name="other")) == (0, b"")
    assert host.saved() == SAVED


# ---- several attachments, and flannel's own plugin -----------------------------------


def test_two_attachments_of_a_container(host: Host, bridge: Delegate) -> None:
    """N6: flannel's plugin loses the first."""
    first, second = host.config(), host.config(name="second")
    assert host.call("ADD", first).code == 0
    assert host.call("ADD", second, CNI_IFNAME="net1").code == 0
    assert host.saved() == [*SAVED, "some-container-id:net1"]
    assert host.call("DEL", first).code == 0
    assert host.saved() == ["some-container-id:net1"]
    assert host.call("DEL", second, CNI_IFNAME="net1").code == 0
    assert host.saved() == []
    assert [call.config["name"] for call in bridge.calls] == [
        "cni-flannel",
        "second",
        "cni-flannel",
        "second",
    ]


def test_an_interface_that_was_never_added(host: Host, bridge: Delegate) -> None:
    """What stands under flannel's name is another's."""
    assert host.call("ADD", host.config()).code == 0
    assert host.call("DEL", host.config(), CNI_IFNAME="net1") == (0, b"")
    assert bridge.commands == ["ADD"]
    assert host.saved() == SAVED


def saved_by_flannels(host: Host, **members: Any) -> dict[str, Any]:
    """As its plugin would have left it (N6)."""
    config = {"name": "cni-flannel", "type": "bridge", "cniVersion": "1.0.0", **members}
    host.data.mkdir(exist_ok=True)
    (host.data / LEGACY).write_text(json.dumps(config))
    return config


def test_containers_of_flannels_plugin_can_be_deleted(
    host: Host, bridge: Delegate
) -> None:
    config = saved_by_flannels(host)
    assert host.call("DEL", host.config()).code == 0
    assert bridge.calls[0].config == config
    assert host.saved() == []


def test_a_failed_add_spares_what_flannels_plugin_saved(
    host: Host, bridge: Delegate
) -> None:
    saved_by_flannels(host)
    bridge.fails("ADD")
    assert host.call("ADD", host.config()).code == 1
    assert bridge.commands == ["ADD"]
    assert host.saved() == [LEGACY]


# ---- CHECK, STATUS, VERSION, GC ------------------------------------------------------


def test_check_asks_the_delegate(host: Host, bridge: Delegate) -> None:
    """flannel's says yes always (N10)."""
    assert host.call("ADD", host.config()).code == 0
    config = host.config(prevResult=RESULT)
    assert host.call("CHECK", config) == (0, b"")
    told = {**bridge.calls[0].config, "prevResult": {**RESULT, "routes": []}}
    assert bridge.calls[1].config == told
    bridge.fails("CHECK", code=77, message="no such address")
    error = host.call("CHECK", config).error
    assert error["code"] == 77
    assert error["msg"] == "failed to delegate check: no such address"


def test_check_expects_routes_through_the_gateway(host: Host, bridge: Delegate) -> None:
    """Those we asked for have none (N5): bridge 1.1.1 would not find them."""
    ips = [
        {"address": "10.1.17.2/24", "gateway": "10.1.17.1"},
        {"address": "fc00::2/64", "gateway": "fc00::1"},
        {"address": "10.9.0.2/24", "gateway": "10.9.0.1"},
    ]
    other = {"dst": "10.2.0.0/16", "gw": "10.1.17.9"}
    link = {"dst": "10.3.0.0/16", "scope": 253}
    result = {"ips": ips, "routes": [N4, N6, other, link], "dns": {}}
    assert host.call("ADD", host.config()).code == 0
    assert host.call("CHECK", host.config(prevResult=result)).code == 0
    assert bridge.calls[1].config["prevResult"] == {
        **result,
        "routes": [N4 | {"gw": "10.1.17.1"}, N6 | {"gw": "fc00::1"}, other, link],
    }
    strange = {"ips": [5, {"gateway": 5}], "routes": [5, {"dst": 5}, N4]}
    assert host.call("CHECK", host.config(prevResult=strange)).code == 0
    assert bridge.calls[2].config["prevResult"]["routes"] == [{"dst": 5}, N4]


def test_check_needs_an_attachment_and_its_result(host: Host, bridge: Delegate) -> None:
    config = host.config(prevResult=RESULT)
    assert host.call("CHECK", config).error["code"] == 3
    assert host.call("ADD", host.config()).code == 0
    assert host.call("CHECK", host.config()).error["code"] == 7
    assert host.call("CHECK", config | {"name": "other"}).error["code"] == 3
    (host.data / SAVED[1]).write_text("{")
    assert host.call("CHECK", config).error["code"] == 3
    assert bridge.commands == ["ADD"]


def test_check_sees_that_the_node_has_another_subnet(
    host: Host, bridge: Delegate
) -> None:
    """Nobody would route to the container."""
    assert host.call("ADD", host.config()).code == 0
    config = host.config(prevResult=RESULT)
    host.subnet_file.write_text(SUBNETS["dual"] + REST)  # IPv6 came: no matter
    assert host.call("CHECK", config).code == 0
    other = SUBNETS["dual"].replace("10.1.17.1", "10.1.18.1")
    host.subnet_file.write_text(other + REST)
    error = host.call("CHECK", config).error
    assert error["code"] == 100
    assert "10.1.17.0/24" in error["msg"]


def test_status_is_ready_with_daemon_and_delegate(host: Host, bridge: Delegate) -> None:
    config = host.config(cniVersion="1.1.0")
    assert host.call("STATUS", config) == (0, b"")
    assert bridge.calls[0].config["ipam"]["ranges"] == [V4]
    bridge.fails("STATUS", code=51)
    assert host.call("STATUS", config).error["code"] == 51
    bridge.fails("STATUS", code=1, message="incompatible")
    error = host.call("STATUS", config).error
    assert (error["code"], error["msg"]) == (
        50,
        "failed to delegate status: incompatible",
    )
    assert host.call("STATUS", config, CNI_PATH="/no/where").error["code"] == 50
    host.subnet_file.unlink()
    error = host.call("STATUS", config).error
    assert error["code"] == 50
    assert error["msg"].startswith("failed to load flannel 'subnet.env' file: ")


@pytest.mark.parametrize("asked", [*VERSIONS, "9.9", None])
def test_version(host: Host, asked: str | None) -> None:
    text = json.dumps({"cniVersion": asked}).encode()
    code, said = host.call("VERSION", text)
    assert code == 0
    assert json.loads(said) == {
        "cniVersion": asked if asked in VERSIONS else "1.1.0",
        "supportedVersions": list(VERSIONS),
    }


def attachments(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"containerID": container, "ifname": ifname} for container, ifname in pairs]


@pytest.mark.parametrize("name", ATTACHMENTS)
def test_gc_removes_what_is_not_in_the_list(
    host: Host, bridge: Delegate, name: str
) -> None:
    config = host.config(cniVersion="1.1.0")
    for container in ("alive", "dead"):
        for ifname in ("eth0", "net1"):
            variables = {"CNI_CONTAINERID": container, "CNI_IFNAME": ifname}
            assert host.call("ADD", config, **variables).code == 0
    other = {"CNI_CONTAINERID": "elsewhere"}
    assert host.call("ADD", config | {"name": "other"}, **other).code == 0
    valid = attachments(("alive", "eth0"), ("unknown", "eth0"))
    assert host.call("GC", config | {name: valid}) == (0, b"")
    assert host.saved() == ["alive", "alive:eth0", "elsewhere", "elsewhere:eth0"]
    *deleted, forwarded = bridge.calls[5:]
    assert [call.environ for call in deleted] == [
        {
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(host.plugins),
        }
        for container, ifname in [("alive", "net1"), ("dead", "eth0"), ("dead", "net1")]
    ]
    assert forwarded.environ["CNI_COMMAND"] == "GC"
    assert forwarded.config["type"] == "bridge"
    assert [forwarded.config[it] for it in ATTACHMENTS] == [valid, valid]


def test_gc_without_a_list_removes_nothing(host: Host, bridge: Delegate) -> None:
    config = host.config(cniVersion="1.1.0")
    assert host.call("ADD", config).code == 0
    assert host.call("GC", config).error["code"] == 7
    assert host.call("GC", config | {ATTACHMENTS[0]: None}).error["code"] == 7
    for item in (
        {},
        {"containerID": "a"},
        {"containerID": 1, "ifname": "b"},
        "x",
        None,
    ):
        bad = config | {ATTACHMENTS[0]: [item]}
        assert host.call("GC", bad).error["code"] == 7
    assert host.saved() == SAVED
    assert bridge.commands == ["ADD"]
    assert host.call("GC", config | {ATTACHMENTS[0]: []}).code == 0
    assert host.saved() == []


def test_gc_does_what_it_can(host: Host, bridge: Delegate) -> None:
    """CNI 1.1: as much as possible, and then the errors."""
    config = host.config(cniVersion="1.1.0", **{ATTACHMENTS[0]: []})
    dead = Delegate(host, "dead")
    own = host.config(delegate={"type": "dead"}, cniVersion="1.1.0")
    assert host.call("ADD", own, CNI_CONTAINERID="a").code == 0
    assert host.call("ADD", config, CNI_CONTAINERID="b").code == 0
    dead.fails("DEL", code=8, message="stuck")
    host.subnet_file.unlink()
    error = host.call("GC", config).error
    assert error["code"] == 8
    assert "failed to delegate del: stuck; failed to load flannel" in error["msg"]
    assert host.saved() == ["a", "a:eth0"]


def test_gc_of_what_flannels_plugin_saved(host: Host, bridge: Delegate) -> None:
    saved_by_flannels(host)
    config = host.config(cniVersion="1.1.0")
    valid = {ATTACHMENTS[0]: attachments((LEGACY, "net7"))}
    assert host.call("GC", config | valid).code == 0
    assert host.saved() == [LEGACY]
    assert host.call("GC", config | {ATTACHMENTS[0]: []}).code == 0
    assert host.saved() == []
    assert bridge.calls[1].environ["CNI_IFNAME"] == "eth0"


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


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"\0",
        b"{}x",
        b"[" * 100_000,
        b'{"a":' * 9999,
    ],
    ids=lambda text: repr(text[:5]),
)
def test_what_is_no_configuration(host: Host, text: bytes) -> None:
    """N8."""
    for command in ("ADD", "DEL", "CHECK", "STATUS", "GC"):
        error = host.call(command, text).error
        assert error["code"] == 6
        assert error["msg"] == "failed to load flannel netconf file"


def test_a_number_that_is_no_double(host: Host, bridge: Delegate) -> None:
    """JSON can write it, Go could not read it, and we cannot pass it on."""
    text = json.dumps(host.config(delegate={"x": 0})).replace('"x": 0', '"x": 1e999')
    assert host.call("ADD", text.encode()).error["code"] == 7


def test_input_has_an_end(host: Host) -> None:
    assert host.call("ADD", b" " * ((16 << 20) + 1)).error["code"] == 6


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


def test_a_full_disk(host: Host, bridge: Delegate, monkeypatch: Any) -> None:
    """Nothing half-written stays."""

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = host.call("ADD", host.config()).error
    assert error["code"] == 5
    assert "No space left" in error["msg"]
    assert host.saved() == []
    assert bridge.calls == []


# ---- any bytes -----------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)
NAMES = st.sampled_from(
    "name cniVersion delegate ipam runtimeConfig prevResult type ranges routes"
    f" Name DELEGATE {ATTACHMENTS[0]}".split()
)
COMMANDS = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(), command=st.sampled_from([*COMMANDS, "NONE"]))
def test_any_bytes_are_answered(host: Host, text: bytes, command: str) -> None:
    answer = host.call(command, text)
    assert answer.error if answer.code else json.loads(answer.text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    members=st.dictionaries(
        NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=3), max_size=4
    ),
    command=st.sampled_from(COMMANDS),
)
def test_any_shape_is_answered(
    host: Host, members: dict[str, Any], command: str
) -> None:
    """No plugin is there: what is sound so far fails then."""
    config = {**host.config(cniVersion="1.1.0"), **members}
    text = re.sub("NaN|-?Infinity", "1e999", json.dumps(config)).encode()
    answer = host.call(command, text)
    if command == "VERSION":
        assert answer.code == 0
    elif answer.code:
        assert answer.error
    else:
        assert command in ("DEL", "GC")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.binary() | st.text("FLANEL_SUBTMPQIWORKV6=/.,:0123456789\n").map(str.encode)
)
def test_any_subnet_file_is_answered(host: Host, text: bytes) -> None:
    host.subnet_file.write_bytes(text)
    assert host.call("ADD", host.config()).error["code"] == 11


# ---- the process ---------------------------------------------------------------------


def execute(host: Host, command: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "flannelette.control.cni"],
        env=host.environ(command),
        stderr=subprocess.PIPE,
        timeout=60,
        **how,
    )


def test_a_process(host: Host, bridge: Delegate) -> None:
    """Configuration on stdin, result on stdout, stderr silent."""
    text = json.dumps(host.config()).encode()
    done = execute(host, "ADD", input=text, stdout=subprocess.PIPE)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, RESULT, b"")
    done = execute(host, "ADD", input=b"junk", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["code"] == 6


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_process_without_a_standard_stream(
    host: Host, bridge: Delegate, missing: int
) -> None:
    script = f'exec "$0" "$@" {missing}<&-'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, "-m", "flannelette.control.cni"],
        env=host.environ("ADD"),
        input=json.dumps(host.config(dataDir="/dev/null")).encode(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    if missing != 1:
        assert json.loads(done.stdout)["code"] == 5
    else:
        assert b"Bad file descriptor" in done.stderr


def test_nobody_takes_the_answer(host: Host, bridge: Delegate) -> None:
    text = json.dumps(host.config()).encode()
    with open("/dev/full", "wb") as full:
        done = execute(host, "ADD", input=text, stdout=full)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


HEAVY = {"asyncio", "msgspec", "pyroute2", "grpc", "argparse", "logging", "dataclasses"}


def test_it_starts_light() -> None:
    """Of ours only what is named, and nothing of others: runtimes wait for it."""
    code = "import sys, flannelette.control.cni; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert "flannelette.control.cni" in modules
    assert not HEAVY & modules
    ours = {name for name in modules if name.startswith("flannelette.control.")}
    assert all(
        name.split(".")[2].startswith(("cni", "gojson", "errors")) for name in ours
    )
