"""The rungs of the lab's ladder: what each is, and what it can do at best.

Theory is calculated here, from the mechanisms' own limits and the MTU, for one flow of
TCP with full packets. It is what a call can move at best; what it does move depends on
how much is there when the daemon wakes, which is why it is counted (labcounts.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from flannelette.benchmarks.contenders import BY_NAME, Contender
from flannelette.benchmarks.labdocument import (
    KERNEL_PLACES,
    PLACES,
    PlaceName,
    Theory,
)
from flannelette.benchmarks.measures import TCP_HEADERS

HEADERS = TCP_HEADERS[4]
VIRTIO_HEADER = 10
"""Bytes before each frame where the TUN offloads (VIRTIO 1.2 section 5.1.6)."""
BATCH = 64
"""What one call moves, unless --batch says otherwise."""
MOST_UDP_PAYLOAD = 65507
"""Bytes of a message over IPv4."""
SUPERPACKET = 65535 - 320
"""Bytes of payload that Linux's TCP puts into one (gso_max_size, less its room for
headers)."""
SUPERPACKETS = 2
"""That are cut and sent together (native/src/fastpath.c: TX_ARENA)."""
BURSTS = 16
"""That are received together when they are large (native/src/pump.c: NARROW)."""
IPERF_BLOCK = 128 << 10
"""Bytes that iperf3 gives to the kernel, or takes from it, by one call."""


@dataclass(frozen=True, slots=True)
class RungKind:
    """One of the ladder, before anything is measured. `gain` is two sentences."""

    name: str
    title: str
    switched: str
    gain: str
    batched: bool = False
    gso: bool = False
    tun: bool = False
    """What it has of the mechanisms."""

    @property
    def contender(self) -> Contender:
        return BY_NAME[self.name]

    @property
    def places(self) -> tuple[PlaceName, ...]:
        """Where a packet crosses between kernel and userspace."""
        return KERNEL_PLACES if self.contender.flags is None else PLACES

    @property
    def has_timers(self) -> bool:
        """Can it take the time of its stages? PurePath cannot."""
        return self.contender.flags is not None and self.name != "python"


RUNGS = (
    RungKind(
        "none",
        "no overlay",
        "",
        "The pods' packets are routed over the wire by the kernel alone, uncut where "
        "the wire can segment. The only copies are the two that every application "
        "pays for: into the kernel, and out of it.",
    ),
    RungKind(
        "vxlan",
        "kernel VXLAN",
        "the kernel wraps each packet",
        "A tunnel costs its headers, a second way through the network stack, and "
        "whatever the wire cannot offload of it. But nothing is copied to userspace: "
        "this is the mark for every daemon.",
    ),
    RungKind(
        "python",
        "Python, one packet a call",
        "a daemon in userspace forwards, in Python",
        "Each packet now crosses between kernel and userspace four times more, twice "
        "on either host, each time by a system call that copies this one packet. "
        "Between the calls an interpreter takes its steps, and those cost more than "
        "all the copies.",
    ),
    RungKind(
        "c",
        "C, one packet a call",
        "the same steps in C",
        "The interpreter's time is gone, and nearly all that is left is the kernel's: "
        "its calls, its stack, its copies. It is still one packet a call, which is "
        "the way of flanneld's udp backend.",
    ),
    RungKind(
        "batched",
        "+ many packets a call",
        "sendmmsg and recvmmsg move up to 64 packets",
        "The socket's system calls are shared by the packets that are there together. "
        "That saves the entry to the kernel, but inside it each packet still goes its "
        "own way through the stack, and a TUN has no such call.",
        batched=True,
    ),
    RungKind(
        "gso",
        "+ UDP GSO and GRO",
        "up to 44 packets are one message",
        "The kernel takes many packets as one message and carries them through its "
        "stack as one (UDP_SEGMENT), and the other host hands them over as one (GRO). "
        "As many bytes are copied as before; what is left packet by packet is the TUN.",
        batched=True,
        gso=True,
    ),
    RungKind(
        "tun",
        "+ TUN offloads",
        "superpackets pass the TUN uncut",
        "The TUN hands over what TCP has not cut yet, dozens of packets by one read, "
        "and takes merged ones back by one write. Nothing passes a border packet by "
        "packet any more: what is left grows with the bytes, above all their copies.",
        batched=True,
        gso=True,
        tun=True,
    ),
    RungKind(
        "thread",
        "+ a thread in C",
        "one thread in C waits and forwards, both directions",
        "No wake-up goes through Python and its event loop any more, and control work "
        "cannot stand in a packet's way. Where each wake-up moves many packets that "
        "is little of the whole; it is more of a lone packet's delay.",
        batched=True,
        gso=True,
        tun=True,
    ),
    RungKind(
        "threads",
        "+ a thread for each direction",
        "tx and rx have a thread each",
        "Two directions can use two cores, if two are free. Where applications and "
        "both hosts share few cores it gains little or loses: there are more threads "
        "to wake, and data goes from one core's cache to another's.",
        batched=True,
        gso=True,
        tun=True,
    ),
)
BY_RUNG = {rung.name: rung for rung in RUNGS}


def theory(rung: RungKind, place: PlaceName, mtu: int) -> Theory:
    """Per full packet of that MTU, on its way there."""
    payload = mtu - HEADERS
    if place in ("app_send", "app_receive"):
        calls = payload / IPERF_BLOCK
        return Theory(payload, calls, calls)
    if place in ("tun_read", "tun_write"):
        if not rung.tun:
            return Theory(mtu, 1, 1)
        packets = SUPERPACKET // payload
        size = VIRTIO_HEADER + HEADERS + packets * payload
        return Theory(size / packets, 1 / packets, 1 / packets)
    burst = MOST_UDP_PAYLOAD // mtu
    units = 1 / burst if rung.gso else 1.0
    return Theory(mtu, _wire_calls(rung, place, payload, burst), units)


def _wire_calls(rung: RungKind, place: PlaceName, payload: int, burst: int) -> float:
    if not rung.batched:
        return 1.0
    if place == "wire_receive":
        return 1 / (BURSTS * burst if rung.gso else BATCH)
    return 1 / (SUPERPACKETS * (SUPERPACKET // payload) if rung.tun else BATCH)
