"""What the daemon says when it cannot start, or must wait: one line, and why."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flannelette.benchmarks.cluster import FLANNELETTE, write_network
from flannelette.benchmarks.rig import Rig
from tests.helpers.gateway import PREFIX, Gateway
from tests.helpers.lab import DEADLINE, lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(2) as it:
        yield it


@pytest.fixture
def store(tmp_path: Path) -> str:
    write_network(tmp_path / "store.sqlite", {"Network": "10.5.0.0/16"})
    return f"--store=local:{tmp_path / 'store.sqlite'}"


def refused(
    rig: Rig, tmp_path: Path, *flags: str, prefix: list[str] | None = None
) -> str:
    """Run a daemon that must end by itself with 1; its last line, the complaint."""
    command = [
        *(prefix or []),
        *FLANNELETTE,
        "run",
        f"--subnet-file={tmp_path / 'subnet.env'}",
        *flags,
    ]
    done = rig.run(rig.host(1), command, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    *logged, last = done.stderr.splitlines()
    assert all(line.split()[0] in ("INFO", "WARNING") for line in logged)
    assert not (tmp_path / "subnet.env").exists()
    assert not (tmp_path / "flannelette.sock").exists()
    return last


def test_interface_missing(rig: Rig, tmp_path: Path, store: str) -> None:
    assert "nope0" in refused(rig, tmp_path, store, "--iface=nope0")


def test_interface_without_address(rig: Rig, tmp_path: Path, store: str) -> None:
    host = rig.host(1)
    rig.ip(host, "link add bare0 type veth peer name bare1")
    try:
        last = refused(rig, tmp_path, store, "--iface=bare0")
    finally:
        rig.ip(host, "link delete bare0")
    assert "bare0" in last
    assert "address" in last


def test_port_taken(rig: Rig, tmp_path: Path, store: str) -> None:
    with rig.inside(rig.host(1)):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with other:
        other.bind(("192.0.2.1", 8285))
        last = refused(rig, tmp_path, store, "--iface=eth0")
    assert "Address already in use" in last
    assert "192.0.2.1:8285" in last


def test_no_tun_driver(rig: Rig, tmp_path: Path, store: str) -> None:
    hidden = ["unshare", "--mount", "sh", "-c"]
    hide = 'mount -t tmpfs none /dev/net && exec "$@"'
    last = refused(rig, tmp_path, store, "--iface=eth0", prefix=[*hidden, hide, "sh"])
    assert "/dev/net/tun" in last
    assert "modprobe tun" in last


def test_tun_not_permitted(rig: Rig, tmp_path: Path, store: str) -> None:
    prefix = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    last = refused(rig, tmp_path, store, "--iface=eth0", prefix=prefix)
    assert "CAP_NET_ADMIN" in last


def test_subnets_exhausted(rig: Rig, tmp_path: Path) -> None:
    store = f"--store=local:{tmp_path / 'store.sqlite'}"
    config = {"Network": "10.5.0.0/24", "SubnetLen": 26, "SubnetMin": "10.5.0.64"}
    config |= {"SubnetMax": "10.5.0.64"}
    write_network(tmp_path / "store.sqlite", config)
    one = ["--public-ip=192.0.2.101", "--iface=eth0"]
    command = [
        *FLANNELETTE,
        "run",
        store,
        f"--subnet-file={tmp_path / 'one/env'}",
        *one,
    ]
    first = rig.popen(rig.host(2), command, stderr=subprocess.DEVNULL)
    until((tmp_path / "one/env").exists)
    assert "out of subnets" in refused(rig, tmp_path, store, "--iface=eth0")
    rig.stop(first)


def test_unsupported_backend(rig: Rig, tmp_path: Path) -> None:
    """In the store by other means than net-config, which would not write it."""
    path = tmp_path / "store.sqlite"
    store, config = f"--store=local:{path}", {"Network": "10.5.0.0/16"}
    write_network(path, config)
    unknown = json.dumps(config | {"Backend": {"Type": "wireguard"}})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE config SET text = ?", (unknown,))
    assert "wireguard" in refused(rig, tmp_path, store, "--iface=eth0")


WRONG_CONFIGS = [
    ("{", "not JSON"),
    ("[]", "not a JSON object"),
    ("{}", "Network is missing"),
    ('{"Network": "fd00::/48"}', "Network"),
    ('{"Network": "10.5.0.0/16", "SubnetLen": 31}', "SubnetLen"),
    (
        '{"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0"}',
        "SubnetMin",
    ),
]


def test_waits_for_etcd_then_for_a_sound_config(tmp_path: Path) -> None:
    """etcd down, no config, wrong configs: each is said once, and waited out (E12)."""
    with lab(tmp_path, store="etcd") as it:
        it.cluster._flags += ["--store=etcd", "--etcd-endpoints=http://192.0.2.1:2379"]
        daemon = it.cluster.start_daemon(1)
        until(lambda: "waiting for the network config" in it.log(1))
        status = daemon.status()
        assert status is not None
        assert not status["ready"]
        assert not status["store"]["connected"]
        assert status["last_error"]

        it.cluster.start_store(time.monotonic() + DEADLINE)
        etcd = Gateway(it.rig)
        until(lambda: it.is_ready(1))
        daemon.process.terminate()
        assert daemon.process.wait(DEADLINE) == 0

        etcd.delete(f"{PREFIX}/config")
        it.cluster.start_daemon(1)
        until(lambda: f"{PREFIX}/config" in it.log(1))
        for text, reason in WRONG_CONFIGS:
            etcd.put(f"{PREFIX}/config", text.encode())
            until(lambda why=reason: why in it.log(1))  # type: ignore[misc]
            assert not it.is_ready(1)
        etcd.put(f"{PREFIX}/config", b'{"Network": "10.5.0.0/16"}')
        until(lambda: it.is_ready(1))
        lines = [line for line in it.log(1).splitlines() if "waiting for" in line]
        assert len(lines) == len(set(lines)) <= len(WRONG_CONFIGS) + 6


def told(rig: Rig, tmp_path: Path, number: signal.Signals, *flags: str) -> list[str]:
    """Run a daemon that waits for etcd, and end it with a signal; what it has said, and
    last, its exit code."""
    command = [
        # A shell's background job ignores the signal, and so would what it starts.
        *("prlimit", "--core=0", "env", "--default-signal=QUIT"),
        *FLANNELETTE,
        "run",
        "--etcd-endpoints=http://127.0.0.1:1",
        f"--subnet-file={tmp_path / 'subnet.env'}",
        *flags,
    ]
    daemon = rig.popen(rig.host(1), command, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "flannelette.sock").exists)
    daemon.send_signal(number)
    code = daemon.wait(DEADLINE)
    assert daemon.stderr is not None
    with daemon.stderr:
        return [*daemon.stderr.read().splitlines(), str(code)]


def test_sigterm_while_waiting_ends_with_0(rig: Rig, tmp_path: Path) -> None:
    """C5, C6."""
    *_, last, code = told(rig, tmp_path, signal.SIGTERM, "--iface=eth0")
    assert (last.split()[-1], code) == ("stopped", "0")
    assert not (tmp_path / "flannelette.sock").exists()


def test_flags_of_a_unit_file_of_flannelds(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1: variables too. What has no effect is warned of; SIGINT is like SIGTERM."""
    monkeypatch.setenv("FLANNELD_IFACE_CAN_REACH", "192.0.2.2")
    monkeypatch.setenv("FLANNELD_KUBECONFIG_FILE", "/etc/kubeconfig")
    monkeypatch.setenv("FLANNELD_NO_SUCH", "1")
    flags = ("-vmodule=network=2", "-iface-regex=^wlan", "--v=1")
    *lines, code = told(rig, tmp_path, signal.SIGINT, *flags)
    assert code == "0"
    said = [" ".join(line.split()[3:]) for line in lines]
    assert said[:2] == [
        "a variable is not known, and ignored: name=FLANNELD_NO_SUCH",
        "flags without effect here: --vmodule --kubeconfig-file",
    ]
    assert (
        'passed over: flag=--iface-regex reason="no interface matches the regular '
        "expression '^wlan'\""
    ) in said
    assert (
        "external interface: name=eth0 address=192.0.2.1 public_ip=192.0.2.1 mtu=1500"
    ) in said
    assert said[-1] == "stopped"


def test_sigquit_shows_the_stacks(rig: Rig, tmp_path: Path) -> None:
    """C6."""
    *lines, code = told(rig, tmp_path, signal.SIGQUIT, "--iface=eth0")
    assert code == str(-signal.SIGQUIT)
    assert any("(most recent call first)" in line for line in lines)
    assert any("in _run_agent" in line for line in lines)
