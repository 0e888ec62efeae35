"""`flannelette demo`: real daemons, real packets, and nothing left of it."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from flannelette.benchmarks import demo
from flannelette.benchmarks.netns import tool
from flannelette.benchmarks.rig import Pod
from flannelette.benchmarks.traffic import ping
from flannelette.control.operator import client
from tests.helpers.ns import NOBODY, as_nobody, marked, needs_namespaces
from tests.helpers.running import DEADLINE, Start

pytestmark = needs_namespaces

COMMAND = [sys.executable, "-m", "flannelette.control", "demo"]
TOO_LATE = (0, 130, -signal.SIGINT)
"""Exit codes when a Ctrl-C may have come after the end of the cleanup."""
STEPS = [
    "building 2 hosts",
    "putting the network",
    "starting a daemon",
    "waiting until",
    "putting up a pod",
    "pings, then",
    "taking it all down",
]


def assert_good(out: str, hosts: int) -> None:
    """Every host, pair and counter is in the tables; it is fit for a beamer."""
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b" not in out
    subnets = re.findall(
        r"^  h\d+ +192\.0\.2\.\d+ +(10\.5\.\d+\.0/24) ", out, re.MULTILINE
    )
    assert len(set(subnets)) == hosts
    pairs = re.findall(
        r"^  p\d+ -> p\d+ +[\d.]+ / [\d.]+ / [\d.]+ +[\d.]+ Gbit/s +same \(.{8}\)$",
        out,
        re.MULTILINE,
    )
    assert len(pairs) == hosts * (hosts - 1) / 2
    counters = re.findall(r"^  h\d+ +([\d,]+) +([\d,]+) +\S", out, re.MULTILINE)
    assert len(counters) == hosts
    for tx, rx in counters:
        assert int(tx.replace(",", "")) > 20
        assert int(rx.replace(",", "")) > 20


@pytest.mark.parametrize(
    ("hosts", "flags"),
    [
        (2, []),
        (2, ["--driver=loop"]),
        (2, ["--datapath=python", "--driver=loop"]),
        (3, ["--hosts=3"]),
        (2, ["--store=etcd"]),
        (3, ["--store", "static", "--hosts", "3"]),
    ],
)
def test_it_shows_that_all_pods_reach_each_other(
    start: Start, hosts: int, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLANNELD_PUBLIC_IP", "203.0.113.1")  # not meant for the demo
    run = start(*flags)
    assert run.end() == 0, run.err
    assert run.err == ""
    assert_good(run.out, hosts)
    assert "failed" not in run.out
    for step in STEPS[1:]:
        assert step in run.out


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--hosts=1"], "invalid value '1' for --hosts: 2 to 16 hosts are possible"),
        (["--hosts=x"], "invalid value 'x' for --hosts: a whole number is wanted"),
        (["--store=s3"], "'s3' for --store: local, etcd or static is wanted"),
        (["--datapath=go"], "'go' for --datapath: native or python is wanted"),
        (["--driver=me"], "'me' for --driver: thread, threads or loop is wanted"),
        (["--colour"], "unknown flag: --colour"),
        (["more"], "unexpected argument: more"),
    ],
)
def test_wrong_flags(
    flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flannelette demo: ")
    assert err.endswith(complaint + "\n")
    assert err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--help"]) == 0
    out, _ = capsys.readouterr()
    for flag in demo.FLAGS:
        assert f"--{flag.name}" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_keep_stays_up_until_ctrl_c(start: Start) -> None:
    run = start("--keep")
    run.said("Ctrl-C")
    run.said("flannelette status")
    found = re.search(r"ip netns exec (\S+-p1) ping (\S+)", run.out)
    assert found
    source = Pod(found[1], IPv4Address("0.0.0.0"))
    ping(source, IPv4Address(found[2]), 3, time.monotonic() + 10)
    found = re.search(r"--operator-socket=(\S+)", run.out)
    assert found
    assert client.ask(Path(found[1]), "status")["ready"]
    assert "nsenter" not in run.out
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0
    assert "taking it all down" in run.out
    assert run.err == ""


def test_ctrl_c_again_and_again_while_it_is_taken_down(start: Start) -> None:
    run = start("--keep")
    run.said("flannelette status")
    run.process.send_signal(signal.SIGINT)
    run.said("taking it all down")
    while run.process.poll() is None and run.out.endswith("."):
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    assert run.end() in TOO_LATE
    assert run.out.rstrip().endswith(" s")


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_in_every_step(start: Start, step: str) -> None:
    run = start()
    run.said(step)
    run.process.send_signal(signal.SIGINT)
    code = run.end()
    if step == STEPS[-1]:
        assert code in TOO_LATE
    else:
        assert code == 130
        assert run.out.rstrip().endswith("interrupted; all is removed")
        assert run.err == ""


@pytest.mark.parametrize("seed", range(5))
def test_signals_at_random_moments_leave_nothing(start: Start, seed: int) -> None:
    rng = random.Random(seed)
    flags = rng.choice([(), ("--store=etcd",), ("--hosts=3", "--driver=loop")])
    run = start(*flags)
    time.sleep(rng.uniform(0, 2.5))  # not a wait: the moment is the test
    for _ in range(rng.randint(1, 3)):
        run.process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        time.sleep(rng.uniform(0, 0.05))
    run.end()


def test_a_signal_before_there_is_a_rig(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def signalled(hosts: int) -> None:
        assert os.listdir(tmp_path)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "Rig", signalled)
    with pytest.raises(SystemExit) as caught:
        demo.main([])
    assert caught.value.code == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []


def test_sigterm_and_a_closed_terminal(start: Start) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        run = start()
        run.said("waiting until")
        run.process.send_signal(number)
        assert run.end() == 128 + number
        assert run.err == ""


def test_on_a_terminal_it_has_colour_and_ctrl_c_works(start: Start) -> None:
    """Ctrl-C goes to all programs of the terminal; the daemons must not hear it."""
    master, slave = os.openpty()
    name = shlex.quote(os.ttyname(slave))
    demo_line = shlex.join([*COMMAND, "--keep"])
    # A session leader that opens a terminal gets it as its own.
    line = f"exec {demo_line} <{name} >{name} 2>&1"
    run = start(command=["setsid", "sh", "-c", line])
    seen = b""
    try:
        while b"flannelette status" not in seen:
            seen += os.read(master, 4096)
        os.close(slave)
        os.write(master, b"\x03")
        with suppress(OSError):  # EIO: the terminal's last user is gone
            while some := os.read(master, 4096):
                seen += some
    finally:
        os.close(master)
    assert run.end() == 0
    assert b"\x1b[1mflannelette demo" in seen
    assert b"^C" in seen
    assert b"failed" not in seen


def test_when_nobody_reads_it_ends_quietly(start: Start) -> None:
    line = f"{shlex.join(COMMAND)} | head -1; exit ${{PIPESTATUS[0]}}"
    run = start(command=["bash", "-c", line])
    assert run.end() == 128 + signal.SIGPIPE
    assert run.err == ""
    assert run.out.count("\n") == 1


def test_a_daemon_that_dies_is_said(start: Start) -> None:
    run = start("--keep")
    run.said("flannelette status")
    [pid] = [pid for pid, line in marked(run.mark).items() if "/h2/" in line]
    os.kill(pid, signal.SIGKILL)
    assert run.end() == 1
    head, *lines = run.err.splitlines()
    assert head.startswith(
        "flannelette demo: the daemon of host 2 ended (signal 9); the last it said:"
    )
    assert any("ready: subnet=" in line for line in lines)


def test_etcd_that_is_missing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ip").symlink_to(tool("ip"))
    command = ["env", f"PATH={tmp_path}", *COMMAND, "--store=etcd"]
    run = start(command=command)
    assert run.end() == 1
    assert run.err == "flannelette demo: the program etcd is needed and not installed\n"


def test_without_root(start: Start) -> None:
    run = start(command=as_nobody([*COMMAND, "--hosts=3"], tun_mode="666"))
    assert run.end() == 0, run.err
    assert_good(run.out, 3)


def test_without_root_keep_says_how_to_get_in(start: Start) -> None:
    run = start(command=as_nobody([*COMMAND, "--keep"], tun_mode="666"))
    run.said("flannelette status")
    found = re.search(r"nsenter .*", run.out)
    assert found
    inner = "ip netns list; ip netns exec $(ip netns list | grep -o .*p1) ip -o address"
    entered = subprocess.run(
        [*NOBODY, *found[0].split(), "sh", "-c", inner],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert " 10.5." in entered.stdout, entered.stderr
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0


def test_without_root_and_without_a_tun(start: Start) -> None:
    run = start(command=as_nobody(COMMAND, tun_mode="600"))
    assert run.end() == 1
    assert run.out == ""
    assert (
        run.err == "flannelette demo: no right to open /dev/net/tun: run it as root\n"
    )


def test_without_root_and_without_user_namespaces(start: Start) -> None:
    """A user namespace that allows no further ones stands for such a kernel."""
    drop = "setpriv --bounding-set=-all --inh-caps=-all"
    line = (
        f"echo 0 >/proc/sys/user/max_user_namespaces; exec {drop} {shlex.join(COMMAND)}"
    )
    run = start(command=["unshare", "--user", "--map-root-user", "sh", "-c", line])
    assert run.end() == 1
    assert run.out == ""
    assert re.fullmatch(
        r"flannelette demo: neither root's rights nor a user namespace.*\n", run.err
    )
