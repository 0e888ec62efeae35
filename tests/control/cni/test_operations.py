"""CHECK, STATUS and GC of the CNI plugin: flannel-behaviour.md N10; CNI 1.1, section 2.

The delegate here only records; tests/integration/test_cni.py has real ones.
"""

from __future__ import annotations

import pytest

from flannelette.control.cni.netconf import ATTACHMENTS
from tests.helpers.cni import (
    CONTAINER,
    N4,
    N6,
    REST,
    RESULT,
    SAVED,
    SUBNETS,
    V4,
    Delegate,
    Host,
    saved_by_flannels,
)


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
    valid = {ATTACHMENTS[0]: attachments((CONTAINER, "net7"))}
    assert host.call("GC", config | valid).code == 0
    assert host.saved() == [CONTAINER]
    assert host.call("GC", config | {ATTACHMENTS[0]: []}).code == 0
    assert host.saved() == []
    assert bridge.calls[1].environ["CNI_IFNAME"] == "eth0"
