"""The rig: hosts that reach each other, and nothing left of them afterwards."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flannelette.benchmarks import interrupts, netns
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.rig import Pod, Rig, Wire
from tests.helpers.ns import MARK, marked, namespaces, needs_namespaces, until

pytestmark = needs_namespaces

MINE = f"fl{os.getpid()}-"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in interrupts.SIGNALS]
    here = os.stat("/proc/thread-self/ns/net").st_ino
    yield
    assert namespaces(MINE) == []
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == handlers
    assert os.stat("/proc/thread-self/ns/net").st_ino == here


def pods_by_kernel_routes(rig: Rig) -> list[Pod]:
    """Pods in 10.5.N.0/24, routed by the hosts' kernels in place of an overlay."""
    for here in rig.numbers:
        rig.ip(
            rig.host(here),
            *(
                f"route add 10.5.{there}.0/24 via {rig.address(there)}"
                for there in rig.numbers
                if there != here
            ),
        )
    return [rig.pod(number, f"10.5.{number}.0/24", 1472) for number in rig.numbers]


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


def test_all_is_removed_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = uuid.uuid4().hex
    marks = {**os.environ, MARK: mark}

    def fail() -> None:
        with Rig() as rig:
            rig.popen(rig.host(1), ["sleep", "60"], env=marks)
            stubborn = "trap '' TERM; echo; while :; do sleep 1; done"
            deaf = rig.popen(
                rig.pod_ns(1), ["sh", "-c", stubborn], env=marks, stdout=-1
            )
            assert deaf.stdout is not None
            deaf.stdout.readline()
            # Its parent is gone before the rig looks: only the namespace tells.
            orphan = ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 &"]
            rig.run(rig.host(2), orphan, env=marks)
            assert len(marked(mark)) >= 3
            raise LookupError

    monkeypatch.setattr("flannelette.benchmarks.rig.GRACE", 0.2)
    with pytest.raises(LookupError):
        fail()
    until(lambda: not marked(mark))


def test_programs_do_not_hear_the_terminal_s_ctrl_c() -> None:
    with Rig() as rig:
        assert os.getpgid(rig.popen(rig.host(1), ["sleep", "60"]).pid) != os.getpgrp()


def test_stop_ends_what_the_program_started() -> None:
    mark = uuid.uuid4().hex
    with Rig() as rig:
        command = ["sh", "-c", "sleep 60 & echo; wait"]
        shell = rig.popen(
            rig.host(1), command, stdout=-1, env={**os.environ, MARK: mark}
        )
        assert shell.stdout is not None
        shell.stdout.readline()
        assert len(marked(mark)) == 2
        rig.stop(shell)
        assert shell.returncode == -signal.SIGTERM
        until(lambda: not marked(mark))


class Step:
    """Sends this process a signal at the n-th change that the rig makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, at: int) -> None:
        self.calls = 0
        self._number, self._at, self._ip = number, at, netns.ip
        monkeypatch.setattr(netns, "ip", self)

    def __call__(self, lines: Any, ns: str | None = None) -> None:
        self.calls += 1
        if self.calls == self._at:
            os.kill(os.getpid(), self._number)
        self._ip(lines, ns)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_step(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the build, in the use and in the cleanup alike: sweep all steps."""
    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit

    def calls(at: int) -> int:
        with monkeypatch.context() as patch:
            step = Step(patch, number, at)
            with Rig() as rig:
                pods_by_kernel_routes(rig)
            return step.calls

    steps = calls(at=0)
    assert steps > 12
    for at in range(1, steps + 1):
        with pytest.raises(expected) as caught:
            calls(at)
        if isinstance(caught.value, SystemExit):
            assert caught.value.code == 128 + number
        assert namespaces(MINE) == []


@pytest.mark.parametrize("unwinding", [60.0, 0.0])
def test_a_second_signal_does_not_stop_the_cleanup(
    monkeypatch: pytest.MonkeyPatch, unwinding: float
) -> None:
    """However late in the cleanup it comes."""
    end = netns.end
    monkeypatch.setattr(interrupts, "UNWINDING", unwinding)

    def interrupted_end(processes: Any, grace: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        end(processes, grace)

    monkeypatch.setattr(netns, "end", interrupted_end)

    def interrupt() -> None:
        with Rig() as rig:
            rig.popen(rig.host(1), ["sleep", "60"])
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the signal was lost")

    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_interrupt_that_got_lost_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    with Rig():
        interrupt()
        os.kill(os.getpid(), signal.SIGINT)  # too soon: it is being obeyed
        monkeypatch.setattr(interrupts, "UNWINDING", 0)
        interrupt()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Rig():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


SCRIPT = """
import subprocess, sys
from flannelette.benchmarks.rig import Rig
with Rig(int(sys.argv[1])) as rig:
    for number in rig.numbers:
        rig.popen(rig.host(number), ["sleep", "60"])
    print("up", flush=True)
    rig.popen(rig.host(1), ["sleep", "60"]).wait()
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_program_hit_by_signals_at_random_leaves_nothing(seed: int) -> None:
    """One signal at any moment from the first import on, and soon another."""
    rng = random.Random(seed)
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "8"],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        until(lambda: namespaces(f"fl{process.pid}-") or process.poll() is not None)
        for _ in range(2):
            time.sleep(rng.uniform(0, 0.05))  # not a wait: the moment is the test
            if process.poll() is None:
                process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        assert process.wait(20) in (-signal.SIGINT, 128 + signal.SIGTERM)
    assert namespaces(f"fl{process.pid}-") == []
    until(lambda: not marked(mark))


def test_a_program_that_exits_without_closing_leaves_nothing() -> None:
    code = (
        "from flannelette.benchmarks.rig import Rig; rig = Rig().__enter__();"
        "rig.popen(rig.host(1), ['sleep', '60']); print(rig.host(1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("-1-h1\n")
    assert namespaces(done.stdout.removesuffix("-1-h1\n")) == []


def test_what_cannot_be_removed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ip = netns.ip

    def refuse_one(lines: Any, ns: str | None = None) -> None:
        lines = list(lines)
        if lines[0].endswith("-h2") and "delete" in lines[0]:
            raise RigError("no")
        ip(lines, ns)

    with monkeypatch.context() as patch:
        patch.setattr(netns, "ip", refuse_one)
        with pytest.raises(RigError, match=r"^no$"), Rig():
            pass
    left = namespaces(MINE)
    assert len(left) == 1
    assert left[0].endswith("-h2")
    netns.delete(left)


def test_tool_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert netns.tool("ip")  # found in sbin all the same
    with pytest.raises(RigError, match="no-such-tool is needed"):
        netns.tool("no-such-tool")
