"""Real daemons, watched: what trace and capture tell of real packets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks.cluster import FLANNELETTE
from flannelette.control.errors import HostError
from flannelette.control.observe.observer import observe
from flannelette.dataplane.forwarder import EventKind, Watch
from tests.helpers.datagrams import UDP_SEGMENT
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.tshark import dissect, needs_tshark

pytestmark = needs_namespaces

OUT = ["read", "routed", "wrapped", "sent"]
IN = ["received", "checked", "unwrapped", "written"]
NOWHERE = "10.5.254.1"
"""In the overlay, and in no node's subnet."""
OVERLAYS: dict[str, dict[str, Any]] = {
    "udp": {"backend": {"Type": "udp"}, "ipv6": True},
    "vxlan": {"backend": {"Type": "vxlan"}, "ipv6": True, "flags": ["--queues=2"]},
}
one_overlay = pytest.mark.parametrize("it", ["vxlan"], indirect=True)
INSIDE = {"udp": "udp.port==8285,ip", "vxlan": "udp.port==8472,vxlan"}


@pytest.fixture(scope="module", params=list(OVERLAYS))
def it(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("l"), **OVERLAYS[request.param]) as it:
        it.up()
        yield it


class Eyes:
    """A running trace or capture, on what one host's daemon does."""

    def __init__(self, it: Lab, number: int, *argv: str) -> None:
        path = it.cluster.daemons[number].socket
        command, *rest = argv
        self.process = subprocess.Popen(
            [*FLANNELETTE, command, f"--operator-socket={path}", *rest],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline().decode()

    def end(self, number: int | None = None) -> tuple[bytes, str]:
        """What it wrote, and said; before its own end if a signal is sent."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return out, self.first + err.decode()


@contextmanager
def eyes(it: Lab, number: int, *argv: str) -> Iterator[Eyes]:
    """It watches when the body begins, unless it was refused; when this has ended, the
    daemon knows, and another may watch."""
    watching = Eyes(it, number, *argv)
    try:
        yield watching
        watching.end(signal.SIGTERM)
    finally:
        watching.process.kill()
        watching.process.communicate()


def documents(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def public(it: Lab, number: int) -> str:
    return str(it.status(number)["node"]["public_ip"])


def stages(document: dict[str, Any]) -> list[str]:
    return [stage["stage"] for stage in document["stages"]]


def ping_nowhere(it: Lab) -> None:
    """One packet from pod 1 that no peer is there for."""
    command = ["ping", "-n", "-c", "1", "-W", "0.1", NOWHERE]
    it.rig.run(it.pods[1].ns, command, check=False)


def test_a_ping_is_traced_through_all_stages_on_both_sides(it: Lab) -> None:
    here, there = it.address(1), it.address(2)
    argv = ["trace", "--json", "--count=2", f"icmp and host {here} and host {there}"]
    with eyes(it, 1, *argv) as one, eyes(it, 2, *argv) as two:
        it.reach(1, 2)
        for watching, other, verdicts, words in (
            (one, 2, ["sent", "written"], ["echo-request", "echo-reply"]),
            (two, 1, ["written", "sent"], ["echo-request", "echo-reply"]),
        ):
            out, err = watching.end()
            *packets, last = documents(out)
            assert watching.process.returncode == 0, err
            assert last == {"packets": 2, "lost": 0}
            assert [packet["verdict"] for packet in packets] == verdicts
            for packet, word in zip(packets, words, strict=True):
                assert stages(packet) == (OUT if packet["direction"] == "tx" else IN)
                assert packet["peer"].startswith(f"{public(it, other)}:")
                assert word in packet["summary"]
                times = [stage["us"] for stage in packet["stages"]]
                assert times == sorted(times)
                assert times[0] == 0
            assert f"{here} > {there} echo-request" in packets[0]["summary"]


def test_an_ipv6_ping_is_traced(it: Lab) -> None:
    with eyes(
        it, 1, "trace", "--json", "--count=2", "icmp6", "and", "ip6[40]>=128"
    ) as a:
        it.reach(1, 2, version=6)
        *packets, _ = documents(a.end()[0])
    assert [stages(packet) for packet in packets] == [OUT, IN]


def test_a_drop_is_traced_with_its_reason(it: Lab) -> None:
    with eyes(it, 1, "trace", "--count=1", f"dst host {NOWHERE}") as watching:
        ping_nowhere(it)
        out, err = watching.end()
    lines = out.decode().splitlines()
    assert lines[0].startswith("#1 tx ")
    assert lines[-2].split()[2] == "read"
    assert lines[-1].split()[2:] == ["DROPPED", "no_route"]
    assert len(lines) <= 4
    assert max(map(len, lines)) <= 80
    assert err.endswith("\n1 packet, 0 events lost\n")


def test_datagrams_are_traced_as_they_were_cut_and_merged(it: Lab) -> None:
    """40 that the pod hands over as one (UDP_SEGMENT)."""
    argv = ["trace", "--json", "--count=0", "udp dst port 4444"]
    with eyes(it, 1, *argv) as one, eyes(it, 2, *argv) as two:
        with it.socket_in(it.pods[1].ns) as sender, it.socket_in(it.pods[2].ns) as got:
            got.bind((it.address(2), 4444))
            sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1300)
            sender.sendto(bytes(40 * 1300), (it.address(2), 4444))
            assert {len(got.recv(2000)) for _ in range(40)} == {1300}
        *sent, lost = documents(one.end(signal.SIGINT)[0])
        *taken, lost2 = documents(two.end(signal.SIGINT)[0])
    assert (lost["lost"], lost2["lost"]) == (0, 0)
    assert {packet["verdict"] for packet in sent} == {"sent"}
    assert {packet["verdict"] for packet in taken} == {"written"}
    wrapped = [packet["stages"][-2]["packets"] for packet in sent]
    assert wrapped == [packet["stages"][-1]["packets"] for packet in sent]
    assert (sum(wrapped), len(taken)) == (40, 40)
    merge = "merge_udp" in it.status(1)["node"]["offloads"]
    assert (max(wrapped) > 1) == merge
    assert any("merged" in stages(packet) for packet in taken) == merge


@needs_tshark
def test_a_capture_shows_both_sides_and_drops(it: Lab, tmp_path: Path) -> None:
    backend = it.status(1)["node"]["backend"]
    files = [tmp_path / "1.pcapng", tmp_path / "2.pcapng"]
    here, there = it.address(1), it.address(2)
    expression = f"icmp and (host {there} or host {NOWHERE})"
    with (
        eyes(it, 1, "capture", "-w", str(files[0]), expression) as one,
        eyes(it, 2, "capture", "-w", str(files[1]), expression) as two,
    ):
        it.reach(1, 2)
        ping_nowhere(it)
        _, err = one.end(signal.SIGINT)
        assert "\n6 packets written, 0 events lost\n" in err
        assert "\n4 packets written, 0 events lost\n" in two.end(signal.SIGTERM)[1]
    fields = ["frame.interface_name", "frame.p2p_dir", "ip.src", "ip.dst"]
    fields += ["icmp.type", "udp.dstport", "frame.comment", "vxlan.vni"]
    hosts = [public(it, number) for number in (1, 2)]
    port = str(it.status(1)["node"]["port"])
    vni = "1" if backend == "vxlan" else ""
    out, back = f"{hosts[0]},{here}", f"{hosts[1]},{there}"
    device = it.status(1)["node"]["device"]
    assert dissect(files[0], *fields, decode=INSIDE[backend]) == [
        [device, "0", here, there, "8", "", "", ""],
        ["underlay", "0", out, back, "8", port, "", vni],
        ["underlay", "1", back, out, "0", port, "", vni],
        [device, "1", there, here, "0", "", "", ""],
        [device, "0", here, NOWHERE, "8", "", "", ""],
        [device, "0", here, NOWHERE, "8", "", "dropped: no_route", ""],
    ]
    seen = dissect(files[1], *fields[:2], decode=INSIDE[backend])
    assert seen == [["underlay", "1"], [device, "1"], [device, "0"], ["underlay", "0"]]
    bad = dissect(files[0], "ip.checksum.status", decode=INSIDE[backend])
    assert not any("Bad" in status for status in bad)


@one_overlay
@needs_tshark
def test_a_capture_is_piped_as_it_goes(it: Lab) -> None:
    """tshark tells of the packets while the capture goes on."""
    with eyes(it, 1, "capture", "-w", "-", "icmp") as watching:
        command = ["tshark", "-l", "-n", "-r", "-", "-T", "fields", "-e", "icmp.seq"]
        with subprocess.Popen(
            command,
            stdin=watching.process.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as reader:
            it.reach(1, 2)
            assert reader.stdout is not None
            assert reader.stdout.readline() == "1\n"
            assert watching.process.poll() is None
            watching.process.send_signal(signal.SIGINT)
            assert len(reader.stdout.readlines()) == 3
    assert watching.process.returncode == 0


@one_overlay
def test_one_may_watch_and_a_second_is_refused_in_one_line(it: Lab) -> None:
    with eyes(it, 1, "trace") as first:
        with eyes(it, 1, "trace") as second:
            out, err = second.end()
            assert (second.process.returncode, out) == (1, b"")
            assert err.startswith("flannelette: the daemon at ")
            assert err.endswith(" answers: somebody watches already\n")
        assert first.process.poll() is None
        with eyes(it, 2, "trace") as other:
            assert other.first.startswith("watching ")


@one_overlay
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_goes_away_ends_the_watching(it: Lab, number: int) -> None:
    with eyes(it, 1, "trace") as first:
        assert first.first.startswith("watching ")
        first.end(number)
    until(lambda: may_watch(it))


def may_watch(it: Lab) -> bool:
    with eyes(it, 1, "trace") as watching:
        return watching.first.startswith("watching ")


@one_overlay
def test_a_slow_client_loses_events_that_are_counted(it: Lab) -> None:
    """And forwarding goes on."""
    before = it.status(1)["counters"]["tx"]["packets"]
    path = it.cluster.daemons[1].socket
    watch = Watch(snap=65535, kinds=1 << EventKind.READ | 1 << EventKind.SENT)
    with observe(path, watch) as observer:
        with it.socket_in(it.pods[1].ns) as sender:
            for _ in range(20_000):
                sender.sendto(bytes(1400), (it.address(2), 9))
        it.reach(1, 2)
        forwarded = it.status(1)["counters"]["tx"]["packets"] - before
        observer.finish()
        told = [len(events) for events in observer.rounds()]
    assert forwarded > 1000
    assert observer.lost > 0
    assert sum(told) > 0
    assert sum(told) + observer.lost >= forwarded


@one_overlay
def test_a_filter_that_is_no_program_is_refused(it: Lab) -> None:
    watch = Watch(filter=((0xFFFF, 0, 0, 0),))
    with (
        pytest.raises(HostError, match="the filter is no program"),
        observe(it.cluster.daemons[1].socket, watch),
    ):
        pass
    assert may_watch(it)


def test_watching_goes_on_with_another_tun(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        it.up()
        with eyes(it, 1, "trace", "--json", "--count=3", "icmp") as watching:
            ping_nowhere(it)
            device = it.status(1)["node"]["device"]
            it.rig.run(it.rig.host(1), ["ip", "link", "delete", device])
            it.until_reaches(1, 2)
            out, _ = watching.end()
            first, *others, last = documents(out)
    assert first["drop"] == "no_route"
    assert [stages(packet) for packet in others] == [OUT, IN]
    assert last["packets"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"datapath": "python", "driver": "loop"},
            "answers: what runs with --datapath=python cannot be watched\n",
        ),
        (
            {"backend": {"Type": "host-gw"}},
            "answers: the kernel carries the packets: there is nothing to watch\n",
        ),
    ],
    ids=["python", "host-gw"],
)
def test_what_cannot_be_watched_is_one_line(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with lab(tmp_path, **options) as it:
        it.start_store()
        it.cluster.start()
        until(lambda: it.is_ready(1))
        for argv in (["trace"], ["capture", "-w", os.devnull]):
            with eyes(it, 1, *argv) as watching:
                out, err = watching.end()
                assert (watching.process.returncode, out) == (1, b"")
                assert err.endswith(said)
                assert err.count("\n") == 1
