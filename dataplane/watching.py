"""What an observer is told of all queues, over TUNs that come and go."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from flannelette.dataplane.path import Path
from flannelette.native.api import Direction, Watch


class Told(NamedTuple):
    """What an observer was told of one queue and direction."""

    queue: int
    direction: Direction
    records: bytes
    """Whole ones (EVENT)."""
    lost: int
    """Events that found no room since the beginning, over all TUNs."""


class Watching:
    """One observer at a time, of the paths of all queues in their order."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._unread: list[Told] = []
        self._lost: Counter[tuple[int, Direction]] = Counter()

    def begin(self, watch: Watch, paths: Sequence[Path]) -> None:
        """Raises OSError, and then nobody watches any more than before: EBUSY when
        somebody does, and what a path raises."""
        if self._watch is not None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        watch = watch._replace(epoch=time.time_ns() - time.monotonic_ns())
        with ExitStack() as undo:
            for path in paths:
                path.watch(watch)
                undo.callback(path.unwatch)
            undo.pop_all()
        self._watch, self._unread, self._lost = watch, [], Counter()

    def end(self, paths: Sequence[Path]) -> None:
        self._watch = None
        for path in paths:
            path.unwatch()

    def path_begins(self, path: Path) -> None:
        """A new one, before it forwards. Raises OSError."""
        if self._watch is not None:
            path.watch(self._watch)

    def path_ends(self, queue: int, path: Path) -> None:
        """It forwards no more: what it told, and nobody has read yet, is kept."""
        if self._watch is None:
            return
        for direction in Direction:
            while (told := self._told(queue, direction, path)).records:
                self._unread.append(told)
            self._lost[queue, direction] = told.lost

    def _told(self, queue: int, direction: Direction, path: Path) -> Told:
        records, lost = path.watched(direction)
        return Told(queue, direction, records, self._lost[queue, direction] + lost)

    def told(self, paths: Sequence[Path]) -> Iterator[Told]:
        """Since it was last asked for: of each queue and direction at most 1 MiB, and
        what paths that have ended left."""
        unread, self._unread = self._unread, []
        yield from unread
        for queue, path in enumerate(paths):
            for direction in Direction:
                yield self._told(queue, direction, path)
