"""FastPath: the C side as an object. The only module that talks to it.

api.h holds the contract; here are only its translation and the one place where -errno
becomes OSError.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from flannelette.native._fastpath import ffi, lib
from flannelette.native.api import (
    MAX_FLOWS,
    Burst,
    Counters,
    Direction,
    Frame,
    Offload,
    PathConfig,
    PeerCounters,
    Route,
    Vnet,
    Vxlan,
    Watch,
)

if TYPE_CHECKING:  # these names are in the stub only
    from flannelette.native._fastpath import Handle, Pointer

TOLD_AT_ONCE = 1 << 20
"""Bytes of events that watched() takes from a direction at most."""


_COUNTERS = tuple(field.name for field in fields(Counters))


def _check(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


class FastPath:
    """Forwards in C, in batches. Threads: as api.h says."""

    def __init__(self, config: PathConfig) -> None:
        """Raises OSError: EINVAL for a setting out of range, ENOMEM."""
        handle = ffi.new("struct fp **")
        _check(lib.fp_new(ffi.new("struct fp_config *", _config(config)), handle))
        self._handle: Handle | None = handle[0]
        self._told: Pointer | None = None
        self.replies: list[Burst] = []
        """To probes among what was unwrapped last; the pumps send theirs."""
        self._headroom = bytes(lib.FP_HEADROOM if config.vxlan else 0)

    @property
    def _fp(self) -> Handle:
        if self._handle is None:
            raise OSError(errno.EBADF, "the path is closed")
        return self._handle

    def close(self) -> None:
        """Free everything. No other call may be under way."""
        if self._handle is not None:
            lib.fp_free(self._handle)
            self._handle = None

    def set_routes(self, routes: Sequence[Route]) -> None:
        """Insert or replace routes, all at once. Raises OSError."""
        array = ffi.new("struct fp_route[]", _routes(routes))
        _check(lib.fp_set_routes(self._fp, array, len(routes)))

    def del_routes(self, routes: Sequence[Route]) -> None:
        """Remove routes by prefix and length. Raises OSError."""
        array = ffi.new("struct fp_route[]", _routes(routes))
        _check(lib.fp_del_routes(self._fp, array, len(routes)))

    def find(self, addresses: array[int], peers: array[int]) -> int:
        """Look up IPv4 addresses; how many have a peer. Both arrays are of 32-bit
        numbers: `peers`, twice as long, gets each one's address and port, or 0, 0."""
        if addresses.itemsize != 4 or peers.itemsize != 4:
            raise TypeError("not arrays of 32-bit numbers")
        if len(peers) != 2 * len(addresses):
            raise ValueError("for each address, two numbers are found")
        return _check(
            lib.fp_find(
                self._fp,
                ffi.from_buffer("uint32_t[]", addresses),
                len(addresses),
                ffi.cast("struct fp_found *", ffi.from_buffer("uint32_t[]", peers)),
            )
        )

    def pump(self, direction: Direction, budget: int) -> int:
        """Move up to budget packets now; how many were read. Raises OSError."""
        return _check(lib.fp_pump(self._fp, direction, budget))

    def run(self, *directions: Direction) -> None:
        """Pump these until stop(); blocks, without the GIL. Raises OSError."""
        _check(lib.fp_run(self._fp, sum(1 << direction for direction in directions)))

    def stop(self) -> None:
        """Make every run() return soon. Any thread."""
        _check(lib.fp_stop(self._fp))

    def counters(self, direction: Direction) -> Counters:
        """Any thread."""
        counters = ffi.new("struct fp_counters *")
        lib.fp_read_counters(self._fp, direction, counters)
        read = {name: getattr(counters, name) for name in _COUNTERS}
        arrays = {name: tuple(read[name]) for name in ("drops", "stages")}
        return Counters(**read | arrays)

    def peers(self) -> list[PeerCounters]:
        """Of the peers that routes lead to. The routes' thread only."""
        room = _check(lib.fp_read_peers(self._fp, ffi.NULL, 0))
        array = ffi.new("struct fp_peer_counters[]", room)
        _check(lib.fp_read_peers(self._fp, array, room))
        return [
            PeerCounters(
                peer.high << 64 | peer.low,
                peer.version,
                peer.tx_packets,
                peer.tx_bytes,
                peer.rx_packets,
                peer.rx_bytes,
                peer.last_seen,
            )
            for peer in array
        ]

    def offloads(self) -> Offload:
        """Those in use: the kernel may have refused some. Any thread."""
        return Offload(lib.fp_offloads(self._fp))

    def watch(self, watch: Watch) -> None:
        """Begin to tell. Raises OSError: EINVAL for a filter that cannot be run, EBUSY
        when there is an observer already, ENOMEM."""
        program = ffi.new("struct fp_instruction[]", list(watch.filter))
        _, *rest = watch
        wish = ffi.new("struct fp_watch *", [program, len(watch.filter), *rest])
        _check(lib.fp_watch(self._fp, wish))
        self._told = ffi.new("uint8_t[]", TOLD_AT_ONCE)

    def unwatch(self) -> None:
        """Tell no more."""
        lib.fp_unwatch(self._fp)
        self._told = None

    def watched(
        self, direction: Direction, room: int = TOLD_AT_ONCE
    ) -> tuple[bytes, int]:
        """What was told since: at most `room` bytes of whole records (api.EVENT), and
        how many were lost since watch(). Raises OSError: EINVAL without watch()."""
        if self._told is None:
            raise OSError(errno.EINVAL, "nobody watches")
        lost = ffi.new("uint64_t *")
        room = min(room, TOLD_AT_ONCE)
        told = _check(lib.fp_watched(self._fp, direction, self._told, room, lost))
        return bytes(ffi.buffer(self._told, told)), lost[0]

    def wrap(
        self, frames: Sequence[bytes], now: int
    ) -> tuple[list[Burst], list[bytes]]:
        """wrap_frames for plain packets."""
        bursts, answers = self.wrap_frames([Frame(data) for data in frames], now)
        return bursts, [answer.data for answer in answers]

    def unwrap(self, bursts: Sequence[Burst], now: int = 0) -> list[bytes]:
        """unwrap_frames where nothing is merged."""
        return [frame.data for frame in self.unwrap_frames(bursts, now)]

    def wrap_frames(
        self, frames: Sequence[Frame], now: int
    ) -> tuple[list[Burst], list[Frame]]:
        """tx without system calls: bursts to the wire, frames to the TUN.

        `now` is nanoseconds of a clock that never goes back. For tests and fuzzers."""
        room = self._headroom
        data = bytearray(b"".join(room + frame.data for frame in frames))
        base = ffi.from_buffer("uint8_t[]", data)
        array = ffi.new("struct fp_frame[]", max(len(frames), 1))
        offset = 0
        for item, frame in zip(array, frames, strict=False):
            offset += len(room)
            item.data, item.length = base + offset, len(frame.data)
            item.vnet = tuple(frame.vnet)
            offset += len(frame.data)
        bursts: list[Burst] = []
        answers: list[Frame] = []
        out, done = _Output(max(len(frames), 1)), 0
        while done < len(frames):
            left = len(frames) - done
            done += _check(lib.fp_wrap(self._fp, array + done, left, now, out.pointer))
            bursts += out.bursts()
            answers += out.frames()
        return bursts, answers

    def unwrap_frames(self, bursts: Sequence[Burst], now: int = 0) -> list[Frame]:
        """rx without system calls: frames to the TUN, and `replies`. `now` as in
        wrap_frames."""
        self.replies = []
        data = bytearray(b"".join(burst.data for burst in bursts))
        base = ffi.from_buffer("uint8_t[]", data)
        array = ffi.new("struct fp_burst[]", max(len(bursts), 1))
        offset = packets = 0
        for item, burst in zip(array, bursts, strict=False):
            item.data, item.length = base + offset, len(burst.data)
            item.segment = burst.segment
            item.peer = _peer(burst.address, burst.outer, burst.port)
            offset += len(burst.data)
            packets += max(1, -(-len(burst.data) // max(burst.segment, 1)))
            if self._headroom and burst.segment >= len(burst.data):
                # Perhaps a superpacket of which nobody says where to cut it.
                packets += len(burst.data) // 4
        out, done = _Output(max(packets, 1)), 0
        frames: list[Frame] = []
        while done < len(bursts):
            left = len(bursts) - done
            made = lib.fp_unwrap(self._fp, array + done, left, now, out.pointer)
            done += _check(made)
            frames += out.frames()
            self.replies += out.bursts()
        return frames


def _config(config: PathConfig) -> dict[str, Any]:
    high6, low6 = _halves(config.address6)
    vxlan = config.vxlan or Vxlan(0, 0)
    return {
        "tun_fd": config.tun_fd,
        "udp_fd": config.udp_fd,
        "udp6_fd": config.udp6_fd,
        # Of too many, C refuses the number.
        "flow_fds": config.flow_fds[:MAX_FLOWS],
        "flow6_fds": config.flow6_fds[:MAX_FLOWS],
        "flows": len(config.flow_fds),
        "flows6": len(config.flow6_fds),
        "stop_fd": config.stop_fd,
        "mtu": config.mtu,
        "mtu6": config.mtu6,
        "address": config.address,
        "high6": high6,
        "low6": low6,
        "batch": config.batch,
        "offloads": config.offloads,
        "peer_check": config.peer_check,
        "vxlan": config.vxlan is not None,
        "vni": vxlan.vni,
        "mac": vxlan.mac,
        "time_stages": config.time_stages,
    }


def _routes(routes: Sequence[Route]) -> list[dict[str, Any]]:
    made = []
    for route in routes:
        high, low = _halves(route.prefix)
        peer = _peer(route.address, route.outer, route.port, route.mac)
        made.append(
            {
                "high": high,
                "low": low,
                "length": route.length,
                "version": route.version,
                "peer": peer,
            }
        )
    return made


def _peer(address: int, version: int, port: int, mac: int = 0) -> dict[str, int]:
    high, low = _halves(address)
    return {"high": high, "low": low, "mac": mac, "version": version, "port": port}


def _halves(address: int) -> tuple[int, int]:
    return address >> 64, address & (1 << 64) - 1


class _Output:
    """Room for what fp_wrap and fp_unwrap give."""

    ARENA = 1 << 17

    def __init__(self, capacity: int) -> None:
        arena = self.ARENA + capacity * lib.FP_MAX_ANSWER
        self._kept = (  # cffi frees what nobody in Python refers to
            ffi.new("struct fp_burst[]", capacity),
            ffi.new("struct fp_frame[]", capacity),
            ffi.new("uint8_t[]", arena),
        )
        self.pointer = ffi.new("struct fp_output *")
        self.pointer.bursts, self.pointer.frames, self.pointer.arena = self._kept
        self.pointer.capacity, self.pointer.arena_size = capacity, arena

    def bursts(self) -> list[Burst]:
        return [
            Burst(
                data=bytes(ffi.buffer(burst.data, burst.length)),
                segment=burst.segment,
                address=burst.peer.high << 64 | burst.peer.low,
                port=burst.peer.port,
                outer=burst.peer.version,
                flow=burst.flow,
            )
            for burst in self.pointer.bursts[0 : self.pointer.burst_count]
        ]

    def frames(self) -> list[Frame]:
        return [
            Frame(bytes(ffi.buffer(f.data, f.length)), _vnet(f.vnet))
            for f in self.pointer.frames[0 : self.pointer.frame_count]
        ]


def _vnet(vnet: Any) -> Vnet:
    return Vnet(
        vnet.flags,
        vnet.gso_type,
        vnet.header_length,
        vnet.segment,
        vnet.checksum_start,
        vnet.checksum_offset,
    )
