"""Changes of routes that the carrier has not been told of yet. Pure.

Whatever a change is about, the native path builds a table of all routes for it: at ten
thousand routes a millisecond. So changes that come close together are one, and when
many leases end at once it takes no longer than when one does.
"""

from __future__ import annotations

from collections.abc import Iterable

from flannelette.control.backends.backend import Routes, Subnet
from flannelette.control.table import Change, DelRoute, SetRoute


class Pending:
    """What becomes of changes one after the other: of each subnet the last."""

    def __init__(self) -> None:
        self._removed: dict[Subnet, None] = {}  # in order, and each once
        self._added: Routes = {}

    def add(self, changes: Iterable[Change]) -> None:
        """Routes only: a lease that is ignored is none."""
        for change in changes:
            match change:
                case SetRoute(subnet, route):
                    self._removed.pop(subnet, None)
                    self._added[subnet] = route
                case DelRoute(subnet):
                    self._added.pop(subnet, None)
                    self._removed[subnet] = None

    def take(self) -> tuple[list[Subnet], Routes]:
        """What is to be removed, and then added; both begin anew."""
        removed, added = list(self._removed), self._added
        self._removed, self._added = {}, {}
        return removed, added
