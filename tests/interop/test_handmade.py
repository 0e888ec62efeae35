"""Our node and the kernel's VXLAN, programmed by hand: no flannel on the other side."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment

from flannelette.encap import ip, l4
from tests.helpers.datagrams import check_segmented_udp, check_udp
from tests.helpers.direct import until_direct
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.overlays import (
    BOTH,
    DATA,
    check_all,
    check_gigabyte,
    check_none_dropped,
    check_some,
    switch_tx_off,
)
from tests.helpers.taps import Datagram, Tap, tap_on
from tests.helpers.tcp import send_file
from tests.interop import dissect
from tests.interop.handmade import SUBNETS, Handmade, mac_of

pytestmark = needs_namespaces

VXLAN_PORT = 8472
HEADERS = 22
"""Of VXLAN and the inner Ethernet."""
WIRE_MTU = 1500
ANOTHER_MAC = "02:00:00:00:0a:02"


@contextmanager
def beside_kernel(
    directory: Path,
    options: str = "",
    dual: bool = True,
    ours: Sequence[str] = (),
    **backend: Any,
) -> Iterator[tuple[Lab, Handmade]]:
    """Ours on host 1, the kernel's devices on host 2; a pod on each. `options` are the
    device's, `ours` are flags of our daemon."""
    config = {"Type": "vxlan", **backend}
    with lab(directory, store="static", ipv6=dual, backend=config) as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        vni, port = backend.get("VNI", 1), backend.get("Port", VXLAN_PORT)
        kernel = Handmade(it.rig, 2, 1, mac_of(2), vni, port, options, dual)
        kernel.make(mac_of(1))
        kernel.add_pod(it)
        it.cluster.start_daemon(1, *ours)
        until(lambda: it.is_ready(1))
        it.add_pod(1)
        it.until_reaches(1, 2)
        yield it, kernel


def packets_received(it: Lab) -> int:
    count: int = it.status(1)["counters"]["rx"]["packets"]
    return count


def from_kernel(it: Lab, tap: Tap) -> list[Datagram]:
    peers = (it.rig.address(2), it.rig.address6(2))
    return [d for d in tap.datagrams(VXLAN_PORT) if d.source in peers]


def is_unfinished(datagram: Datagram) -> bool:
    """Is the TCP or UDP checksum of the packet inside partial?"""
    packet = datagram.payload[HEADERS:]
    header = ip.parse(packet, ipv6=True)
    return l4.is_partial(packet, header) and not l4.is_sound(packet, header)


@pytest.mark.parametrize("tx", ["on", "off"])
def test_all_of_it_both_ways(tmp_path: Path, tx: str) -> None:
    """With `tx` on, the kernel cuts nothing and finishes no checksum for a veth."""
    with beside_kernel(tmp_path) as (it, _):
        if tx == "off":
            switch_tx_off(it)
        check_all(it, 1, 2)
        check_none_dropped(it, 1)
        for version in BOTH:
            before = packets_received(it)
            with tap_on(it, 1) as tap:
                assert send_file(it, 2, 1, DATA, version) == DATA
                seen = from_kernel(it, tap)
            until(lambda b=before, s=seen: packets_received(it) >= b + len(s))  # type: ignore[misc]
            received = packets_received(it) - before
            longest = max(len(datagram.payload) for datagram in seen)
            unfinished = sum(map(is_unfinished, seen))
            if tx == "on":
                assert longest > 10 * WIRE_MTU
                assert received > 2 * len(seen)
                assert unfinished > len(seen) // 2
            else:
                assert longest <= WIRE_MTU - 28
                # The end of the connection may come after the tap's last look.
                assert received < len(seen) + 10
                assert unfinished == 0
        check_none_dropped(it, 1)


@pytest.mark.parametrize(
    "flags",
    [
        ["--offload=none"],
        ["--offload=tso,uso", "--driver=loop"],
        ["--offload=gso,gro", "--driver=threads", "--queues=2"],
        ["--datapath=python", "--driver=loop"],
    ],
    ids=" ".join,
)
def test_superpackets_come_unasked(tmp_path: Path, flags: list[str]) -> None:
    """The kernel does not ask what our sockets and our TUN can do."""
    with beside_kernel(tmp_path, ours=flags) as (it, _), tap_on(it, 1) as tap:
        check_some(it, 1, 2)
        for version in BOTH:
            check_segmented_udp(it, 2, 1, 100, 1000, version=version)
        seen = from_kernel(it, tap)
        longest = max(len(datagram.payload) for datagram in seen)
        assert longest > 10 * WIRE_MTU
        check_none_dropped(it, 1)


def test_a_gigabyte_each_way(tmp_path: Path) -> None:
    with beside_kernel(tmp_path) as (it, _):
        check_gigabyte(it, 1, 2)
        check_none_dropped(it, 1)


# ---- on the wire ---------------------------------------------------------------------


def tunnel(it: Lab, version: int, port: int, vni: int) -> dissect.Tunnel:
    """From ours to the kernel's."""
    address = it.rig.address if version == 4 else it.rig.address6
    source, target = str(address(1)), str(address(2))
    return dissect.Tunnel(source, target, port, vni, mac_of(1), mac_of(2))


@pytest.mark.parametrize(("port", "vni"), [(8472, 1), (4789, 0xABC)])
def test_every_field_of_what_we_send_is_right(
    tmp_path: Path, port: int, vni: int
) -> None:
    """Before a wire that makes no checksum and cuts nothing: all is to be seen."""
    with beside_kernel(tmp_path, Port=port, VNI=vni) as (it, _):
        switch_tx_off(it)
        kinds = set()
        for version in BOTH:
            it.until_reaches(1, 2, version=version)
            with tap_on(it, 1) as tap:
                it.reach(1, 2, count=3, version=version)
                it.reach(2, 1, count=3, version=version)
                assert send_file(it, 1, 2, DATA[:300_000], version) == DATA[:300_000]
                sizes = [0, 1, 2, 1000, 1382, 1402, 1403, 5000]
                check_udp(it, 1, 2, *sizes, version=version)
                ours = (it.rig.address(1), it.rig.address6(1))
                sent = [d for d in tap.datagrams(port) if d.source in ours]
            assert len(sent) > 200
            for datagram in sent:
                assert (datagram.partial, datagram.segment) == (False, 0)
                packet = dissect.check(datagram.frame, tunnel(it, version, port, vni))
                assert packet.src == it.address(1, version)
                kinds |= set(packet.layers())
        assert kinds >= {IP, IPv6, ICMP, ICMPv6EchoRequest, TCP, UDP}
        assert IPv6ExtHdrFragment in kinds


def test_source_ports_follow_the_inner_flow(tmp_path: Path) -> None:
    """So that switches and NICs spread flows, and keep the order in each (W2)."""
    with beside_kernel(tmp_path) as (it, _):
        for version in BOTH:
            ports: dict[int, list[int]] = {flow: [] for flow in range(4000, 4032)}

            def look(tap: Tap, ports: dict[int, list[int]] = ports) -> bool:
                for flow, port in inner_flows(tap):
                    ports[flow].append(port)
                return all(len(those) == 3 for those in ports.values())

            with tap_on(it, 1) as tap:
                for flow in [*ports] * 3:
                    send_from(it, flow, version)
                until(partial(look, tap))
            assert all(len(set(those)) == 1 for those in ports.values())
            used = {those[0] for those in ports.values()}
            assert 4 <= len(used) <= 8
            assert VXLAN_PORT not in used


def inner_flows(tap: Tap) -> Iterator[tuple[int, int]]:
    """Source ports of the UDP inside, each with that of the datagram around it."""
    for datagram in tap.datagrams(VXLAN_PORT):
        for payload in datagram.cut():
            packet = payload[HEADERS:]
            header = ip.parse(packet, ipv6=True)
            if header.protocol == l4.UDP:
                (port,) = struct.unpack_from("!H", packet, header.length)
                yield port, datagram.source_port


def send_from(it: Lab, port: int, version: int) -> None:
    """One datagram from pod 1 to pod 2."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with it.socket_in(it.pods[1].ns, family=family) as sender:
        sender.bind((it.address(1, version), port))
        sender.sendto(b"flow", (it.address(2, version), 9))


def test_zero_outer_checksums_are_accepted_over_ipv4(tmp_path: Path) -> None:
    """W2; and another port and VNI, in a cluster without IPv6."""
    backend: dict[str, Any] = {"Port": 4789, "VNI": 4096}
    with (
        beside_kernel(tmp_path, "noudpcsum", dual=False, **backend) as (it, _),
        tap_on(it, 1) as tap,
    ):
        check_all(it, 1, 2, versions=[4])
        seen = [d for d in tap.datagrams(4789) if d.source == it.rig.address(2)]
        assert len(seen) > 1000
        assert {datagram.checksum for datagram in seen} == {0}
        check_none_dropped(it, 1)


# ---- changes -------------------------------------------------------------------------


def test_restarts_and_new_macs_of_either_side(tmp_path: Path) -> None:
    """V15; a static store is told of it by SIGHUP."""
    with beside_kernel(tmp_path) as (it, kernel):
        it.rig.stop(it.cluster.daemons[1].process)
        assert not it.reaches(2, 1)
        it.cluster.start_daemon(1)
        check_some(it, 1, 2)

        kernel.remove()
        assert not it.reaches(1, 2)
        kernel.make(mac_of(1))
        check_some(it, 1, 2)

        kernel.remove()
        kernel.with_mac(ANOTHER_MAC).make(mac_of(1))
        assert not it.reaches(1, 2), "frames for the old MAC are nobody's"
        tell_mac(it, mac_of(2), ANOTHER_MAC)
        it.cluster.daemons[1].process.send_signal(signal.SIGHUP)
        check_some(it, 1, 2)

        tell_mac(it, mac_of(1), "02:00:00:00:0a:01")
        it.rig.stop(it.cluster.daemons[1].process)
        it.cluster.start_daemon(1)
        until(lambda: it.is_ready(1))
        assert not it.reaches(2, 1)
        until(lambda: it.drops(1, "rx").keys() == {"wrong_mac"})
        kernel.learn("02:00:00:00:0a:01")
        check_some(it, 1, 2)


def tell_mac(it: Lab, old: str, new: str) -> None:
    """Change it in the static store's file."""
    file = it.directory / "peers.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_direct_routing(tmp_path: Path) -> None:
    """V11, W14: packets cross the wire as they are, both ways."""
    with beside_kernel(tmp_path, DirectRouting=True) as (it, kernel):
        until_direct(it, 1)
        with tap_on(it, 1) as tap:
            it.reach(1, 2, count=3)  # the kernel's answers come in VXLAN
            sources = {datagram.source for datagram in tap.datagrams(VXLAN_PORT)}
            assert sources == {it.rig.address(2)}
        subnet, gateway = SUBNETS[1], it.rig.address(1)
        it.rig.ip(it.rig.host(2), f"route replace {subnet} via {gateway} dev eth0")
        with tap_on(it, 1) as tap:
            check_all(it, 1, 2, versions=[4])
            assert list(tap.datagrams(VXLAN_PORT)) == []
        kernel.remove()
        check_some(it, 1, 2, versions=[4])
