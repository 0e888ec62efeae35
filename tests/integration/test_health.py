"""Real daemons, asked over HTTP: what they say of themselves while things break."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flannelette.benchmarks.cluster import FLANNELETTE
from flannelette.benchmarks.rig import Rig
from flannelette.dataplane.forwarder import Drop
from tests.helpers.health import FLAG, PORT, asked
from tests.helpers.lab import lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces

Samples = dict[str, dict[tuple[str, ...], float]]


def scraped(rig: Rig, number: int) -> Samples:
    """By name, and by the values of labels in order of their names."""
    found: Samples = {}
    for family in text_string_to_metric_families(asked(rig, number, "/metrics").text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_a_node_at_work(tmp_path: Path) -> None:
    with lab(tmp_path, flags=[FLAG]) as it:
        it.up()
        before = scraped(it.rig, 1)
        it.reach(1, 2, count=20)
        assert asked(it.rig, 1, "/healthz")[:2] == (200, "flanneld is running")
        assert asked(it.rig, 1, "/readyz")[:2] == (200, "flanneld is ready")

        def forwarded(direction: str) -> float:
            return _grown(before, scraped(it.rig, 1), "packets", (direction,))

        for direction in ("tx", "rx"):
            # A pump counts what it has done already.
            until(lambda d=direction: forwarded(d) >= 20)  # type: ignore[misc]
        until(lambda: scraped(it.rig, 1)["flannelette_loop_lag_seconds_count"][()] > 0)
        now = scraped(it.rig, 1)
        for direction in ("tx", "rx"):
            assert _grown(before, now, "bytes", (direction,)) >= 20 * 84
            peer = (direction, "192.0.2.2")
            assert _grown(before, now, "peer_packets", peer) >= 20
        assert now["flannelette_drops_total"].keys() == {
            (direction, drop.label) for direction in ("tx", "rx") for drop in Drop
        }
        assert now["flannelette_peer_idle_seconds"].keys() == {("192.0.2.2",)}
        assert 86000 < now["flannelette_lease_expires_in_seconds"][()] <= 86400
        assert now["flannelette_offload"][("gso",)] == 1


def _grown(before: Samples, now: Samples, name: str, labels: tuple[str, ...]) -> float:
    series = f"flannelette_{name}_total"
    return now[series][labels] - before[series][labels]


STATIC = """\
[network]
Network = "10.5.0.0/16"
EnableNFTables = true
Backend = { Type = "BACKEND" }
[[node]]
public-ip = "192.0.2.1"
subnet = "10.5.1.0/24"
[[node]]
public-ip = "192.0.2.2"
subnet = "10.5.2.0/24"
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(2) as it:
        yield it


@contextmanager
def alone(rig: Rig, directory: Path, backend: str, *flags: str) -> Iterator[int]:
    """A daemon on a static file, in a mount namespace of its own; its pid."""
    file = directory / "peers.toml"
    file.write_text(STATIC.replace("BACKEND", backend))
    command = [
        *("unshare", "--mount", "--propagation=private"),
        *(*FLANNELETTE, "run", "--iface=eth0", FLAG, f"--store=static:{file}"),
        *(f"--subnet-file={directory / 'subnet.env'}", *flags),
    ]
    with (directory / "log").open("wb") as log:
        daemon = rig.popen(rig.host(1), command, stderr=log)
    try:
        until((directory / "subnet.env").exists)
        until(lambda: asked(rig, 1, "/readyz").status == 200)
        yield daemon.pid
    except BaseException:
        print((directory / "log").read_text())
        raise
    finally:
        rig.stop(daemon)


@contextmanager
def hidden(pid: int, path: str, by: str) -> Iterator[None]:
    """For that process there is something else at the path."""
    inside = ["nsenter", f"--target={pid}", "--mount", "--"]
    subprocess.run([*inside, "mount", "--bind", by, path], check=True)
    try:
        yield
    finally:
        # Lazily: the daemon may have it open, or run it, at this moment.
        subprocess.run([*inside, "umount", "--lazy", path], check=True)


def test_red_with_a_reason_while_it_lasts_and_then_green(
    rig: Rig, tmp_path: Path
) -> None:
    nft = shutil.which("nft")
    assert nft is not None
    flags = ["--ip-masq", "--iptables-resync=1"]
    with alone(rig, tmp_path, "udp", *flags) as pid:

        def red() -> list[str]:
            status, text, _ = asked(rig, 1, "/readyz")
            assert asked(rig, 1, "/healthz").status == 200
            if status == 200:
                assert text == "flanneld is ready"
                return []
            assert status == 503
            first, *reasons = text.splitlines()
            assert first == "flanneld is not ready yet"
            return reasons

        def causes() -> set[str]:
            now = scraped(rig, 1)
            told = now["flannelette_not_ready"]
            found = {cause for (cause,), value in told.items() if value}
            assert now["flannelette_ready"] == {(): float(not found)}
            return found

        with hidden(pid, "/dev/net/tun", "/dev/null"):
            rig.ip(rig.host(1), "link delete flannel0")
            # Before that, its pumps end.
            until(lambda: [it.split(":")[0] for it in red()] == ["the TUN is lost"])
            assert causes() == {"carrier"}
        until(lambda: not red())
        with hidden(pid, os.path.realpath(nft), "/bin/false"):
            until(red)
            (reason,) = red()
            assert reason.startswith("traffic rules are not kept: ")
            assert causes() == {"rules"}
        until(lambda: not red())

        # What the daemon outlives is told, and is no reason.
        (tmp_path / "peers.toml").write_text("[network\n")
        until(lambda: scraped(rig, 1)["flannelette_store_outage_seconds"][()] > 0)
        assert scraped(rig, 1)["flannelette_store_connected"][()] == 0
        assert red() == []


def test_what_the_kernel_carries_is_ready_and_counted_elsewhere(
    rig: Rig, tmp_path: Path
) -> None:
    with alone(rig, tmp_path, "host-gw"):
        now = scraped(rig, 1)
    assert now["flannelette_ready"][()] == 1
    assert "flannelette_packets_total" not in now
    assert [labels[1] for labels in now["flannelette_node_info"]] == ["kernel"]


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_a_port_that_is_taken_ends_it_before_anything_changes(
    rig: Rig, tmp_path: Path, address: str
) -> None:
    file = tmp_path / "peers.toml"
    file.write_text(STATIC.replace("BACKEND", "udp"))
    command = [
        *(*FLANNELETTE, "run", "--iface=eth0", FLAG, f"--healthz-ip={address}"),
        *(f"--store=static:{file}", f"--subnet-file={tmp_path / 'subnet.env'}"),
    ]
    with rig.inside(rig.host(1)):
        other = socket.create_server(("127.0.0.1", PORT))
    with other:
        done = rig.run(rig.host(1), command, check=False)
    links = rig.run(rig.host(1), ["ip", "-brief", "link"]).stdout
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"Address already in use; listening for health checks at {address} port {PORT}"
    )
    assert "Traceback" not in done.stderr
    assert "flannel" not in links
    assert not (tmp_path / "subnet.env").exists()


def test_a_name_that_cannot_be_looked_up_ends_it_before_anything_changes(
    rig: Rig, tmp_path: Path
) -> None:
    """No name server is reached from the namespace."""
    file = tmp_path / "peers.toml"
    file.write_text(STATIC.replace("BACKEND", "udp"))
    command = [
        *(*FLANNELETTE, "run", "--iface=eth0", FLAG, "--healthz-ip=nowhere.invalid"),
        *(f"--store=static:{file}", f"--subnet-file={tmp_path / 'subnet.env'}"),
    ]
    done = rig.run(rig.host(1), command, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.endswith("; looking up --healthz-ip nowhere.invalid")
    assert "Traceback" not in done.stderr
    assert "flannel" not in rig.run(rig.host(1), ["ip", "-brief", "link"]).stdout
    assert not (tmp_path / "subnet.env").exists()
    assert not (tmp_path / "flannelette.sock").exists()
