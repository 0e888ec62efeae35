"""uvloop for tests that look at open files: libuv keeps a pipe for the process's life,
which must be there before the first look."""

from __future__ import annotations

from uvloop import Loop, new_event_loop

__all__ = ["Loop", "new_event_loop"]

new_event_loop().close()
