"""What forwards packets: one protocol, two twins.

FastPath (native/fastpath.py) does it in C, in batches; PurePath (dataplane/purepath.py)
in Python, one packet a call. PurePath is the specification: tests demand equal output
and equal counters. Which one runs is the operator's word; there is no fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from flannelette.native.api import (
    Burst,
    Counters,
    Direction,
    Offload,
    PathConfig,
    PeerCounters,
    Route,
    Watch,
)


class Path(Protocol):
    """Threads: one caller for each direction, one for the routes, at the same time;
    stop() and counters() from anywhere."""

    def close(self) -> None:
        """Free what the path holds; not the descriptors, which are borrowed."""

    def set_routes(self, routes: Sequence[Route]) -> None:
        """Insert or replace routes, all at once; of equal prefixes the last wins."""

    def del_routes(self, routes: Sequence[Route]) -> None:
        """Remove routes by prefix and length; unknown ones are no error."""

    def pump(self, direction: Direction, budget: int) -> int:
        """Move up to budget packets now, of each socket that receives as many; how
        many were read.

        Raises OSError when a descriptor is dead: EBADFD if the device is gone."""

    def run(self, *directions: Direction) -> None:
        """Pump these, whichever has something to move, until stop(); blocks.

        Raises OSError as pump does."""

    def stop(self) -> None:
        """Make every run() return soon."""

    def offloads(self) -> Offload:
        """Those in use: the kernel may have refused some since."""

    def peers(self) -> list[PeerCounters]:
        """Of the peers that routes lead to. Called where routes are set."""

    def counters(self, direction: Direction) -> Counters:
        """What the direction has done so far."""

    def watch(self, watch: Watch) -> None:
        """Begin to tell what happens to packets. Raises OSError: EINVAL for a filter
        that cannot be run, EBUSY when there is an observer, ENOTSUP of PurePath."""

    def unwatch(self) -> None:
        """Tell no more."""

    def watched(self, direction: Direction) -> tuple[bytes, int]:
        """Records (api.EVENT) of what was told since, and how many were lost since
        watch(). Raises OSError: EINVAL without watch()."""

    def wrap(
        self, frames: Sequence[bytes], now: int
    ) -> tuple[list[Burst], list[bytes]]:
        """tx without system calls: bursts to the wire, frames (ICMP) to the TUN.

        `now` is nanoseconds of a clock that never goes back."""

    def unwrap(self, bursts: Sequence[Burst], now: int = 0) -> list[bytes]:
        """rx without system calls: frames to the TUN. `now` is of the clock that says
        when a peer was last seen."""


def open_path(datapath: str, config: PathConfig) -> Path:
    """The path of that name, `native` or `python`. Raises OSError."""
    return load(datapath)(config)


def load(datapath: str) -> Callable[[PathConfig], Path]:
    """Import what opens it, which takes a while the first time."""
    if datapath == "native":
        from flannelette.native.fastpath import FastPath

        return FastPath
    from flannelette.dataplane.purepath import PurePath

    return PurePath
