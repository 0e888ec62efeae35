"""What the CNI plugin remembers, from ADD to DEL: flannel-behaviour.md N6, N9.

The delegate here only records; tests/integration/test_cni.py has real ones.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.helpers.cni import (
    CONTAINER,
    RESULT,
    SAVED,
    Delegate,
    Host,
    saved_by_flannels,
)

# ---- ADD -----------------------------------------------------------------------------


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
    (host.data / CONTAINER).write_text('{"name": "cni-fl')
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
    assert host.saved() == [CONTAINER]
