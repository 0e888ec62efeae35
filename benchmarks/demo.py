"""`flannelette demo`: a cluster on this machine, for looking at.

It builds a rig, starts a real daemon on every host, waits until they know each other,
lets every pod reach every other, and takes everything down again. Root's rights are
needed, or those a user may give himself (rootless.py), and /dev/net/tun.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from flannelette.benchmarks import interrupts, rootless
from flannelette.benchmarks.cluster import Cluster, StoreKind
from flannelette.benchmarks.netns import RigError
from flannelette.benchmarks.rig import Pod, Rig
from flannelette.benchmarks.screen import Screen
from flannelette.benchmarks.traffic import (
    Delay,
    TrafficError,
    Transfer,
    ping,
    send_file,
)
from flannelette.control import goflags
from flannelette.control.errors import ConfigError, ControlError, one_line
from flannelette.control.goflags import Flag
from flannelette.dataplane.forwarder import DRIVERS

MAX_HOSTS = 16
START_SECONDS = 30.0
"""How long the store, and then the daemons, may take to be ready."""
TRAFFIC_SECONDS = 60.0
"""How long all pods together may take for their traffic."""
ECHOES = 20
FILE_BYTES = {"native": 64 << 20, "python": 4 << 20}
"""What all pods together send; either takes well under a second."""
KEEP_POLL = 0.5
"""Seconds between two looks whether all programs still run."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, checked."""

    hosts: int
    store: StoreKind
    datapath: str
    driver: str
    keep: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """What went from one pod to another."""

    delay: Delay
    transfer: Transfer


def main(argv: list[str]) -> int:
    """Run the demo; the exit code: 0, 1 when it failed, 2 for wrong flags, 130 when
    interrupted. SIGTERM and SIGHUP end in SystemExit, after the cleanup. Raises
    BrokenPipeError when nobody reads."""
    try:
        options = parse(argv)
    except goflags.HelpWanted:
        print(usage())
        return 0
    except ConfigError as error:
        return _fail(error, error.exit_code)
    screen = Screen()
    interrupts.catch()
    try:
        _demo(options, screen, own=rootless.become_privileged())
    except KeyboardInterrupt:
        screen.say("\ninterrupted; all is removed")
        return 130
    except BrokenPipeError:
        raise  # the command line knows what to do when nobody reads stdout
    except (RigError, TrafficError, ControlError, OSError) as error:
        return _fail(error, 1)
    finally:
        interrupts.release()
    return 0


def parse(argv: Sequence[str]) -> Options:
    """Read the flags. Raises ConfigError, goflags.HelpWanted."""
    return Options(**goflags.defaults(FLAGS) | goflags.from_argv(FLAGS, argv))


def usage() -> str:
    """What `flannelette demo --help` prints."""
    return (
        "Usage: flannelette demo [flags]\n\n"
        "Builds a cluster of network namespaces on this machine, shows that its pods\n"
        "reach each other, and removes it.\n" + goflags.usage({"Flags": FLAGS})
    )


def _demo(options: Options, screen: Screen, own: bool) -> None:
    screen.title(
        f"flannelette demo: {options.hosts} hosts, {options.store} store,"
        f" {options.datapath} path, {options.driver} driver"
    )
    with ExitStack() as stack:
        directory = stack.enter_context(interrupts.directory())
        with screen.step(f"building {options.hosts} hosts and their wire"):
            rig = stack.enter_context(Rig(options.hosts))
        cluster = Cluster(
            rig, directory, options.store, options.datapath, options.driver
        )
        pods = _start(cluster, rig, screen)
        _show_traffic(cluster, pods, FILE_BYTES[options.datapath], directory, screen)
        _show_counters(cluster, screen)
        screen.say()
        if options.keep:
            _keep(cluster, rig, pods, screen, own)
        with screen.step("taking it all down"):
            stack.close()


def _start(cluster: Cluster, rig: Rig, screen: Screen) -> dict[int, Pod]:
    """Everything up to pods that could reach each other; the pods, by host."""
    with screen.step("putting the network configuration into the store"):
        cluster.start_store(time.monotonic() + START_SECONDS)
    with screen.step("starting a daemon on every host"):
        cluster.start()
    with screen.step("waiting until every host knows all others"):
        statuses = cluster.wait_connected(time.monotonic() + START_SECONDS)
    with screen.step("putting up a pod on every host"):
        pods = {
            number: rig.pod(number, status["lease"]["subnet"], status["node"]["mtu"])
            for number, status in statuses.items()
        }
    screen.table(
        ["HOST", "ADDRESS", "SUBNET", "POD", "MTU"],
        [
            [
                f"h{number}",
                str(rig.address(number)),
                status["lease"]["subnet"],
                str(pods[number].address),
                str(status["node"]["mtu"]),
            ]
            for number, status in statuses.items()
        ],
    )
    screen.say()
    return pods


def _show_traffic(
    cluster: Cluster, pods: dict[int, Pod], size: int, directory: Path, screen: Screen
) -> None:
    pairs = list(itertools.combinations(pods, 2))
    mebibytes = max(1, (size >> 20) // len(pairs))
    file = directory / "random"
    file.write_bytes(os.urandom(mebibytes << 20))
    deadline = time.monotonic() + TRAFFIC_SECONDS
    with screen.step(f"pings, then {mebibytes} MiB of random bytes, from pod to pod"):
        try:
            passages = {
                (one, two): _pass(pods[one], pods[two], file, deadline)
                for one, two in pairs
            }
        except (TrafficError, OSError):
            cluster.check()  # a dead daemon explains more than an unanswered ping
            raise
    screen.table(
        ["PODS", "RTT MIN / MEAN / MAX (MS)", "TCP", "SHA-256"],
        [
            [f"p{one} -> p{two}", _delay(passage.delay), *_transfer(passage.transfer)]
            for (one, two), passage in passages.items()
        ],
    )


def _pass(source: Pod, target: Pod, file: Path, deadline: float) -> Passage:
    delay = ping(source, target.address, ECHOES, deadline)
    return Passage(delay, send_file(source, target, file, deadline))


def _delay(delay: Delay) -> str:
    return " / ".join(f"{t * 1e3:.3f}" for t in (delay.min, delay.mean, delay.max))


def _transfer(transfer: Transfer) -> list[str]:
    rate = f"{transfer.bits_per_second / 1e9:.2f} Gbit/s"
    return [rate, f"same ({transfer.sha256[:8]})"]


def _show_counters(cluster: Cluster, screen: Screen) -> None:
    rows = []
    for number, status in cluster.statuses().items():
        tx, rx = status["counters"]["tx"], status["counters"]["rx"]
        drops = [
            f"{direction} {reason} {count}"
            for direction, counters in (("tx", tx), ("rx", rx))
            for reason, count in counters["drops"].items()
            if count
        ]
        packets = [f"{counters['packets']:,}" for counters in (tx, rx)]
        rows.append([f"h{number}", *packets, ", ".join(drops) or "none"])
    screen.table(["HOST", "TX PACKETS", "RX PACKETS", "DROPS"], rows)


def _keep(
    cluster: Cluster, rig: Rig, pods: dict[int, Pod], screen: Screen, own: bool
) -> None:
    """Say what to try and stay until Ctrl-C. Raises ProgramDied."""
    one, two = itertools.islice(pods.values(), 2)
    pod = f"ip netns exec {one.ns}"
    host = f"ip netns exec {rig.host(1)}"
    tun = cluster.statuses()[1]["node"]["device"]
    lines = [
        f"{pod} ping {two.address}",
        f"ip netns exec {two.ns} iperf3 --server --daemon",
        f"{pod} iperf3 --client {two.address}",
        f"{host} tcpdump -ni eth0 udp port 8285   # if you have it: on the wire",
        f"{host} tcpdump -ni {tun}   # and inside",
        f"flannelette status --operator-socket={cluster.daemons[1].socket}",
    ]
    if own:
        shell = "nsenter --preserve-credentials --user --mount --net --target"
        lines.insert(0, f"{shell} {os.getpid()}")
    user = "the same user" if own else "root"
    with suppress(KeyboardInterrupt):  # from here on it is what we have asked for
        screen.title(
            f"It stays up until you press Ctrl-C. In another terminal, as {user}:"
        )
        screen.say("".join(f"  {line}\n" for line in lines))
        while True:
            cluster.check()
            time.sleep(KEEP_POLL)
    screen.say()


def _fail(error: Exception, code: int) -> int:
    """One line on stderr, for whoever ran it; the exit code."""
    print(f"flannelette demo: {one_line(error)}", file=sys.stderr)
    return code


def _hosts(text: str) -> int:
    hosts = goflags.integer(text)
    if not 2 <= hosts <= MAX_HOSTS:
        raise ValueError(f"2 to {MAX_HOSTS} hosts are possible")
    return hosts


FLAGS = (
    Flag("hosts", _hosts, f"`NUMBER` of hosts, 2 to {MAX_HOSTS}", "2"),
    Flag(
        "store",
        goflags.one_of(*get_args(StoreKind)),
        "`KIND` of store: local (a file), etcd (its own) or static",
        "local",
    ),
    Flag(
        "datapath",
        goflags.one_of("native", "python"),
        "`KIND` of path: native (C) or python",
        "native",
    ),
    Flag(
        "driver",
        goflags.one_of(*DRIVERS),
        "`KIND` of driver: thread, threads or loop",
        "thread",
    ),
    Flag(
        "keep",
        goflags.boolean,
        "leave it up until Ctrl-C; says what to try",
        "false",
    ),
)
