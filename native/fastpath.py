"""FastPath: the C side as an object. The only module that talks to it.

api.h holds the contract; here are only its translation and the one place where -errno
becomes OSError.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flannelette.native._fastpath import ffi, lib
from flannelette.native.api import (
    Burst,
    Counters,
    Direction,
    Frame,
    Offload,
    PathConfig,
    Route,
    Vnet,
)

if TYPE_CHECKING:  # these names are in the stub only
    from flannelette.native._fastpath import Handle


def _check(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


class FastPath:
    """Forwards in C, in batches. Threads: as api.h says."""

    def __init__(self, config: PathConfig) -> None:
        """Raises OSError: EINVAL for a setting out of range, ENOMEM."""
        handle = ffi.new("struct fp **")
        _check(
            lib.fp_new(
                ffi.new(
                    "struct fp_config *",
                    {
                        "tun_fd": config.tun_fd,
                        "udp_fd": config.udp_fd,
                        "stop_fd": config.stop_fd,
                        "mtu": config.mtu,
                        "address": config.address,
                        "batch": config.batch,
                        "offloads": config.offloads,
                        "ipv6": config.mtu6 > 0,
                    },
                ),
                handle,
            )
        )
        self._handle: Handle | None = handle[0]

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
        """Insert or replace routes, all of one IP version at once. Raises OSError."""
        self._change(lib.fp_set_route, lib.fp_set_route6, routes)

    def del_routes(self, routes: Sequence[Route]) -> None:
        """Remove routes by prefix and length. Raises OSError."""
        self._change(lib.fp_del_route, lib.fp_del_route6, routes)

    def _change(self, change4: Any, change6: Any, routes: Sequence[Route]) -> None:
        ipv4 = [route[:4] for route in routes if route.version == 4]
        ipv6 = [
            (route.prefix >> 64, route.prefix & (1 << 64) - 1, *route[1:4])
            for route in routes
            if route.version == 6
        ]
        if ipv4:
            _check(change4(self._fp, ffi.new("struct fp_route[]", ipv4), len(ipv4)))
        if ipv6:
            _check(change6(self._fp, ffi.new("struct fp_route6[]", ipv6), len(ipv6)))

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
                ffi.cast("struct fp_peer *", ffi.from_buffer("uint32_t[]", peers)),
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
        return Counters(
            packets=counters.packets,
            bytes=counters.bytes,
            answers=counters.answers,
            answers_limited=counters.answers_limited,
            drops=tuple(counters.drops),
        )

    def offloads(self) -> Offload:
        """Those in use: the kernel may have refused some. Any thread."""
        return Offload(lib.fp_offloads(self._fp))

    def wrap(
        self, frames: Sequence[bytes], now: int
    ) -> tuple[list[Burst], list[bytes]]:
        """wrap_frames for plain packets."""
        bursts, answers = self.wrap_frames([Frame(data) for data in frames], now)
        return bursts, [answer.data for answer in answers]

    def unwrap(self, bursts: Sequence[Burst]) -> list[bytes]:
        """unwrap_frames where nothing is merged."""
        return [frame.data for frame in self.unwrap_frames(bursts)]

    def wrap_frames(
        self, frames: Sequence[Frame], now: int
    ) -> tuple[list[Burst], list[Frame]]:
        """tx without system calls: bursts to the wire, frames to the TUN.

        `now` is nanoseconds of a clock that never goes back. For tests and fuzzers."""
        data = bytearray(b"".join(frame.data for frame in frames))
        base = ffi.from_buffer("uint8_t[]", data)
        array = ffi.new("struct fp_frame[]", max(len(frames), 1))
        offset = 0
        for item, frame in zip(array, frames, strict=False):
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

    def unwrap_frames(self, bursts: Sequence[Burst]) -> list[Frame]:
        """rx without system calls: frames to the TUN."""
        data = bytearray(b"".join(burst.data for burst in bursts))
        base = ffi.from_buffer("uint8_t[]", data)
        array = ffi.new("struct fp_burst[]", max(len(bursts), 1))
        offset = packets = 0
        for item, burst in zip(array, bursts, strict=False):
            item.data, item.length = base + offset, len(burst.data)
            item.segment = burst.segment
            item.address, item.port = burst.address, burst.port
            offset += len(burst.data)
            packets += max(1, -(-len(burst.data) // max(burst.segment, 1)))
        out = _Output(max(packets, 1))
        _check(lib.fp_unwrap(self._fp, array, len(bursts), out.pointer))
        return out.frames()


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
            Burst(bytes(ffi.buffer(b.data, b.length)), b.segment, b.address, b.port)
            for b in self.pointer.bursts[0 : self.pointer.burst_count]
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
