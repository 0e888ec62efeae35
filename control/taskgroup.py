"""Tasks that end together."""

from __future__ import annotations

import asyncio
from typing import Any


class TaskGroup(asyncio.TaskGroup):
    """One whose first error comes out as itself, not in a group, and still tells what
    it came of."""

    async def __aexit__(self, *args: Any) -> None:
        try:
            await super().__aexit__(*args)
        except BaseExceptionGroup as group:
            first = group.exceptions[0]
            context = first.__context__
            try:
                raise first from None
            finally:
                first.__context__ = context  # not the group
